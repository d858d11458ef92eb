"""The one exception that the pack raises for bad input."""

from __future__ import annotations

from collections.abc import Sequence


class PerfusionError(ValueError):
    """Bad input, told in one sentence: what it is about, what was expected, what was found, what to do."""


class DependentConceptsError(PerfusionError):
    """Concepts that cannot be told apart in the text encoder's metric; `indices` says which of the list given."""

    def __init__(self, message: str, indices: Sequence[int]) -> None:
        super().__init__(message)
        self.indices = tuple(indices)
