"""A sweep: the settings of a table of runs, what its columns and rows are called, and how long they took."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..perfusion_core.errors import PerfusionError, quoted
from . import advice

MOST_NUMBERS, MOST_RUNS = 64, 256
_HIGHEST_SEED = 2**64 - 1
SEED = "seed"


class Axis(NamedTuple):
    """What may be swept: the input with its numbers, what one of them is called, and which it may be."""

    input: str
    setting: str
    low: float
    high: float
    example: str


AXES = (
    Axis("biases", "bias", advice.LOWEST_BIAS, advice.HIGHEST_BIAS, advice.in_words(advice.SWEPT_BIASES)),
    Axis("strengths", "strength", 0.0, 2.0, "0, 0.5, 1"),
    Axis("temperatures", "temperature", 0.01, 1.0, f"{advice.TEMPERATURE:g}, {advice.LEAKING_TEMPERATURE:g}"),
    Axis("locks", "lock", 0.0, 1.0, "0, 0.5, 1"),
    Axis("seeds", SEED, 0, _HIGHEST_SEED, "1, 2, 3"),
)


@dataclass(frozen=True)
class Sweep:
    """across, down: what columns and rows are called; one row without a name where there is but one list of numbers.
    runs: the settings of each run by their names, row after row.  seconds: how long each took last, None before."""

    across: tuple[str, ...]
    down: tuple[str, ...]
    runs: tuple[Mapping[str, float], ...]
    seconds: list[float | None] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """What each run is called."""
        return [label(run) for run in self.runs]

    def row_of_seconds(self, row: int) -> float | None:
        """How long a row took, None where that is not known of all of it."""
        part = self.seconds[row * len(self.across) : (row + 1) * len(self.across)]
        return None if not part or None in part else sum(second for second in part if second is not None)


def label(settings: Mapping[str, float]) -> str:
    """Settings in words: "bias 0.5, seed 3"."""
    return ", ".join(f"{name} {number:g}" if name != SEED else f"{name} {number}" for name, number in settings.items())


def read_sweep(texts: Mapping[str, str]) -> Sweep:
    """The sweep over the numbers in these texts, by the names of the inputs; an empty text is no axis.

    The first axis goes across, all others together down.  Raises PerfusionError for what is no number that may be
    swept, for no axis at all, and for too many runs.
    """
    axes = [axis for axis in AXES if texts.get(axis.input, "").strip(" \t\n,;")] or [AXES[0]]
    numbers = {axis.setting: read_numbers(axis, texts.get(axis.input, "")) for axis in axes}
    (first, columns), *others = numbers.items()
    runs = math.prod(map(len, numbers.values()))
    if runs > MOST_RUNS:
        raise PerfusionError(
            f"The inputs {', '.join(axis.input for axis in axes)} expected at most {MOST_RUNS} runs together, but found"
            f" {runs}; write fewer numbers."
        )
    rows = [
        dict(zip([name for name, _ in others], row, strict=True)) for row in itertools.product(*dict(others).values())
    ]
    return Sweep(
        tuple(label({first: number}) for number in columns),
        tuple(label(row) for row in rows),
        tuple({first: number, **row} for row in rows for number in columns),
        [None] * runs,
    )


def read_numbers(axis: Axis, text: str) -> list[float]:
    """The numbers in a text, separated by commas, semicolons or white space.

    Raises PerfusionError for what is no number of the axis, for none, and for more than MOST_NUMBERS.
    """
    found: list[float] = []
    for part in text.replace(",", " ").replace(";", " ").split():
        number = _number(part, axis.setting == SEED)
        if number is None or not axis.low <= number <= axis.high:
            raise PerfusionError(
                f"The input {axis.input} expected numbers from {axis.low:g} to {axis.high:g}, but found {quoted(part)};"
                f" write them as {axis.example}."
            )
        found.append(number)
    if not 1 <= len(found) <= MOST_NUMBERS:
        raise PerfusionError(
            f"The input {axis.input} expected 1 to {MOST_NUMBERS} numbers, but found {len(found)}; write them as"
            f" {axis.example}."
        )
    return found


def _number(text: str, whole: bool) -> float | None:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None


def settings_of(run: Mapping[str, float]) -> dict[str, float]:
    """What of a run's settings is set on a gate."""
    return {name: number for name, number in run.items() if name != SEED}


def seeds_of(runs: Sequence[Mapping[str, float]]) -> list[int]:
    """The seed of each run, 0 where none are swept."""
    return [int(run.get(SEED, 0)) for run in runs]
