"""The one exception that the pack raises for bad input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from reprlib import Repr
from typing import Any

_QUOTE = Repr()
_QUOTE.maxstring = _QUOTE.maxother = _QUOTE.maxlong = 80


def quoted(value: object) -> str:
    """Return the value as a sentence quotes it: on one line, in signs that print, and cut where it is long."""
    return _QUOTE.repr(value)


class PerfusionError(ValueError):
    """Bad input, told in one sentence: what it is about, what was expected, what was found, what to do."""

    # The host's dialog puts the full name of the class before the sentence, where the folder of the pack would stand.
    __module__, __qualname__ = "perfusion", "Error"

    def __reduce__(self) -> tuple[Callable[..., PerfusionError], tuple[Any, ...]]:
        # pickle and copy would look for the class under the name above.
        return _again, (type(self).__name__, self.args, vars(self))


def with_advice(problem: PerfusionError, advice: str) -> PerfusionError:
    """Return the same sentence with other words behind its last semicolon, for whoever knows better what to do."""
    return PerfusionError(f"{str(problem).rpartition(';')[0] or str(problem).rstrip('.')}; {advice}.")


class GradientOverflowError(PerfusionError):
    """A training step whose gradients left the range of numbers, which a smaller scale of them may cure."""


class DependentConceptsError(PerfusionError):
    """Concepts that cannot be told apart in the text encoder's metric; `indices` says which of the list given."""

    __module__, __qualname__ = "perfusion", "DependentConceptsError"

    def __init__(self, message: str, indices: Sequence[int]) -> None:
        super().__init__(message)
        self.indices = tuple(indices)


def _again(name: str, arguments: tuple[Any, ...], state: dict[str, Any]) -> PerfusionError:
    error = ValueError.__new__(globals()[name], *arguments)
    vars(error).update(state)
    return error
