"""What each piece of Perfusion is worth, and what one picture is enough for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .choice import curve_samples
from .curves import curve, lead, row
from .jobs import Job
from .measures import best_point, likeness_at
from .plan import ABLATIONS, ONE_SHOT, PERFUSION, Size, Variant
from .plan import METHODS as VARIANTS
from .single import all_uses, jobs_of, point_of
from .workbench import Workbench

BASE = next(variant for variant in VARIANTS if variant.label == PERFUSION)
Rows = list[dict[str, Any]]


def wanted(size: Size) -> list[Variant]:
    """The ablations of a run."""
    return [one for one in ABLATIONS if size.ablations is None or one.label in size.ablations]


def jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Job]]:
    """The jobs of both tables, one row after the other."""

    def of(variants: Sequence[Variant], things: Sequence[str]) -> list[Job]:
        return [
            one
            for seed in range(size.ablation_seeds)
            for variant in (BASE, *variants)
            for one in jobs_of(bench, size, all_uses(size, [variant], tuned, things), things, seed)
        ]

    return {"one-shot": of(ONE_SHOT, size.one_shot_things), "ablations": of(wanted(size), size.ablation_things)}


def measure(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> tuple[Rows, list[str]]:
    """One row for each ablation that is measured, against the default on the same things; and what is missing."""
    things, rows, missing = size.ablation_things, [], []
    base = curve_samples(bench, size, BASE, tuned, things, size.ablation_seeds)
    if not base:
        return [], ["all of the ablations"]
    knob = best_point(curve(base)).knob
    for variant in (BASE, *wanted(size)):
        samples = curve_samples(bench, size, variant, tuned, things, size.ablation_seeds)
        if len(samples) < len(variant.knobs[: size.max_knobs]):
            missing.append(f"ablation {variant.label}")
            continue
        best = best_point(curve(samples)).knob
        both = np.concatenate([samples[best], base[knob]], axis=2)
        rows.append({**row(variant.label, best, samples[best]), "against the default": lead(both)})
    return rows, missing


def one_shot(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> tuple[Rows, list[str]]:
    """One row for each method trained on one picture, at every knob that is measured; and what is missing."""
    things, rows, missing = size.one_shot_things, [], []
    full = curve(curve_samples(bench, size, BASE, tuned, things, size.ablation_seeds))
    for variant in ONE_SHOT:
        samples = curve_samples(bench, size, variant, tuned, things, size.ablation_seeds)
        if not full or len(samples) < len(variant.knobs[: size.max_knobs]):
            missing.append(variant.label)
            continue
        for knob, found in samples.items():
            point = point_of(found.mean(axis=(0, 1)), knob)
            five = likeness_at(full, point.obedience) if variant.method == BASE.method else None
            behind = "" if five is None else five - point.likeness
            rows.append({**row(variant.label, knob, found), "behind 5 pictures at equal obedience": behind})
    return rows, missing
