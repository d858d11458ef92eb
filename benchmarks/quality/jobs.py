"""Jobs: pieces of work that can be counted before they are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .cache import NUMBERS, Cache


class Cell(NamedTuple):
    """One file of the cache."""

    kind: str
    facts: Mapping[str, Any]
    suffix: str = NUMBERS

    def is_done(self, cache: Cache) -> bool:
        return cache.has(self.kind, self.facts, self.suffix)


@dataclass(frozen=True)
class Job:
    """A reading with all that it needs: `cells`, in the order in which `do` makes them."""

    cells: Sequence[Cell]
    do: Callable[[], Any]
