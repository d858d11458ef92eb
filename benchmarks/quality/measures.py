"""What the benchmark measures, as pure functions of what was read in the pictures.

obedience    share of the asked attributes found / that share for the superclass word    1 = as obedient as it
likeness     share of the pictures that are this thing and none of 200 others of its kind, and no farther from it than
             its look-alikes are / that share for real pictures of the thing, the ceiling                0 .. 1
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)


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


def share_of_ceiling(first: np.ndarray, ceiling: float) -> np.ndarray:
    """Likeness: shares of pictures that come first, any shape, in units of that share for real pictures.

    Raises ValueError where no real picture comes first, which leaves nothing to compare with."""
    if not ceiling > 0:
        raise ValueError(f"Some real pictures of the thing must come first, but their share is {ceiling}.")
    return np.asarray(first, dtype=float) / ceiling


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
    curves: Sequence[Sequence[Point]], other: Sequence[Point], start: float = 0.9, end: float = 1.0
) -> float | None:
    """The least by which the best of `curves` is more like the thing than `other` where both reach the obedience,
    start..end.

    Negative where `other` is above; minus infinity where only `other` reaches an obedience; None where `other` never
    reaches `start`."""
    leads = []
    for level in np.linspace(start, end, 31):
        reached = [found for curve in curves if (found := likeness_at(curve, level)) is not None]
        theirs = likeness_at(other, level)
        if theirs is not None:
            leads.append(max(reached) - theirs if reached else -np.inf)
    return float(min(leads)) if leads else None


def chosen_elsewhere(samples: Mapping[Key, np.ndarray]) -> tuple[list[Key], np.ndarray]:
    """For each thing the setting whose harmonic mean is best on all the *other* things, and what it has on this one.

    So no number is reported that its own setting was chosen by.  samples: [things, seeds, columns] by setting, the
    first two columns obedience and likeness.  Returns a setting for each thing, and [things, seeds, columns].  A single
    thing has no others and chooses for itself."""
    settings, together = list(samples), np.stack(list(samples.values()))
    things = together.shape[1]
    chosen = []
    for thing in range(things):
        others = [index for index in range(things) if index != thing] or [thing]
        means = together[:, others].mean(axis=(1, 2))
        chosen.append(int(np.argmax(harmonic_mean(means[:, 0], means[:, 1]))))
    return [settings[index] for index in chosen], np.stack([together[c, t] for t, c in enumerate(chosen)])


def both_right(found: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]) -> dict[str, bool]:
    """Judges a picture of two things; found, asked: (category, thing) of its main and of its second object.

    right: both things are there, each in its place; two of one kind may change places.  swapped: at least one has the
    other's look; of two of one kind, the same thing is there twice.  lost: at least one category is not there."""
    (main, second), (one, other) = found, asked
    lost = main[0] != one[0] or second[0] != other[0]
    if one[0] == other[0]:
        twice = main[1] == second[1] and main[1] in (one[1], other[1])
        return {"right": not lost and {main[1], second[1]} == {one[1], other[1]}, "swapped": twice, "lost": lost}
    return {
        "right": (main, second) == (one, other),
        "swapped": main[1] == other[1] or second[1] == one[1],
        "lost": lost,
    }
