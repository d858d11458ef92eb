"""The one exception that the pack raises for bad input."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import Repr

_QUOTE = Repr()
_QUOTE.maxstring = _QUOTE.maxother = _QUOTE.maxlong = 80


def quoted(value: object) -> str:
    """Return the value as a sentence quotes it: on one line, in signs that print, and cut where it is long."""
    return _QUOTE.repr(value)


class PerfusionError(ValueError):
    """Bad input, told in one sentence: what it is about, what was expected, what was found, what to do."""


class GradientOverflowError(PerfusionError):
    """A training step whose gradients left the range of numbers, which a smaller scale of them may cure."""


class DependentConceptsError(PerfusionError):
    """Concepts that cannot be told apart in the text encoder's metric; `indices` says which of the list given."""

    def __init__(self, message: str, indices: Sequence[int]) -> None:
        super().__init__(message)
        self.indices = tuple(indices)
