"""The main experiment: one thing, many scenes.  Every method at every setting of its knob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from perfusion_pack.demo.world.things import THINGS

from . import measures, reading
from .cache import finish
from .methods import METHODS
from .painting import load_latents, paint, save_latents
from .plan import GRIDS, SUPERCLASS, Size, Variant
from .plan import METHODS as VARIANTS
from .prompts import real_pictures, single_prompts
from .workbench import Workbench

TUNING_KNOBS = 3
COLUMNS = ("obedience", "likeness", "colours", "category", "right")


@dataclass(frozen=True)
class Use:
    """A variant with all its settings, on one thing, with one training seed, at one setting of the knob."""

    variant: Variant
    settings: Mapping[str, Any]
    thing: str
    seed: int
    knob: float

    def training_facts(self, bench: Workbench) -> dict[str, Any]:
        method = METHODS[self.variant.method]
        return {
            "method": method.training, "version": method.version, "settings": method.complete(self.settings),
            "thing": self.thing, "look": asdict(THINGS[self.thing].look), "pictures": self.variant.pictures,
            "seed": self.seed, "weights": bench.model_hashes,
        }  # fmt: skip


def artefact(bench: Workbench, use: Use) -> Any:
    """What the method learned, trained at most once."""
    method = METHODS[use.variant.method]

    def train(path: Path) -> None:
        with method.altered():
            lesson = bench.lesson(use.thing, use.variant.pictures)
            method.save(method.train(bench, lesson, use.settings, use.seed), path)
        print(f"trained {use.variant.label} on {use.thing}", flush=True)

    return method.load(bench.cache.file("artefact", use.training_facts(bench), ".safetensors", train))


def latents(bench: Workbench, use: Use, prompts: int, seeds: int) -> Any:
    """The paintings of a use, [seeds * prompts, 4, 16, 16]."""
    method = METHODS[use.variant.method]
    texts = [prompt.text for prompt in single_prompts(THINGS[use.thing].category, prompts)]
    facts = {
        "training": use.training_facts(bench), "applied as": [method.name, method.version], "knob": use.knob,
        "texts": texts, "seeds": seeds, "steps": bench.sampling_steps, "cfg": bench.cfg,
    }  # fmt: skip

    def make(path: Path) -> None:
        learned = artefact(bench, use)
        with method.altered():
            model, clip = method.apply(bench, [learned], use.knob)
            phrase = method.phrase(learned, use.knob)
            save_latents(path, paint(bench, model, clip, [text.format(phrase) for text in texts], seeds))

    return load_latents(bench.cache.file("painting", facts, ".safetensors", make)), facts


def rows(bench: Workbench, use: Use, prompts: int, seeds: int) -> list[dict[str, Any]]:
    """What was read in the paintings of a use, seed by seed."""
    painted, facts = latents(bench, use, prompts, seeds)
    asked = single_prompts(THINGS[use.thing].category, prompts) * seeds
    facts = {"painting": facts, "asked": [dict(p.asked) for p in asked], "weights": bench.hashes,
             "version": reading.VERSION}  # fmt: skip
    make = partial(_read_latents, bench, painted, asked, use.thing)
    return bench.cache.numbers("reading", facts, make)


def _read_latents(bench: Workbench, painted: Any, asked: list, thing: str) -> list[dict[str, Any]]:
    return reading.read(bench, bench.decode(painted), asked, thing)


def real_rows(bench: Workbench, thing: str, prompts: int, seeds: int) -> list[dict[str, Any]]:
    """What is read in real pictures of the thing in the scenes that the prompts ask for."""
    asked = single_prompts(THINGS[thing].category, prompts)

    def make() -> list[dict[str, Any]]:
        found = []
        for seed in range(seeds):
            pictures = bench.reconstruct(real_pictures(THINGS[thing].placed(), asked, seed))
            found += reading.read(bench, pictures, asked, thing)
        return found

    facts = {"thing": thing, "look": asdict(THINGS[thing].look), "asked": [dict(p.asked) for p in asked],
             "seeds": seeds, "weights": bench.hashes, "version": reading.VERSION}  # fmt: skip
    return bench.cache.numbers("real", facts, make)


def raw_columns(found: Sequence[Mapping[str, Any]], thing: str, prompts: int) -> np.ndarray:
    """Means over the prompts, [seeds, COLUMNS], before any normalisation."""
    values = [
        (
            measures.attribute_share(row["found"]), row["look"], row["colours"], row["found"]["category"],
            row["nearest"] == thing,
        )
        for row in found
    ]  # fmt: skip
    return np.array(values, dtype=float).reshape(-1, prompts, len(COLUMNS)).mean(axis=1)


class Scores:
    """The normalised scores of every use that was asked for; yardsticks are made as they are needed."""

    def __init__(self, bench: Workbench, prompts: int, seeds: int) -> None:
        self.bench, self.prompts, self.seeds = bench, prompts, seeds

    def of(self, use: Use) -> np.ndarray:
        """[seeds, COLUMNS] of one use."""
        values = raw_columns(rows(self.bench, use, self.prompts, self.seeds), use.thing, self.prompts)
        word, real = self.yardsticks(use.thing)
        scored = values.copy()
        scored[:, 0] = measures.obedience(values[:, 0], word[0])
        for column in (1, 2):
            try:
                scored[:, column] = measures.likeness(values[:, column], word[column], real[column])
            except ValueError as problem:  # happens where a small run paints too few pictures to tell anything
                print(f"{use.thing}: {problem} Its {COLUMNS[column]} counts as 0.", flush=True)
                scored[:, column] = 0.0
        return scored

    def yardsticks(self, thing: str) -> tuple[np.ndarray, np.ndarray]:
        """Raw columns of the superclass word and of real pictures."""
        plain = Use(VARIANTS[0], {}, thing, 0, 0.0)
        word = raw_columns(rows(self.bench, plain, self.prompts, self.seeds), thing, self.prompts)
        real = raw_columns(real_rows(self.bench, thing, self.prompts, self.seeds), thing, self.prompts)
        return word.mean(axis=0), real.mean(axis=0)

    def samples(
        self, variant: Variant, settings: Mapping[str, Any], things: Sequence[str], knob: float, trainings: int
    ) -> np.ndarray:
        """[things, training seeds x seeds, COLUMNS] of a variant at one setting of its knob."""
        uses = uses_of(variant, settings, things, [knob], trainings)
        found = np.concatenate(finish([partial(self.of, use) for use in uses])).reshape(len(things), -1, len(COLUMNS))
        return np.tile(found, (1, trainings * len(things) // len(uses), 1))  # the superclass word has no trainings

    def prepare(self, uses: Sequence[Use]) -> None:
        """Do the work of all these uses; in one go, so that processes that share it rarely wait for each other."""
        finish([partial(self.of, use) for use in uses])


def uses_of(
    variant: Variant, settings: Mapping[str, Any], things: Sequence[str], knobs: Sequence[float], trainings: int
) -> list[Use]:
    """A variant on every thing, with every training seed, at every setting of the knob."""
    seeds = range(1 if variant.label == SUPERCLASS else trainings)
    return [Use(variant, settings, thing, seed, knob) for thing, seed, knob in product(things, seeds, knobs)]


def settings_of(variant: Variant, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a variant: tuned, then its own, then those that make a run small."""
    if variant.label == SUPERCLASS:
        return {}
    known = METHODS[variant.method].complete({})
    smaller = {name: value for name, value in size.overrides.items() if name in known}
    return {**tuned.get(variant.tuned_as, {}), **variant.settings, **smaller}


def tune(bench: Workbench, size: Size) -> tuple[dict[str, Mapping[str, Any]], list[dict[str, Any]]]:
    """The best settings of each grid by the harmonic mean at the best knob, on tuning things alone, and all results."""
    scores, table = Scores(bench, size.tune_prompts, size.tune_seeds), []
    things, best = size.tuning[: size.tune_things], {}
    grids = {variant: GRIDS.get(variant.label, ())[: size.max_grid] for variant in VARIANTS}
    knobs = {variant: variant.knobs[: min(size.max_knobs, TUNING_KNOBS)] for variant in VARIANTS}
    tried = [
        (variant, one, settings_of(variant, size, {variant.tuned_as: one}))
        for variant, grid in grids.items()
        for one in grid
        if len(grid) > 1
    ]
    scores.prepare([use for v, _, settings in tried for use in uses_of(v, settings, things, knobs[v], 1)])
    for variant, one, settings in tried:
        found = {knob: scores.samples(variant, settings, things, knob, 1) for knob in knobs[variant]}
        point = measures.best_point([point_of(samples.mean(axis=(0, 1)), knob) for knob, samples in found.items()])
        row = {"method": variant.label, "settings": str(dict(one)), **asdict(point)}
        table.append({**row, "harmonic mean": point.harmonic_mean})
    for variant, grid in grids.items():
        reached = [row["harmonic mean"] for row in table if row["method"] == variant.label]
        if grid:
            best[variant.label] = grid[int(np.argmax(reached))] if reached else grid[0]
    return best, table


def point_of(means: np.ndarray, knob: float) -> measures.Point:
    """A point of a curve from mean COLUMNS."""
    return measures.Point(knob, float(means[0]), float(means[1]))
