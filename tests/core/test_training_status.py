"""perfusion_core.training_status: the line of text under the node."""

from __future__ import annotations

import dataclasses

import pytest

from perfusion_core.training_status import StepReport, TrainingStatus, duration


def report(step: int, loss: float, best_step: int | None = None) -> StepReport:
    return StepReport(step, 300, loss, similarity=0.97, gate=0.91, best_step=best_step)


def test_the_line_says_step_and_time_left_first_then_loss_gate_and_memory():
    ticks = iter([100.0, 100.5, 101.1])
    status = TrainingStatus(clock=lambda: next(ticks))
    assert status.line(report(1, 0.5)) == "step 1 of 300 · 2 min 30 s left · loss 0.500 · gate 0.91"
    line = status.line(report(2, 0.3, best_step=25), "memory 1.2 of 4.0 GB")
    assert line == "step 2 of 300 · 2 min 44 s left · loss 0.400 · gate 0.91 · best step 25 · memory 1.2 of 4.0 GB"


def test_the_line_after_the_last_step_says_what_happens_next():
    line = TrainingStatus().line(report(300, 0.5))
    assert line.startswith("step 300 of 300 · choosing the best step · loss 0.500")


def test_the_line_says_that_validating_was_given_up():
    given_up = dataclasses.replace(report(1, 0.5), validation_given_up=True)
    line = TrainingStatus().line(given_up, "memory 1.2 of 4.0 GB")
    assert line.endswith("memory ran out while validating: the last step is taken · memory 1.2 of 4.0 GB")


def test_the_time_of_a_resumed_training_counts_only_its_own_steps():
    ticks = iter([0.0, 2.0])
    line = TrainingStatus(lambda: next(ticks)).line(report(200, 0.1))
    assert line.startswith("step 200 of 300 · 3 min 20 s left")  # 2 s for each of 100


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3900, "1 h 5 min")],
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected
