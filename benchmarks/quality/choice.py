"""What is chosen on the tuning things: settings by successive halving, and the knob at which a method is reported.

Every function asks the finished pieces alone and makes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from . import measures
from .cache import OutOfTimeError
from .jobs import Job
from .plan import GRIDS, SUPERCLASS, VARIED, Size, Variant
from .plan import METHODS as VARIANTS
from .single import Scores, compared_under, jobs_of, point_of, settings_of, uses_of
from .workbench import Workbench

TUNING_KNOBS = 3
Settings = Mapping[str, Any]


def tuning_jobs(bench: Workbench, size: Size, number: int) -> list[Job]:
    """The jobs of one round: thing by thing, every setting that is still in the race."""
    uses = [
        use
        for thing in size.tuning[: size.tune_rounds[number]]
        for variant in VARIANTS
        for one in candidates(bench, size, variant, number)
        for use in uses_of(
            variant, settings_of(variant, size, {variant.tuned_as: one}), [thing], _knobs(size, variant), 1
        )
    ]
    things = tuple(dict.fromkeys(use.thing for use in uses))
    return [one for seed in range(size.tuning_seeds) for one in jobs_of(bench, size, uses, things, seed)]


def candidates(bench: Workbench, size: Size, variant: Variant, number: int) -> Sequence[Settings]:
    """The settings of a method that a round of the tuning tries; none where there is nothing to choose."""
    grid = GRIDS.get(variant.label, ())[: size.max_grid]
    if len(grid) < 2 or number == 0:
        return grid if len(grid) > 1 else ()
    tried = candidates(bench, size, variant, number - 1)
    return _best(bench, size, variant, tried, size.tune_rounds[number - 1])[: size.tune_kept]


def tuned(bench: Workbench, size: Size) -> tuple[dict[str, Settings], list[dict[str, Any]]]:
    """The best settings of each grid by the harmonic mean at the best knob, and a table of all that were tried."""
    best, table, last = {}, [], len(size.tune_rounds) - 1
    for variant in VARIANTS:
        grid = GRIDS.get(variant.label, ())[: size.max_grid]
        if not grid:
            continue
        finalists = candidates(bench, size, variant, last)
        ranked = _best(bench, size, variant, finalists, size.tune_rounds[last])
        best[variant.label] = ranked[0] if ranked else grid[0]
        for number, things in enumerate(size.tune_rounds):
            for one in candidates(bench, size, variant, number):
                point = tuning_point(bench, size, variant, one, things)
                if point is not None:
                    row = {"method": variant.label, "round": number + 1, "settings": str(dict(one)), **asdict(point)}
                    table.append({**row, "harmonic mean": point.harmonic_mean})
    return best, table


def _best(bench: Workbench, size: Size, variant: Variant, tried: Sequence[Settings], things: int) -> list[Settings]:
    """The settings from the best to the worst; those not measured last, in their order."""
    points = [tuning_point(bench, size, variant, one, things) for one in tried]
    reached = [-1.0 if point is None else point.harmonic_mean for point in points]
    return [tried[index] for index in sorted(range(len(tried)), key=lambda index: -reached[index])]


def tuning_point(bench: Workbench, size: Size, variant: Variant, one: Settings, things: int) -> measures.Point | None:
    """The best point of a setting over the first so many tuning things; None where something is not measured yet."""
    settings = settings_of(variant, size, {variant.tuned_as: one})
    names, seeds = size.tuning[:things], size.tuning_seeds
    found = {knob: samples(bench, size, variant, settings, names, seeds, knob, 1) for knob in _knobs(size, variant)}
    if any(values is None for values in found.values()):
        return None
    return measures.best_point([point_of(values.mean(axis=(0, 1)), knob) for knob, values in found.items()])


def knobs(bench: Workbench, size: Size, tuned: Mapping[str, Settings]) -> dict[str, float]:
    """The knob at which each method is used where several things are loaded: of the best harmonic mean over the things
    of the last tuning round, with its tuned settings; the first one of its list where nothing was tuned."""
    chosen = {}
    for variant in VARIANTS:
        own = tuned.get(variant.label)
        point = None if own is None else tuning_point(bench, size, variant, own, size.tune_rounds[-1])
        chosen[variant.label] = variant.knobs[0] if point is None else point.knob
    return chosen


def measured_things(
    bench: Workbench, size: Size, tuned: Mapping[str, Settings], things: Sequence[str], seeds: int, condition: str
) -> tuple[str, ...]:
    """The things on which every method of the condition is measured at every setting of its knob, with so many
    seeds."""
    return tuple(
        thing
        for thing in things
        if all(
            len(curve_samples(bench, size, variant, tuned, [thing], seeds, condition))
            == len(variant.knobs[: size.max_knobs])
            for variant in compared_under(size, condition)
        )
    )


def curve_samples(
    bench: Workbench, size: Size, variant: Variant, tuned: Mapping[str, Settings], things: Sequence[str], seeds: int,
    condition: str = VARIED,
) -> dict[float, np.ndarray]:  # fmt: skip
    """[things, seeds, COLUMNS] of a variant by the knob, of those settings that are measured on all the things."""
    settings, trainings = settings_of(variant, size, tuned), size.training_seeds
    found = {
        knob: samples(bench, size, variant, settings, things, seeds, knob, trainings, condition)
        for knob in variant.knobs[: size.max_knobs]
    }
    return {knob: values for knob, values in found.items() if values is not None}


def samples(
    bench: Workbench, size: Size, variant: Variant, settings: Settings, things: Sequence[str], seeds: int, knob: float,
    trainings: int, condition: str = VARIED,
) -> np.ndarray | None:  # fmt: skip
    """[things, trainings x seeds, COLUMNS]; None where something is not measured yet."""
    try:
        with bench.cache.closed():
            uses = uses_of(variant, settings, things, [knob], trainings, condition)
            return Scores(bench, size).samples(uses, len(things), trainings, seeds)
    except OutOfTimeError:
        return None


def _knobs(size: Size, variant: Variant) -> tuple[float, ...]:
    return () if variant.label == SUPERCLASS else variant.knobs[: min(size.max_knobs, TUNING_KNOBS)]
