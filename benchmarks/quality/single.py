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
from .jobs import Cell, Job
from .methods import METHODS
from .painting import load_latents, paint, save_latents
from .plan import METHODS as VARIANTS
from .plan import SUPERCLASS, Size, Variant
from .prompts import real_pictures, single_prompts
from .workbench import Workbench

COLUMNS = ("obedience", "likeness", "colours", "category", "right")
TENSORS = ".safetensors"


@dataclass(frozen=True)
class Use:
    """A variant with all its settings, on one thing, with one training seed, at one setting of the knob."""

    variant: Variant
    settings: Mapping[str, Any]
    thing: str
    seed: int
    knob: float

    def training_facts(self, bench: Workbench) -> dict[str, Any]:
        method, thing = METHODS[self.variant.method], THINGS[self.thing]
        facts = {
            "method": method.training, "version": method.version, "settings": method.complete(self.settings),
            "seed": self.seed, "weights": bench.model_hashes,
        }  # fmt: skip
        if self.variant.label == SUPERCLASS:  # has learned nothing: things of one category share its paintings
            return {**facts, "superclass": thing.category}
        return {**facts, "thing": self.thing, "look": asdict(thing.look), "pictures": self.variant.pictures}

    def painting_facts(self, bench: Workbench, prompts: int, seed: int) -> dict[str, Any]:
        method = METHODS[self.variant.method]
        return {
            "training": self.training_facts(bench), "applied as": [method.name, method.version], "knob": self.knob,
            "texts": [prompt.text for prompt in single_prompts(THINGS[self.thing].category, prompts)],
            "seed": seed, **bench.sampling,
        }  # fmt: skip

    def reading_facts(self, bench: Workbench, prompts: int, seed: int) -> dict[str, Any]:
        asked = [dict(prompt.asked) for prompt in single_prompts(THINGS[self.thing].category, prompts)]
        return {"painting": self.painting_facts(bench, prompts, seed), "thing": self.thing, "asked": asked,
                "weights": bench.hashes, "version": reading.VERSION}  # fmt: skip

    def training_cell(self, bench: Workbench) -> Cell:
        return Cell("artefact", self.training_facts(bench), TENSORS)


def artefact(bench: Workbench, use: Use) -> Any:
    """What the method learned, trained at most once."""
    method = METHODS[use.variant.method]

    def train(path: Path) -> None:
        with method.altered():
            lesson = bench.lesson(use.thing, use.variant.pictures)
            method.save(method.train(bench, lesson, use.settings, use.seed), path)
        print(f"trained {use.variant.label} on {use.thing}", flush=True)

    return method.load(bench.cache.file("artefact", use.training_facts(bench), TENSORS, train))


def latents(bench: Workbench, use: Use, prompts: int, seed: int) -> Any:
    """The paintings of a use, one for each prompt, [prompts, 4, 16, 16]."""
    method = METHODS[use.variant.method]

    def make(path: Path) -> None:
        learned = artefact(bench, use)
        with method.altered():
            model, clip = method.apply(bench, [learned], use.knob)
            phrase = method.phrase(learned, use.knob)
            texts = [prompt.text.format(phrase) for prompt in single_prompts(THINGS[use.thing].category, prompts)]
            save_latents(path, paint(bench, model, clip, texts, seed))

    return load_latents(bench.cache.file("painting", use.painting_facts(bench, prompts, seed), TENSORS, make))


def rows(bench: Workbench, use: Use, prompts: int, seed: int) -> list[dict[str, Any]]:
    """What was read in the paintings of a use."""
    asked = single_prompts(THINGS[use.thing].category, prompts)

    def make() -> list[dict[str, Any]]:
        return reading.read(bench, bench.decode(latents(bench, use, prompts, seed)), asked, use.thing)

    return bench.cache.numbers("reading", use.reading_facts(bench, prompts, seed), make)


def job(bench: Workbench, use: Use, prompts: int, seed: int) -> Job:
    """The reading of a use, with its painting and training."""
    cells = [
        use.training_cell(bench),
        Cell("painting", use.painting_facts(bench, prompts, seed), TENSORS),
        Cell("reading", use.reading_facts(bench, prompts, seed)),
    ]
    return Job(cells, partial(rows, bench, use, prompts, seed))


def real_rows(bench: Workbench, thing: str, prompts: int, seed: int) -> list[dict[str, Any]]:
    """What is read in real pictures of the thing in the scenes that the prompts ask for."""
    asked = single_prompts(THINGS[thing].category, prompts)

    def make() -> list[dict[str, Any]]:
        pictures = bench.reconstruct(real_pictures(THINGS[thing].placed(), asked, seed))
        return reading.read(bench, pictures, asked, thing)

    return bench.cache.numbers("real", _real_facts(bench, thing, prompts, seed), make)


def _real_facts(bench: Workbench, thing: str, prompts: int, seed: int) -> dict[str, Any]:
    asked = [dict(prompt.asked) for prompt in single_prompts(THINGS[thing].category, prompts)]
    return {"thing": thing, "look": asdict(THINGS[thing].look), "asked": asked, "seed": seed,
            "precision": bench.precision, "weights": bench.hashes, "version": reading.VERSION}  # fmt: skip


def yardstick_jobs(bench: Workbench, thing: str, prompts: int, seed: int) -> list[Job]:
    """The superclass word and the real pictures, without which nothing can be said about a thing."""
    real = Cell("real", _real_facts(bench, thing, prompts, seed))
    plain = Use(VARIANTS[0], {}, thing, 0, 0.0)
    return [job(bench, plain, prompts, seed), Job([real], partial(real_rows, bench, thing, prompts, seed))]


def raw_columns(found: Sequence[Mapping[str, Any]], thing: str) -> np.ndarray:
    """Means over the prompts, [COLUMNS], before any normalisation."""
    values = [
        (
            measures.attribute_share(row["found"]), row["look"], row["colours"], row["found"]["category"],
            row["nearest"] == thing,
        )
        for row in found
    ]  # fmt: skip
    return np.array(values, dtype=float).mean(axis=0)


class Scores:
    """The normalised scores of every use that was asked for; yardsticks are made as they are needed."""

    def __init__(self, bench: Workbench, prompts: int) -> None:
        self.bench, self.prompts = bench, prompts

    def of(self, use: Use, seeds: int) -> np.ndarray:
        """[seeds, COLUMNS] of one use."""
        values = self._raw(rows, use, use.thing, seeds)
        word, real = self.yardsticks(use.thing, seeds)
        scored = values.copy()
        scored[:, 0] = measures.obedience(values[:, 0], word[0])
        for column in (1, 2):
            try:
                scored[:, column] = measures.likeness(values[:, column], word[column], real[column])
            except ValueError as problem:  # happens where a small run paints too few pictures to tell anything
                text = f"{use.thing}: {problem} Its {COLUMNS[column]} counts as 0."
                self.bench.remembered(("told", text), partial(print, text, flush=True))
                scored[:, column] = 0.0
        return scored

    def yardsticks(self, thing: str, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        """Raw columns of the superclass word and of real pictures."""
        plain = Use(VARIANTS[0], {}, thing, 0, 0.0)
        word, real = self._raw(rows, plain, thing, seeds), self._raw(real_rows, thing, thing, seeds)
        return word.mean(axis=0), real.mean(axis=0)

    def _raw(self, found_in: Any, shown: Any, thing: str, seeds: int) -> np.ndarray:
        return np.stack([raw_columns(found_in(self.bench, shown, self.prompts, s), thing) for s in range(seeds)])

    def samples(self, uses: Sequence[Use], things: int, trainings: int, seeds: int) -> np.ndarray:
        """[things, trainings x seeds, COLUMNS] of the uses of a variant at one setting of its knob."""
        found = np.concatenate([self.of(use, seeds) for use in uses]).reshape(things, -1, len(COLUMNS))
        return np.tile(found, (1, trainings * things // len(uses), 1))  # the superclass word has no trainings


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


def all_uses(
    size: Size, variants: Sequence[Variant], tuned: Mapping[str, Mapping[str, Any]], things: Sequence[str]
) -> list[Use]:
    """The variants on the things at all settings of their knobs."""
    return [
        use
        for variant in variants
        for use in uses_of(
            variant, settings_of(variant, size, tuned), things, variant.knobs[: size.max_knobs], size.training_seeds
        )
    ]


def first_jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> list[Job]:
    """Every method on one thing after the other, with as many seeds as tuning things have: first the things of the last
    tuning round, whose trainings are there, then the held-out things."""
    return _jobs_of_all_methods(bench, size, tuned, (*size.tuning[: size.tune_rounds[-1]], *size.held_out))


def other_jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> list[Job]:
    """Every method on the other tuning things."""
    return _jobs_of_all_methods(bench, size, tuned, size.tuning[size.tune_rounds[-1] :])


def _jobs_of_all_methods(
    bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], things: Sequence[str]
) -> list[Job]:
    return [
        one
        for thing in things
        for seed in range(size.tuning_seeds)
        for one in jobs_of(bench, size, all_uses(size, VARIANTS, tuned, [thing]), [thing], seed)
    ]


def further_jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> list[Job]:
    """The held-out things with all their other seeds, seed by seed."""
    return [
        one
        for seed in range(size.tuning_seeds, size.seeds)
        for one in jobs_of(bench, size, all_uses(size, VARIANTS, tuned, size.held_out), size.held_out, seed)
    ]


def jobs_of(bench: Workbench, size: Size, uses: Sequence[Use], things: Sequence[str], seed: int) -> list[Job]:
    """The readings of the uses with one seed, after the yardsticks of their things."""
    yardsticks = [one for thing in things for one in yardstick_jobs(bench, thing, size.prompts, seed)]
    return [*yardsticks, *(job(bench, use, size.prompts, seed) for use in uses)]


def point_of(means: np.ndarray, knob: float) -> measures.Point:
    """A point of a curve from mean COLUMNS."""
    return measures.Point(knob, float(means[0]), float(means[1]))
