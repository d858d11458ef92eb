"""Noticing that steps take several times what they should.

Where graphics memory runs out, some drivers (on Windows) move it into main memory instead of failing, and a training
crawls without a word.
"""

from __future__ import annotations

TIMES, IN_A_ROW = 4.0, 3  # a single slow step says nothing


class StepPace:
    """The time of steps against what they should take.

    expected: seconds of a step by what one picture took; None for what the fastest step so far took.
    """

    def __init__(self, expected: float | None = None) -> None:
        self._should = expected
        self._slow = 0

    def slowdown(self, seconds: float) -> float | None:
        """After a step: how many times too long it took, where the last few all took several times too long."""
        factor = None if self._should is None else seconds / max(self._should, 1e-9)
        self._slow = self._slow + 1 if factor is not None and factor >= TIMES else 0
        self._should = seconds if self._should is None else min(self._should, seconds)
        return factor if self._slow >= IN_A_ROW else None
