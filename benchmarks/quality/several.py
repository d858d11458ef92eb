"""Several things in one picture, each trained apart: is each found once, in its place, with nothing mixed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perfusion_pack.demo.world.things import THINGS

from . import measures, reading
from .cache import finish
from .methods import METHODS
from .painting import load_latents, paint, save_latents
from .plan import METHODS as VARIANTS
from .plan import PERFUSION, Size, Variant
from .prompts import drawn, pair_prompts, pair_scene
from .single import Use, artefact, settings_of
from .workbench import Workbench

UNJOINED = replace(VARIANTS[1], label="perfusion local, single projections", method="perfusion, single projections")
COMPARED = (*VARIANTS, UNJOINED)


def measure(
    bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One row of shares for each method and number of things; knobs: the one at which each method is used."""
    groups = {2: list(combinations(size.pair_things, 2)), 3: list(combinations(size.pair_things, 3))[: size.triples]}
    rows, tasks = [], []
    for count, sets in groups.items():
        if not sets:
            continue
        rows.append({"method": "real pictures", "loaded": count, "knob": ""})
        tasks.append([partial(_real, bench, size, sets)])
        for variant in COMPARED:
            knob = knobs.get(variant.label, knobs.get(PERFUSION) if variant is UNJOINED else variant.knobs[0])
            settings = settings_of(variant, size, tuned)
            rows.append({"method": variant.label, "loaded": count, "knob": knob})
            tasks.append([partial(_judged, bench, size, variant, settings, knob, loaded) for loaded in sets])
    finish([task for of_row in tasks for task in of_row])  # all at once, for processes that share the work
    return [
        {**row, **_shares([judged for found in finish(of_row) for judged in found])}
        for row, of_row in zip(rows, tasks, strict=True)
    ]


def _shares(judged: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    shares = {name: float(np.mean([row[name] for row in judged])) for name in ("right", "swapped", "lost")}
    return {"pictures": len(judged), **shares}


def _judged(
    bench: Workbench, size: Size, variant: Variant, settings: Mapping[str, Any], knob: float, loaded: tuple[str, ...]
) -> list[dict[str, bool]]:
    """The judgements of every ordered pair of the loaded things, in every scene, with every seed."""
    method = METHODS[variant.method]
    uses = [Use(variant, settings, thing, 0, knob) for thing in loaded]
    texts = pair_prompts(size.pair_prompts)
    facts = {
        "trainings": [use.training_facts(bench) for use in uses], "applied as": [method.name, method.version],
        "knob": knob, "texts": texts, "seeds": size.pair_seeds, "steps": bench.sampling_steps, "cfg": bench.cfg,
    }  # fmt: skip
    pairs = list(permutations(range(len(loaded)), 2))

    def make(path: Path) -> None:
        learned = [artefact(bench, use) for use in uses]
        phrases = [method.phrase(one, knob) for one in learned]
        prompts = [text.format(phrases[i], phrases[j]) for i, j in pairs for text in texts]
        with method.altered():
            model, clip = method.apply(bench, learned, knob)
            save_latents(path, paint(bench, model, clip, prompts, size.pair_seeds))

    painted = load_latents(bench.cache.file("pair", facts, ".safetensors", make))
    asked = [(loaded[i], loaded[j]) for i, j in pairs for _ in texts] * size.pair_seeds
    facts = {"painting": facts, "weights": bench.hashes, "version": reading.VERSION}
    return bench.cache.numbers("pair-reading", facts, lambda: judge(bench, bench.decode(painted), asked))


def _real(bench: Workbench, size: Size, sets: Sequence[tuple[str, ...]]) -> list[dict[str, bool]]:
    """Judgements of real pictures of the pairs: how far the judge itself can be trusted."""
    asked = sorted({pair for loaded in sets for pair in permutations(loaded, 2)})
    facts = {"asked": asked, "scenes": size.pair_prompts, "weights": bench.hashes, "version": reading.VERSION}

    def make() -> list[dict[str, bool]]:
        rng = np.random.default_rng(77)
        placed = [[THINGS[name].placed() for name in pair] for pair in asked]
        scenes = [pair_scene(*pair, index, rng) for pair in placed for index in range(size.pair_prompts)]
        pictures = bench.reconstruct(torch.stack([drawn(scene) for scene in scenes]))
        return judge(bench, pictures, [pair for pair in asked for _ in range(size.pair_prompts)])

    return bench.cache.numbers("pair-real", facts, make)


def judge(bench: Workbench, pictures: torch.Tensor, asked: Sequence[tuple[str, str]]) -> list[dict[str, bool]]:
    """`measures.both_right` of each picture [B, 3, H, W], asked for (main thing, second thing)."""
    readings = bench.recogniser.read(pictures)
    windows = reading.second_object(pictures, bench.recogniser.body_mask(pictures) > 0.5)
    judged = []
    for index, (main, second) in enumerate(asked):
        categories = (THINGS[main].category, THINGS[second].category)
        looks = reading.candidates(bench, tuple(sorted(set(categories))))
        shown = torch.stack([pictures[index], windows[index]])
        nearest = bench.recogniser.nearest(shown, looks)
        found = ((readings[index].category, nearest[0]), (readings[index].second, nearest[1]))
        judged.append(measures.both_right(found, tuple(zip(categories, (main, second), strict=True))))
    return judged
