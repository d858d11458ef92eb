"""What each piece of Perfusion is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .choice import curve_samples
from .curves import curve, lead, row
from .jobs import Job
from .measures import best_point
from .plan import ABLATION_BIASES, ABLATIONS, PERFUSION, Size, Variant
from .plan import METHODS as VARIANTS
from .single import all_uses, jobs_of
from .workbench import Workbench

# At the biases of the other rows: more to choose from would be an advantage.
BASE = replace(next(variant for variant in VARIANTS if variant.label == PERFUSION), knobs=ABLATION_BIASES)
Rows = list[dict[str, Any]]


def wanted(size: Size) -> list[Variant]:
    """The ablations of a run."""
    return [one for one in ABLATIONS if size.ablations is None or one.label in size.ablations]


def jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> list[Job]:
    """The jobs of the table, one row after the other."""
    things = things_of(size)
    return [
        one
        for seed in range(size.ablation_seeds)
        for variant in (BASE, *wanted(size))
        for one in jobs_of(bench, size, all_uses(size, [variant], tuned, things), things, seed)
    ]


def things_of(size: Size) -> tuple[str, ...]:
    """The things on which the ablations are tried: of tuning, so that no held-out thing chooses anything."""
    return size.tuning[: size.ablation_things]


def measure(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]]) -> tuple[Rows, list[str]]:
    """One row for each ablation that is measured, against the default on the same things; and what is missing."""
    things, rows, missing = things_of(size), [], []
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
