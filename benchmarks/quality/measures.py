"""What the benchmark measures, as pure functions of what was read in the pictures.

Obedience and likeness are normalised for each thing by two yardsticks that every thing has: pictures of the plain
superclass word on the same prompts and seeds, and real pictures of the thing in the scenes that the prompts ask for.

    obedience    share of the asked attributes found / that share for the superclass word    1 = as obedient as it
    likeness     (look - look of the superclass) / (look of the real thing - look of the superclass)       0 .. 1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Below this difference in the cosine the recogniser does not tell the thing from its superclass.
LEAST_SPAN = 0.02


@dataclass(frozen=True)
class Interval:
    """A number with the ends of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def attribute_share(found: Mapping[str, bool]) -> float:
    """Share of the asked attributes that were found, 0..1.  Raises ValueError where nothing was asked."""
    if not found:
        raise ValueError("A prompt must ask for at least one attribute.")
    return sum(map(bool, found.values())) / len(found)


def obedience(shares: np.ndarray, superclass_share: float) -> np.ndarray:
    """Shares of found attributes, any shape, in units of the superclass word's mean share.

    Raises ValueError where the superclass word finds nothing, which leaves nothing to compare with."""
    if not superclass_share > 0:
        raise ValueError(f"The superclass word must find some attributes, but its share is {superclass_share}.")
    return np.asarray(shares, dtype=float) / superclass_share


def likeness(values: np.ndarray, superclass_value: float, real_value: float) -> np.ndarray:
    """Similarities to the thing, any shape, on the scale on which its superclass is 0 and the real thing is 1.

    Raises ValueError where the two yardsticks are too close together to measure with."""
    if real_value - superclass_value < LEAST_SPAN:
        raise ValueError(
            f"The real thing must be more like itself than its superclass is by at least {LEAST_SPAN}, but the"
            f" similarities are {real_value:.3f} and {superclass_value:.3f}; the recogniser cannot tell them apart."
        )
    return (np.asarray(values, dtype=float) - superclass_value) / (real_value - superclass_value)


def harmonic_mean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Harmonic mean of obedience and likeness, each first cut to 0..1, so that neither buys off a lack of the other."""
    one, other = np.clip(one, 0, 1), np.clip(other, 0, 1)
    total = one + other
    return np.where(total > 0, 2 * one * other / np.where(total > 0, total, 1), 0.0)


def bootstrap(
    samples: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    replicates: int = 2000,
    seed: int = 0,
) -> Interval:
    """The statistic of the mean, with its interval under resampling of things and, within each, of seeds.

    samples: [things, seeds, columns].  statistic: [..., columns] -> [...].  To compare two methods put the columns of
    both side by side: things and seeds are then resampled for both together, and the difference has a narrower
    interval.  Raises ValueError for another number of dimensions, no sample, or numbers that are not finite."""
    samples = np.asarray(samples, dtype=float)
    if samples.ndim != 3 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"The bootstrap needs finite samples [things, seeds, columns], not {samples.shape}.")
    things, seeds, _ = samples.shape
    rng = np.random.default_rng(seed)
    chosen_things = rng.integers(things, size=(replicates, things))
    chosen_seeds = rng.integers(seeds, size=(replicates, things, seeds))
    resampled = samples[chosen_things[:, :, None], chosen_seeds].mean(axis=(1, 2))
    low, high = np.percentile(statistic(resampled), [2.5, 97.5])
    return Interval(float(statistic(samples.mean(axis=(0, 1)))), float(low), float(high))


@dataclass(frozen=True)
class Point:
    """A method at one setting of its knob."""

    knob: float
    obedience: float
    likeness: float

    @property
    def harmonic_mean(self) -> float:
        return float(harmonic_mean(self.obedience, self.likeness))


def best_point(points: Sequence[Point]) -> Point:
    """The point of the highest harmonic mean."""
    return max(points, key=lambda point: point.harmonic_mean)


def likeness_at(points: Sequence[Point], obedience: float) -> float | None:
    """Likeness of a method's curve at an obedience; None where the curve does not reach that obedience.

    The curve joins the points in the order of the knob, linearly.  A method may be turned down, so the likeness of a
    point also counts at every lower obedience: the highest likeness with at least the obedience asked for."""
    ordered = sorted(points, key=lambda point: point.knob)
    reached = [point.likeness for point in ordered if point.obedience >= obedience]
    for one, other in zip(ordered, ordered[1:], strict=False):
        low, high = sorted((one, other), key=lambda point: point.obedience)
        if low.obedience < obedience <= high.obedience:
            share = (obedience - low.obedience) / (high.obedience - low.obedience)
            reached.append(low.likeness + share * (high.likeness - low.likeness))
    return max(reached, default=None)


def smallest_lead(
    curve: Sequence[Point], other: Sequence[Point], start: float = 0.85, end: float = 1.0
) -> float | None:
    """The least by which `curve` is more like the thing than `other` where both reach the obedience, start..end.

    Negative where `other` is above; minus infinity where only `other` reaches an obedience; None where `other` never
    reaches `start`."""
    leads = []
    for level in np.linspace(start, end, 31):
        mine, theirs = likeness_at(curve, level), likeness_at(other, level)
        if theirs is not None:
            leads.append(-np.inf if mine is None else mine - theirs)
    return float(min(leads)) if leads else None


def both_right(found: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]) -> dict[str, bool]:
    """Judges a picture of two things; found, asked: (category, thing) of its main and of its second object.

    right: each thing once, in its place.  swapped: at least one has the other's look.  lost: at least one category is
    not there."""
    (main, second), (one, other) = found, asked
    return {
        "right": (main, second) == (one, other),
        "swapped": main[1] == other[1] or second[1] == one[1],
        "lost": main[0] != one[0] or second[0] != other[0],
    }
