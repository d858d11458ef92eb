"""The main experiment: one thing, many scenes.  Every method at every setting of its knob, under every condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from perfusion_pack.demo.making.part_colours import PARTS
from perfusion_pack.demo.world.things import THINGS
from torch import Tensor

from . import background, conditions, measures, reading
from .jobs import Cell, Job
from .methods import METHODS
from .painting import load_latents, paint, save_latents
from .plan import METHODS as VARIANTS
from .plan import ONE_PICTURE, SUPERCLASS, VARIED, Size, Variant
from .prompts import Prompt, real_pictures
from .workbench import Workbench

COLOURS = tuple(f"off: {part}" for part in PARTS)
COLUMNS = (
    "obedience", "likeness", "first of 200", "alike too", "median rank", *COLOURS, "thing right", "category",
    "obedience by labels", "off: background",
)  # fmt: skip
BY_LABELS = COLUMNS.index("obedience by labels")
TENSORS = ".safetensors"


@dataclass(frozen=True)
class Use:
    """A variant with all its settings, on one thing, with one training seed, at one setting of the knob, trained on
    pictures that were taken under one condition."""

    variant: Variant
    settings: Mapping[str, Any]
    thing: str
    seed: int
    knob: float
    condition: str = VARIED

    def prompts(self, count: int) -> list[Prompt]:
        return conditions.prompts(self.thing, self.condition, count)

    def training_facts(self, bench: Workbench) -> dict[str, Any]:
        method, thing = METHODS[self.variant.method], THINGS[self.thing]
        facts = {
            "method": method.training, "version": method.version, "settings": method.complete(self.settings),
            "seed": self.seed, "weights": bench.model_hashes,
        }  # fmt: skip
        if self.variant.label == SUPERCLASS:  # has learned nothing: things of one category share its paintings
            return {**facts, "superclass": thing.category}
        facts |= {"thing": self.thing, "look": asdict(thing.look)}
        facts["pictures"] = 1 if self.condition == ONE_PICTURE else conditions.PICTURES
        named = self.condition not in (VARIED, ONE_PICTURE)  # of the varied pictures these have all, and the first
        return {**facts, "condition": self.condition} if named else facts

    def painting_facts(self, bench: Workbench, prompts: int, seed: int) -> dict[str, Any]:
        method = METHODS[self.variant.method]
        return {
            "training": self.training_facts(bench), "applied as": [method.name, method.applied], "knob": self.knob,
            "texts": [prompt.text for prompt in self.prompts(prompts)], "seed": seed, **bench.sampling,
        }  # fmt: skip

    def reading_facts(self, bench: Workbench, prompts: int, seed: int) -> dict[str, Any]:
        asked = [dict(prompt.asked) for prompt in self.prompts(prompts)]
        return {"painting": self.painting_facts(bench, prompts, seed), "thing": self.thing, "asked": asked,
                "weights": bench.hashes, "instrument": reading.instrument_facts(bench),
                "version": reading.VERSION}  # fmt: skip

    def background_facts(self, bench: Workbench, prompts: int, seed: int) -> dict[str, Any]:
        asked = [prompt.asked.get("background") for prompt in self.prompts(prompts)]
        return {"painting": self.painting_facts(bench, prompts, seed), "asked": asked, "weights": bench.hashes,
                "real": bench.strict, "version": background.VERSION}  # fmt: skip

    def training_cell(self, bench: Workbench) -> Cell:
        return Cell("artefact", self.training_facts(bench), TENSORS)


def artefact(bench: Workbench, use: Use) -> Any:
    """What the method learned, trained at most once."""
    method = METHODS[use.variant.method]

    def train(path: Path) -> None:
        with method.altered():
            lesson = bench.lesson(use.thing, use.condition)
            method.save(method.train(bench, lesson, use.settings, use.seed), path)
        print(f"trained {use.variant.label} on {use.thing}, {use.condition}", flush=True)

    return method.load(bench.cache.file("artefact", use.training_facts(bench), TENSORS, train))


def latents(bench: Workbench, use: Use, prompts: int, seed: int) -> Any:
    """The paintings of a use, one for each prompt, [prompts, 4, 16, 16]."""
    method = METHODS[use.variant.method]

    def make(path: Path) -> None:
        learned = artefact(bench, use)
        with method.altered():
            model, clip = method.apply(bench, [learned], use.knob)
            phrase = method.phrase(learned, use.knob)
            texts = [prompt.text.format(phrase) for prompt in use.prompts(prompts)]
            save_latents(path, paint(bench, model, clip, texts, seed))

    return load_latents(bench.cache.file("painting", use.painting_facts(bench, prompts, seed), TENSORS, make))


def rows(bench: Workbench, use: Use, prompts: int, seed: int) -> list[dict[str, Any]]:
    """What was read in the paintings of a use."""
    asked = use.prompts(prompts)

    @cache  # for both readings
    def pictures() -> Tensor:
        return bench.decode(latents(bench, use, prompts, seed))

    def make() -> list[dict[str, Any]]:
        return reading.read(bench, pictures(), asked, use.thing)

    def make_off() -> list[float | None]:
        return background.distances(bench, pictures(), asked)

    found = bench.cache.numbers("reading", use.reading_facts(bench, prompts, seed), make)
    off = bench.cache.numbers("background", use.background_facts(bench, prompts, seed), make_off)
    return in_its_colours(found, off)


def in_its_colours(found: Sequence[Mapping[str, Any]], off: Sequence[float | None]) -> list[dict[str, Any]]:
    """Readings in which a background counts as found only where its colours are its own; "by labels" is what was found
    without that."""
    together = []
    for row, distance in zip(found, off, strict=True):
        told = dict(row["found"])
        if "background" in told and distance is not None:
            told["background"] = told["background"] and distance <= 1
        together.append({**row, "found": told, "by labels": row["found"], "background off": distance})
    return together


def job(bench: Workbench, use: Use, prompts: int, seed: int) -> Job:
    """The reading of a use, with its painting and training."""
    cells = [
        use.training_cell(bench),
        Cell("painting", use.painting_facts(bench, prompts, seed), TENSORS),
        Cell("reading", use.reading_facts(bench, prompts, seed)),
        Cell("background", use.background_facts(bench, prompts, seed)),
    ]
    return Job(cells, partial(rows, bench, use, prompts, seed))


def plain_use(thing: str, condition: str = VARIED) -> Use:
    """The superclass word, in the prompts of the thing."""
    return Use(VARIANTS[0], {}, thing, 0, 0.0, condition)


def real_rows(bench: Workbench, use: Use, prompts: int, seed: int) -> list[dict[str, Any]]:
    """What is read in real pictures of the use's thing in the scenes that its prompts ask for."""
    asked = use.prompts(prompts)

    @cache  # for both readings
    def pictures() -> Tensor:
        return bench.reconstruct(real_pictures(THINGS[use.thing].placed(), asked, seed))

    facts = _real_facts(bench, use, prompts, seed)
    found = bench.cache.numbers("real", facts, lambda: reading.read(bench, pictures(), asked, use.thing))
    off = bench.cache.numbers(
        "real-background", _real_background_facts(facts), lambda: background.distances(bench, pictures(), asked)
    )
    return in_its_colours(found, off)


def _real_background_facts(real: Mapping[str, Any]) -> dict[str, Any]:
    return {**real, "background": background.VERSION}


def _real_facts(bench: Workbench, use: Use, prompts: int, seed: int) -> dict[str, Any]:
    asked = use.prompts(prompts)
    return {"thing": use.thing, "look": asdict(THINGS[use.thing].look), "seed": seed,
            "asked": [dict(prompt.asked) for prompt in asked], "texts": [prompt.text for prompt in asked],
            "precision": bench.precision, "weights": bench.hashes, "instrument": reading.instrument_facts(bench),
            "version": reading.VERSION}  # fmt: skip


def yardstick_jobs(bench: Workbench, thing: str, condition: str, prompts: int, seed: int) -> list[Job]:
    """The superclass word, the ceiling and the real pictures, without which nothing can be said about a thing."""
    plain = plain_use(thing, condition)
    ceiling = Cell("ceiling", reading.ceiling_facts(bench, thing))
    facts = _real_facts(bench, plain, prompts, seed)
    real = [Cell("real", facts), Cell("real-background", _real_background_facts(facts))]
    return [
        Job([ceiling], partial(reading.ceiling, bench, thing)),
        job(bench, plain, prompts, seed),
        Job(real, partial(real_rows, bench, plain, prompts, seed)),
    ]


def raw_columns(found: Sequence[Mapping[str, Any]], thing: str) -> np.ndarray:
    """Means over the prompts, [COLUMNS], before any normalisation; of ranks the median, and nan for the colours of a
    part that shows in no picture."""
    alike = np.mean([row["alike"] for row in found])
    off = np.array([row["off"] for row in found], dtype=float)
    shown = ~np.isnan(off)
    backgrounds = [row["background off"] for row in found if row["background off"] is not None]
    colours = np.where(shown.any(axis=0), np.nansum(off, axis=0) / np.maximum(shown.sum(axis=0), 1), np.nan)
    return np.array([
        np.mean([measures.attribute_share(row["found"]) for row in found]), alike,
        np.mean([row["rank"] == 0 for row in found]), alike, np.median([row["rank"] for row in found]), *colours,
        np.mean([row["nearest"] == thing for row in found]),
        np.mean([row["category"] for row in found]),
        np.mean([measures.attribute_share(row["by labels"]) for row in found]),
        np.mean(backgrounds) if backgrounds else np.nan,
    ])  # fmt: skip


class Scores:
    """The normalised scores of every use that was asked for; yardsticks are made as they are needed."""

    def __init__(self, bench: Workbench, size: Size) -> None:
        self.bench, self.size = bench, size

    def of(self, use: Use, seeds: int) -> np.ndarray:
        """[seeds, COLUMNS] of one use."""
        return self._normalised(self._raw(rows, use, seeds), use, seeds)

    def of_real_pictures(self, thing: str, condition: str, seeds: int) -> np.ndarray:
        """[seeds, COLUMNS] of the thing drawn in the scenes that the prompts ask for."""
        plain = plain_use(thing, condition)
        return self._normalised(self._raw(real_rows, plain, seeds), plain, seeds)

    def _normalised(self, values: np.ndarray, use: Use, seeds: int) -> np.ndarray:
        scored = values.copy()
        word = self._raw(rows, plain_use(use.thing, use.condition), seeds).mean(axis=0)
        for column in (0, BY_LABELS):
            scored[:, column] = measures.obedience(values[:, column], word[column])
        try:
            ceiling = reading.ceiling(self.bench, use.thing)["alike"]
            scored[:, 1] = measures.share_of_ceiling(values[:, 1], ceiling)
        except ValueError as problem:
            text = f"{use.thing}: {problem} Its likeness counts as 0."
            self.bench.remembered(("told", text), partial(print, text, flush=True))
            scored[:, 1] = 0.0
        return scored

    def _raw(self, found_in: Any, use: Use, seeds: int) -> np.ndarray:
        prompts = self.size.prompts_of(use.condition)
        return np.stack([raw_columns(found_in(self.bench, use, prompts, s), use.thing) for s in range(seeds)])

    def samples(self, uses: Sequence[Use], things: int, trainings: int, seeds: int) -> np.ndarray:
        """[things, trainings x seeds, COLUMNS] of the uses of a variant at one setting of its knob."""
        found = np.concatenate([self.of(use, seeds) for use in uses]).reshape(things, -1, len(COLUMNS))
        return np.tile(found, (1, trainings * things // len(uses), 1))  # the superclass word has no trainings


def uses_of(
    variant: Variant, settings: Mapping[str, Any], things: Sequence[str], knobs: Sequence[float], trainings: int,
    condition: str = VARIED,
) -> list[Use]:  # fmt: skip
    """A variant on every thing, with every training seed, at every setting of the knob."""
    seeds = range(1 if variant.label == SUPERCLASS else trainings)
    return [Use(variant, settings, thing, seed, knob, condition) for thing, seed, knob in product(things, seeds, knobs)]


def settings_of(variant: Variant, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a variant: tuned, then its own, then those that make a run small."""
    if variant.label == SUPERCLASS:
        return {}
    known = METHODS[variant.method].complete({})
    smaller = {name: value for name, value in size.overrides.items() if name in known}
    return {**tuned.get(variant.tuned_as, {}), **variant.settings, **smaller}


def compared_under(size: Size, condition: str) -> list[Variant]:
    """The methods that a run compares under the condition."""
    labels = size.conditions[condition]
    return [one for one in VARIANTS if labels is None or one.label in labels or one.label == SUPERCLASS]


def all_uses(
    size: Size, variants: Sequence[Variant], tuned: Mapping[str, Mapping[str, Any]], things: Sequence[str],
    condition: str = VARIED,
) -> list[Use]:  # fmt: skip
    """The variants on the things at all settings of their knobs."""
    return [
        use
        for variant in variants
        for use in uses_of(
            variant, settings_of(variant, size, tuned), things, variant.knobs[: size.max_knobs], size.training_seeds,
            condition,
        )
    ]  # fmt: skip


def jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], condition: str) -> list[Job]:
    """Every method under the condition: one thing after the other, seed by seed."""
    variants = compared_under(size, condition)
    return [
        one
        for seed in range(size.seeds_of(condition))
        for thing in size.measured
        for one in jobs_of(bench, size, all_uses(size, variants, tuned, [thing], condition), [thing], seed)
    ]


def jobs_of(bench: Workbench, size: Size, uses: Sequence[Use], things: Sequence[str], seed: int) -> list[Job]:
    """The readings of uses under one condition with one seed, after the yardsticks of their things."""
    condition = uses[0].condition if uses else VARIED
    prompts = size.prompts_of(condition)
    yardsticks = [one for thing in things for one in yardstick_jobs(bench, thing, condition, prompts, seed)]
    return [*yardsticks, *(job(bench, use, prompts, seed) for use in uses)]


def point_of(means: np.ndarray, knob: float) -> measures.Point:
    """A point of a curve from mean COLUMNS."""
    return measures.Point(knob, float(means[0]), float(means[1]))
