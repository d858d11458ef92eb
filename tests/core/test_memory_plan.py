"""How many pictures go through the model at once: the arithmetic, its words, what is counted, and slow steps."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from toy_training import ToyTask, start

from perfusion_core import training_run
from perfusion_core.errors import PerfusionError
from perfusion_core.live_memory import LiveMemory
from perfusion_core.memory_plan import HEADROOM, PictureCost, memory_plan, pictures_in
from perfusion_core.step_pace import IN_A_ROW, TIMES, StepPace
from perfusion_core.training_run import step_within_memory, train
from perfusion_core.training_status import TrainingStatus
from perfusion_core.training_trial import try_one_picture

GB = 10**9


@pytest.mark.parametrize(
    ("free", "micro_batch", "checkpointing"),
    [
        (100, 8, False),
        (45, 8, False),  # 8 x 5 x 1.1 = 44
        (43, 4, False),  # 7 find room; two passes of 4 take less than one of 7 and one of 1
        (17, 3, False),
        (6, 1, False),
        (5.4, 8, True),
        (3, 4, True),
        (0.6, 1, True),
        (0.4, 1, True),
        (-1, 1, True),
    ],
)
def test_as_many_pictures_as_find_room_in_equal_parts(free, micro_batch, checkpointing):
    plan = memory_plan(8, int(free * GB), PictureCost(5 * GB), PictureCost(GB // 2))
    assert (plan.micro_batch, plan.gradient_checkpointing) == (micro_batch, checkpointing)
    assert plan.fits == (free > 0.55)
    assert not plan.fits or plan.micro_batch * plan.cost.memory * HEADROOM <= plan.free


@pytest.mark.parametrize(("size", "said"), [(1, "one picture at a time ("), (2, "all 2 pictures at once (")])
def test_small_batches_are_said_in_words(size, said):
    assert memory_plan(size, 20 * GB, PictureCost(GB)).text().startswith(said)


def test_no_room_holds_nothing():
    assert pictures_in(10, None) == pictures_in(-5, PictureCost(1)) == pictures_in(0, PictureCost(0)) == 0


@pytest.mark.parametrize(
    ("plain", "checkpointed", "free", "said"),
    [
        (0.8, None, 20, "all 8 pictures at once (0.8 GB for one; 20.0 GB free)"),
        (0.8, None, 2, "2 pictures at a time (0.8 GB for one; 2.0 GB free)"),
        (0.01, None, 20, "all 8 pictures at once (0.01 GB for one; 20.0 GB free)"),
        (
            *(5.4, 0.8, 3.2),
            "3 pictures at a time with gradient checkpointing (0.8 GB for one, 5.4 GB without it; 3.2 GB free)",
        ),
        (None, 0.8, 3.2, "3 pictures at a time with gradient checkpointing (0.8 GB for one; 3.2 GB free)"),
        (
            *(5.4, 0.8, 0.5),
            "one picture at a time with gradient checkpointing (0.8 GB for one, 5.4 GB without it; 0.5 GB free); that"
            " may be too much: close other programs or take a smaller type of model",
        ),
        (
            *(None, None, 0.5),
            "one picture at a time with gradient checkpointing (more than the 0.5 GB free for one); that may be too"
            " much: close other programs or take a smaller type of model",
        ),
    ],
)
def test_it_is_said_what_was_decided_and_why(plain, checkpointed, free, said):
    costs = (cost and PictureCost(int(cost * GB)) for cost in (plain, checkpointed))
    assert memory_plan(8, int(free * GB), *costs).text() == said


def test_one_picture_is_tried_and_nothing_is_left_of_it():
    tried, untouched = (start(ToyTask(noise=0.3), form="lockable") for _ in range(2))
    for _ in range(3):
        try_one_picture(tried, 1)
        assert all(parameter.grad is None for parameter in tried.parameters().values())
        assert len(tried.task.batches[-1].pictures) == 1
        tried.step()
        untouched.step()
    for name, tensor in tried.state().tensors.items():
        assert torch.equal(tensor, untouched.state().tensors[name]), name


def test_what_is_learned_does_not_depend_on_the_micro_batch():
    """Templates, noise, levels and locks of a step, its validations, and captions that hold the word twice."""
    trainers = [start(ToyTask(noise=0.5), form="lockable", validate_every=2, accumulation=2) for _ in range(4)]
    for trainer, size in zip(trainers, (8, 3, 2, 1), strict=True):
        trainer.micro_batch = size
        train(trainer, lambda report: None)
        assert max(len(batch.pictures) for batch in trainer.task.batches[8:]) == size
    whole = trainers[0].state()
    for trainer in trainers[1:]:
        assert trainer.losses == pytest.approx(trainers[0].losses, rel=1e-4)
        errors = [[one.error for one in other.choice.validations] for other in (trainers[0], trainer)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-4) and len(errors[0]) == 11
        for name, tensor in trainer.state().tensors.items():
            assert torch.allclose(tensor, whole.tensors[name], rtol=1e-3, atol=1e-4), name


def test_where_one_picture_is_too_much_checkpointing_comes_before_the_end():
    class Narrow(ToyTask):
        def loss(self, batch, *more):
            self.room = 1 if self.gradient_checkpointing else 0
            return super().loss(batch, *more)

    trainer = start(Narrow(), batch_size=2)
    step_within_memory(trainer, lambda: None)
    assert (trainer.micro_batch, trainer.task.gradient_checkpointing, trainer.step_number) == (1, True, 1)
    with pytest.raises(PerfusionError, match="a single picture at a time and gradient checkpointing"):
        step_within_memory(start(ToyTask(room=0)), lambda: None)


def test_live_memory_is_that_of_tensors_that_live():
    before = torch.zeros(1000)
    with LiveMemory() as memory:
        one = torch.zeros(1000)
        view = one[10:]
        before.add_(1)
        assert memory.now == 4000
        two = one * 2
        assert memory.now == 8000
        del one, two
        assert memory.now == 4000
        del view
        torch.zeros(10)
    assert (memory.now, memory.peak) == (0, 8000)


def test_several_slow_steps_in_a_row_are_told():
    pace = StepPace(expected=2.0)
    assert [pace.slowdown(seconds) for seconds in (2.0, 20.0, 20.0, 1.0)] == [None] * 4
    assert [pace.slowdown(20.0) for _ in range(4)] == [None] * (IN_A_ROW - 1) + [20.0, 20.0]
    assert pace.slowdown(TIMES - 0.5) is None, "one that is fast enough begins anew"
    unknown = StepPace()
    assert [unknown.slowdown(seconds) for seconds in (1.0, 5.0, 5.0, 5.0)] == [None, None, None, 5.0]


def test_a_slow_training_warns_once_and_shows_it_while_it_lasts(monkeypatch, caplog):
    clock = iter([second for step in range(8) for second in (100 * step, 100 * step + (1 if step < 2 else 9))])
    monkeypatch.setattr(training_run.time, "monotonic", lambda: next(clock))
    reports = []
    with caplog.at_level(logging.WARNING):
        train(start(steps=8), reports.append, pace=StepPace(1.0))
    assert [report.slowdown for report in reports] == [None] * 4 + [9.0] * 4
    assert [record.message[:36] for record in caplog.records] == ["Steps take 9 times what they should:"]
    assert "9 times slower than it should be: memory may be spilling" in TrainingStatus().line(reports[-1])
    assert "slower" not in TrainingStatus().line(replace(reports[-1], slowdown=None))
