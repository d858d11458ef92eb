"""The lock in training, drawn for each sample; and gradients that overflow."""

from __future__ import annotations

import pytest
import torch
from toy_training import ToyTask, assert_same_state, start

from perfusion_core.edit import edit_encoding
from perfusion_core.errors import GradientOverflowError, PerfusionError
from perfusion_core.step_choice import validation_batches
from perfusion_core.training import TrainingSettings
from perfusion_core.training_run import step_within_memory, train


def locks_of(task: ToyTask) -> torch.Tensor:
    return torch.cat([batch.locks for batch in task.batches])


def test_half_of_the_samples_are_locked_and_the_others_not():
    task = ToyTask()
    train(start(task, form="lockable", steps=40), lambda report: None)
    drawn = locks_of(task)
    assert set(drawn.tolist()) == {0.0, 1.0} and 0.4 < drawn.mean() < 0.6


@pytest.mark.parametrize("changes", [{"form": "unlocked"}, {"form": "gated"}, {"form": "lockable", "lock": 1.0}])
def test_other_trainings_draw_no_lock_and_what_they_drew_before(changes):
    """A new draw would change every training of old."""
    other, usual = ToyTask(), ToyTask()
    train(start(other, **changes), lambda report: None)
    train(start(usual), lambda report: None)
    assert all(batch.locks is None for batch in other.batches)
    for one, two in zip(other.batches, usual.batches, strict=True):
        assert torch.equal(one.pictures, two.pictures) and torch.equal(one.templates, two.templates)


def test_each_sample_is_edited_with_its_lock():
    trainer = start(form="lockable")
    batch = trainer._draw()
    _, encodings, _, edited = trainer.loss(batch, trainer.settings.templates, trainer.generator)
    assert len(set(batch.locks.tolist())) == 2
    for row, lock in enumerate(batch.locks.tolist()):
        alone = edit_encoding(encodings[row], [trainer.edit(torch.tensor([lock]))])
        assert torch.allclose(edited.key_context[row], alone.key_context[0], atol=1e-6)


def test_a_micro_batch_keeps_the_locks_of_its_samples():
    whole, parted = ToyTask(), ToyTask(room=3)
    for task in (whole, parted):
        step_within_memory(start(task, form="lockable"), lambda: None)
    parts = [batch for batch in parted.batches if len(batch.pictures) <= 3][-4:]
    assert torch.equal(torch.cat([batch.locks for batch in parts])[:8], locks_of(whole))


def test_a_validation_measures_half_of_its_samples_with_each_lock():
    locks = torch.cat([batch.locks for batch, _ in validation_batches(3, 12, both_locks=True)])
    assert locks.tolist() == [0, 0, 1, 1] * 3
    assert all(batch.locks is None for batch, _ in validation_batches(3, 12))


def test_forty_steps_are_twenty_and_twenty_more_with_drawn_locks():
    straight, first = start(form="lockable", steps=40, validate_every=5), start(form="lockable", steps=40)
    first = start(form="lockable", steps=20, validate_every=5)
    train(straight, lambda report: None)
    train(first, lambda report: None)
    second = start(form="lockable", steps=40, validate_every=5)
    second.restore(first.state())
    train(second, lambda report: None)
    assert_same_state(second, straight)


@pytest.mark.parametrize(("lock", "form"), [(0.5, "gated"), (1.2, "lockable"), (-0.1, "lockable"), (0.0, "unlocked")])
def test_a_lock_of_the_training_needs_the_form_and_the_range(lock, form):
    with pytest.raises(PerfusionError, match="training setting lock must be a number from 0 to 1"):
        TrainingSettings(form=form, lock=lock)


# --- gradients that overflow -----------------------------------------------------------------------------------------


def test_an_overflow_halves_the_scale_and_the_step_is_made_again(caplog):
    usual, overflowing = start(), start(ToyTask(scale=64.0, largest_scale=10.0))
    for trainer in (usual, overflowing):
        train(trainer, lambda report: None)
    assert overflowing.task.scale == 8.0
    assert_same_state(overflowing, usual)  # nothing is lost, nothing drawn twice
    assert caplog.text.count("Gradients overflowed at step 1; going on with half their scale") == 3


def test_an_overflow_that_no_scale_cures_ends_as_before():
    trainer = start(ToyTask(scale=4.0, largest_scale=0.0))
    with pytest.raises(
        GradientOverflowError, match="infinite or not a number at step 1.*float32, or lower relative_value_rate"
    ):
        step_within_memory(trainer, lambda: None)
    assert trainer.task.scale == 1.0
    assert_same_state(trainer, start())


def test_a_loss_that_is_not_finite_is_no_matter_of_scale():
    task = ToyTask(scale=64.0, spoil=float("inf"))
    with pytest.raises(PerfusionError, match="loss became inf") as caught:
        step_within_memory(start(task), lambda: None)
    assert not isinstance(caught.value, GradientOverflowError) and task.scale == 64.0
