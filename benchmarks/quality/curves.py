"""Lines of tables, curves and comparisons, from samples [things, seeds, COLUMNS] of methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import single
from .measures import Interval, Point, bootstrap, chosen_elsewhere, harmonic_mean, smallest_lead
from .plan import AS_USED, LOCK_BIASES, LOCKED, MASKED, METHODS, OURS, PERFUSION, YARDSTICK

Samples = Mapping[float, np.ndarray]  # by knob: [things, seeds, single.COLUMNS]
KIND_OF = {variant.label: variant.kind for variant in METHODS}
BEST = "perfusion at its best"  # of all rows of Perfusion
OF_THE_CURVE = (PERFUSION, *LOCKED.values())  # the curve over bias and lock


def row(label: str, knob: float | str, samples: np.ndarray) -> dict[str, Any]:
    """A line of a table from [things, seeds, COLUMNS]."""
    columns = {name: bootstrap(samples[:, :, [i]], lambda m: m[..., 0]) for i, name in enumerate(single.COLUMNS[:2])}
    together = bootstrap(samples[:, :, :2], lambda means: harmonic_mean(means[..., 0], means[..., 1]))
    others = {name: _mean(samples[:, :, i]) for i, name in enumerate(single.COLUMNS) if i >= 2}
    return {"method": label, "knob": knob, **columns, "harmonic mean": together, **others}


def _mean(values: np.ndarray) -> float | str:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else ""


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


def lead_at_one_knob(mine: Samples, theirs: Samples, obedience: int = 0) -> Interval:
    """By how much the harmonic mean of one method is above another's, each with the knob that is best over all things,
    chosen anew whenever things are drawn.  obedience: the column that is taken for it."""
    both = np.concatenate([found[:, :, [obedience, 1]] for of in (mine, theirs) for found in of.values()], axis=2)
    count = len(mine)

    def statistic(means: np.ndarray) -> np.ndarray:
        reached = harmonic_mean(means[..., 0::2], means[..., 1::2])
        return reached[..., :count].max(axis=-1) - reached[..., count:].max(axis=-1)

    return bootstrap(both, statistic)


def best_rows(samples: Mapping[str, Samples]) -> list[dict[str, Any]]:
    """Each method at its own best knob, for every thing that which is best on the others.  Beside the other methods the
    lead of Perfusion, with the settings that its tuning chose as theirs did; the same with one knob for all things, and
    where backgrounds count by their labels; and that of the best of all its rows."""
    own = {
        (label, knob): found for label, of in samples.items() if KIND_OF[label] == OURS for knob, found in of.items()
    }
    settings, best = chosen_elsewhere(own)
    mine = chosen_elsewhere(samples[PERFUSION])[1]
    rows = [{"kind": OURS, **row(BEST, _counted([f"{label} {knob:g}" for label, knob in settings]), best)}]
    for label, of_knob in samples.items():
        knobs, theirs = chosen_elsewhere(of_knob)
        line = {"kind": KIND_OF[label], **row(label, _counted([f"{knob:g}" for knob in knobs]), theirs)}
        if KIND_OF[label] in (AS_USED, MASKED):
            curves = [curve(samples[name]) for name in OF_THE_CURVE if name in samples]
            line["Perfusion's lead"] = lead(np.concatenate([mine, theirs], axis=2))
            line["lead at one knob"] = lead_at_one_knob(samples[PERFUSION], of_knob)
            line["lead by labels"] = lead_at_one_knob(samples[PERFUSION], of_knob, single.BY_LABELS)
            line["lead at its best"] = lead(np.concatenate([best, theirs], axis=2))
            for name, of in (("least lead of the curve", curves), ("of the biases", curves[:1])):
                least = smallest_lead(of, curve(of_knob))
                line[name] = "never as obedient" if least is None else least
        rows.append(line)
    columns = dict.fromkeys(["method", "kind", "knob", *(name for line in reversed(rows) for name in line)])
    return [{name: line.get(name, "") for name in columns} for line in rows if line["kind"] != YARDSTICK]


def lock_rows(condition: str, samples: Mapping[str, Samples]) -> list[dict[str, Any]]:
    """What the lock costs and buys under a condition: one row for each lock, all at one bias, against lock 0."""
    at = {lock: samples[label][LOCK_BIASES[0]] for lock, label in LOCKED.items() if label in samples}
    rows = []
    for lock, found in at.items():
        line = row("", LOCK_BIASES[0], found)
        against = np.concatenate([found, at[min(at)]], axis=2)
        gains = {f"{name} gained": _difference(against, i) for i, name in enumerate(single.COLUMNS[:2])}
        shown = {name: line[name] for name in ("obedience", "likeness", "harmonic mean", "median rank", "thing right")}
        rows.append({"condition": condition, "lock": lock, **shown, **gains})
    return rows


def _difference(both: np.ndarray, column: int) -> Interval:
    return bootstrap(both[:, :, [column, column + len(single.COLUMNS)]], lambda m: m[..., 0] - m[..., 1])


def _counted(names: Sequence[str]) -> str:
    """The names, the commonest first, with how often each was chosen where that is not always."""
    counts = Counter(names).most_common()
    return ", ".join(name if len(counts) == 1 else f"{name} ({count})" for name, count in counts)
