"""Several things in one picture, each trained apart: is each found once, in its place, with nothing mixed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perfusion_pack.demo.world.things import THINGS
from perfusion_pack.perfusion_core.errors import PerfusionError

from . import measures, reading
from .cache import OutOfTimeError
from .jobs import Cell, Job
from .methods import METHODS
from .painting import load_latents, paint, save_latents
from .plan import DIFFERENT, INVERSION, LOCKED, LORA, PAIR_KNOBS, PERFUSION, SAME, THREE, Size
from .plan import METHODS as VARIANTS
from .prompts import drawn, pair_prompts, pair_scene
from .single import TENSORS, Use, artefact, settings_of
from .workbench import Workbench

VERSION = 3  # of the judgement
# What is different about several concepts, taken away: the joint gate, and all that is joint.
UNJOINED = tuple(
    replace(VARIANTS[1], label=f"perfusion local, {without}", method=f"perfusion, {without}")
    for without in ("gates as if alone", "single projections")
)
# What the bars compare, and whether locked keys keep things apart.
COMPARED = (
    *(variant for variant in VARIANTS if variant.label in (PERFUSION, LOCKED[1.0], LORA, INVERSION)), *UNJOINED,
)  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """Several things in one MODEL, by one method at one knob: in prompts with two of them, with one seed."""

    uses: tuple[Use, ...]
    knob: float
    seed: int

    @property
    def method(self) -> Any:
        return METHODS[self.uses[0].variant.method]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(permutations(range(len(self.uses)), 2))

    def painting_facts(self, bench: Workbench, size: Size) -> dict[str, Any]:
        return {
            "trainings": [use.training_facts(bench) for use in self.uses],
            "applied as": [self.method.name, self.method.applied], "knob": self.knob,
            "texts": pair_prompts(size.pair_prompts), "seed": self.seed, **bench.sampling,
        }  # fmt: skip

    def reading_facts(self, bench: Workbench, size: Size) -> dict[str, Any]:
        things = [use.thing for use in self.uses]
        return {"painting": self.painting_facts(bench, size), "things": things, "weights": bench.hashes,
                "version": VERSION}  # fmt: skip

    def job(self, bench: Workbench, size: Size) -> Job:
        cells = [
            *(use.training_cell(bench) for use in self.uses),
            Cell("pair", self.painting_facts(bench, size), TENSORS),
            Cell("pair-reading", self.reading_facts(bench, size)),
        ]
        return Job(cells, partial(_judged, bench, size, self))


def sets_of(size: Size) -> dict[str, list[tuple[str, ...]]]:
    """The things that are loaded together, by what they are to each other."""
    return {
        DIFFERENT: list(combinations(size.pair_things, 2)),
        SAME: list(size.same_kind),
        THREE: list(size.triples),
    }


def _plan(size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]) -> dict[Any, list[Loaded]]:
    """What each row of the table needs, by (what is loaded, label of the method, knob)."""
    plan = {}
    for (loaded, sets), variant in product(sets_of(size).items(), COMPARED):
        reported = knobs.get(variant.label, knobs.get(PERFUSION) if variant in UNJOINED else variant.knobs[0])
        settings = settings_of(variant, size, tuned)
        for knob in dict.fromkeys((reported, *PAIR_KNOBS.get(variant.label, ())[: size.max_knobs])):
            row = [
                Loaded(tuple(Use(variant, settings, thing, 0, knob) for thing in things), knob, seed)
                for things in sets
                for seed in range(size.same_kind_seeds if loaded == SAME else size.pair_seeds)
            ]
            if row:
                plan[loaded, variant.label, knob] = row
    return plan


def jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]) -> list[Job]:
    """All jobs, real pictures first."""
    real = [
        Job([Cell("pair-real", _real_facts(bench, size, loaded))], partial(_real, bench, size, loaded))
        for loaded, sets in sets_of(size).items()
        if sets
    ]
    return [*real, *(one.job(bench, size) for row in _plan(size, tuned, knobs).values() for one in row)]


def measure(
    bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row of shares for each method and what is loaded that is measured, and what is missing."""
    plan, rows, missing = _plan(size, tuned, knobs), [], []
    for loaded, sets in sets_of(size).items():
        wanted = {("real pictures", ""): [partial(_real, bench, size, loaded)]} if sets else {}
        for (together, label, knob), row in plan.items():
            if together == loaded:
                wanted[label, knob] = [partial(_judged, bench, size, one) for one in row]
        for (label, knob), tasks in wanted.items():
            try:
                with bench.cache.closed():
                    judged = [one for task in tasks for one in task()]
            except OutOfTimeError:
                missing.append(f"{label} with {loaded} loaded, knob {knob or 0:g}")
                continue
            rows.append({"method": label, "loaded": loaded, "knob": knob, **_shares(judged)})
    return rows, missing


def _shares(judged: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    names = ("right", "swapped", "lost", "refused")
    shares = {name: float(np.mean([row.get(name, False) for row in judged])) for name in names}
    return {"pictures": len(judged), **shares}


def _judged(bench: Workbench, size: Size, loaded: Loaded) -> list[dict[str, bool]]:
    """The judgements of every ordered pair of the loaded things, in every scene.

    Where the pack refuses to load them together, as it does where training told two words of one kind too little apart,
    nothing is there."""
    texts = pair_prompts(size.pair_prompts)

    def paint_all(path: Path) -> None:
        learned = [artefact(bench, use) for use in loaded.uses]
        phrases = [loaded.method.phrase(one, loaded.knob) for one in learned]
        prompts = [text.format(phrases[i], phrases[j]) for i, j in loaded.pairs for text in texts]
        with loaded.method.altered():
            model, clip = loaded.method.apply(bench, learned, loaded.knob)
            save_latents(path, paint(bench, model, clip, prompts, loaded.seed))

    def judge_all() -> list[dict[str, bool]]:
        things = [use.thing for use in loaded.uses]
        asked = [(things[i], things[j]) for i, j in loaded.pairs for _ in texts]
        try:
            file = bench.cache.file("pair", loaded.painting_facts(bench, size), TENSORS, paint_all)
        except PerfusionError as refused:
            print(f"{', '.join(things)}: {refused}", flush=True)
            return [{"right": False, "swapped": False, "lost": True, "refused": True} for _ in asked]
        return judge(bench, bench.decode(load_latents(file)), asked)

    return bench.cache.numbers("pair-reading", loaded.reading_facts(bench, size), judge_all)


def _asked(size: Size, loaded: str) -> list[tuple[str, str]]:
    return sorted({pair for things in sets_of(size)[loaded] for pair in permutations(things, 2)})


def _real_facts(bench: Workbench, size: Size, loaded: str) -> dict[str, Any]:
    return {"asked": _asked(size, loaded), "scenes": size.pair_prompts, "weights": bench.hashes,
            "precision": bench.precision, "version": VERSION}  # fmt: skip


def _real(bench: Workbench, size: Size, loaded: str) -> list[dict[str, bool]]:
    """Judgements of real pictures of the pairs: how far the judge itself can be trusted."""
    asked = _asked(size, loaded)

    def make() -> list[dict[str, bool]]:
        rng = np.random.default_rng(77)
        placed = [[THINGS[name].placed() for name in pair] for pair in asked]
        scenes = [pair_scene(*pair, index, rng) for pair in placed for index in range(size.pair_prompts)]
        pictures = bench.reconstruct(torch.stack([drawn(scene) for scene in scenes]))
        return judge(bench, pictures, [pair for pair in asked for _ in range(size.pair_prompts)])

    return bench.cache.numbers("pair-real", _real_facts(bench, size, loaded), make)


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
