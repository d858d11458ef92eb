"""What a training says of its steps, and what a person reads of them, in one line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW = 25  # steps over which loss and time of a step are averaged


@dataclass(frozen=True)
class StepReport:
    """What a step says of itself: its number from 1 on, the loss, and the word's mean similarity and gate.

    best_step: the best of those that were validated so far, None before the first.  validation_given_up: whether memory
    ran out while a step was validated, so that the last step will be taken.  slowdown: how many times too long the last
    few steps took, where that is several times.
    """

    step: int
    steps: int
    loss: float
    similarity: float
    gate: float
    best_step: int | None = None
    validation_given_up: bool = False
    slowdown: float | None = None


class TrainingStatus:
    """Turns step reports into lines of text.

    clock: seconds, for tests.  Make it when the training starts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._times: deque[float] = deque([clock()], maxlen=WINDOW + 1)

    def line(self, report: StepReport, memory: str = "") -> str:
        """The line after a step: what one waits for first, since a narrow node shows no more.

        memory: text of what is in use, left out where empty.
        The time of a step holds all that was done meanwhile, so that the time left is what one has to wait.
        """
        self._losses.append(report.loss)
        self._times.append(self._clock())
        each = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        last = report.step == report.steps
        parts = [
            f"step {report.step} of {report.steps}",
            "choosing the best step" if last else f"{duration(each * (report.steps - report.step))} left",
            f"loss {sum(self._losses) / len(self._losses):.3f}",
            f"gate {report.gate:.2f}",
        ]
        if report.best_step is not None:
            parts.append(f"best step {report.best_step}")
        if report.validation_given_up:
            parts.append("memory ran out while validating: the last step is taken")
        if report.slowdown:
            parts.append(f"{report.slowdown:.0f} times slower than it should be: memory may be spilling")
        if memory:
            parts.append(memory)
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them: "45 s", "3 min 20 s", "1 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
