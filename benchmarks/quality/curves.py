"""Lines of tables, curves and comparisons, from samples [things, seeds, COLUMNS] of methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import single
from .measures import Interval, Point, bootstrap, harmonic_mean, smallest_lead
from .plan import PERFUSION

Samples = Mapping[float, np.ndarray]  # by knob: [things, seeds, single.COLUMNS]


def row(label: str, knob: float, samples: np.ndarray) -> dict[str, Any]:
    """A line of a table from [things, seeds, COLUMNS]."""
    columns = {name: bootstrap(samples[:, :, [i]], lambda m: m[..., 0]) for i, name in enumerate(single.COLUMNS[:2])}
    others = {name: float(samples[:, :, i].mean()) for i, name in enumerate(single.COLUMNS) if i >= 2}
    together = bootstrap(samples[:, :, :2], lambda means: harmonic_mean(means[..., 0], means[..., 1]))
    return {"method": label, "knob": knob, **columns, "harmonic mean": together, **others}


def curve(samples: Samples) -> list[Point]:
    """The points of a method, over all things in the samples."""
    return [single.point_of(found.mean(axis=(0, 1)), knob) for knob, found in samples.items()]


def lead(both: np.ndarray) -> Interval:
    """By how much the harmonic mean of the first of two methods side by side is above that of the second."""
    other = len(single.COLUMNS)
    return bootstrap(
        both[:, :, [0, 1, other, other + 1]],
        lambda m: harmonic_mean(m[..., 0], m[..., 1]) - harmonic_mean(m[..., 2], m[..., 3]),
    )


def comparison(
    label: str, curves: Mapping[str, list[Point]], knobs: Mapping[str, float], samples: Mapping[str, Samples]
) -> dict[str, Any]:
    """Perfusion local against one method."""
    mine, theirs = samples[PERFUSION][knobs[PERFUSION]], samples[label][knobs[label]]
    least = smallest_lead(curves[PERFUSION], curves[label])
    return {
        "method": label,
        "lead in harmonic mean": lead(np.concatenate([mine, theirs], axis=2)),
        "smallest lead of the curve": "never as obedient" if least is None else least,
    }
