"""perfusion_core.step_choice: the best step of a training, on the toy model."""

from __future__ import annotations

import pytest
import torch
from toy_training import ToyTask, assert_same_state, start

from perfusion_core.errors import PerfusionError
from perfusion_core.step_choice import HELD_OUT_TEMPLATES, StepChoice, Validation, validation_batches
from perfusion_core.training import TrainingSettings
from perfusion_core.training_run import best_step_within_memory, train
from perfusion_core.training_state_file import KeptTraining, load_training, save_training


class Cancelled(BaseException):
    """As the host's."""


def test_the_best_is_the_earliest_of_the_lowest_and_never_step_0():
    choice = StepChoice(every=25)
    for step, error in ((0, 0.1), (25, 0.5), (50, 0.3), (75, 0.3), (100, 0.4)):
        choice.add(Validation(step, error), {"at": torch.tensor(step)})
    assert choice.best == Validation(50, 0.3) and choice.tensors["at"] == 50


def test_a_step_is_due_once_every_so_many_steps():
    choice = StepChoice(every=25)
    assert [step for step in range(60) if choice.is_due(step)] == [0, 25, 50]
    choice.add(Validation(25, 0.5), {})
    assert not choice.is_due(25) and choice.is_due(50)
    assert not StepChoice(every=0).is_due(0)


def test_a_validation_is_the_same_each_time_and_spreads_its_samples():
    first, again = (list(validation_batches(3, 16)) for _ in range(2))
    for (batch, generator), (other, other_generator) in zip(first, again, strict=True):
        assert torch.equal(batch.levels, other.levels) and torch.equal(batch.pictures, other.pictures)
        assert torch.equal(torch.randn(4, generator=generator), torch.randn(4, generator=other_generator))
    levels = torch.cat([batch.levels for batch, _ in first])
    assert len(levels) == 16 and [len(batch.levels) for batch, _ in first] == [4] * 4
    assert torch.histc(levels, 8, 0, 1).min() >= 1  # no eighth of the schedule is left out
    assert {i for batch, _ in first for i in batch.pictures.tolist()} == {0, 1, 2}
    assert not any(batch.mirrored.any() for batch, _ in first)
    assert not set(HELD_OUT_TEMPLATES) & set(TrainingSettings().templates)


def test_validations_change_nothing_in_the_training():
    with_them, without = start(steps=40, validate_every=5), start(steps=40)
    assert train(with_them, lambda report: None) == train(without, lambda report: None)
    assert [v.step for v in with_them.choice.validations] == list(range(0, 41, 5))
    for name, value in without.learned().value_targets.items():
        assert torch.equal(value, with_them.learned().value_targets[name])


def test_the_best_step_is_what_is_learned_there():
    """A learning rate that overshoots later: the concept of the best step is that of a training that ends there."""
    trainer = start(steps=60, validate_every=5, value_learning_rate=0.3, word_learning_rate=0.1)
    reports = []
    train(trainer, reports.append)
    best = trainer.best_step()
    assert best == trainer.choice.best.step == reports[-1].best_step < 60
    ended_there = start(steps=best, value_learning_rate=0.3, word_learning_rate=0.1)
    train(ended_there, lambda report: None)
    chosen, expected = trainer.learned(best), ended_there.learned()
    assert torch.equal(chosen.target_input, expected.target_input)
    assert torch.equal(chosen.inverse_target_input, expected.inverse_target_input)
    assert torch.equal(chosen.word_vectors["clip_l"], expected.word_vectors["clip_l"])
    assert torch.equal(chosen.value_targets["layer.attn2"], expected.value_targets["layer.attn2"])
    with pytest.raises(ValueError, match="only the present and the best step"):
        trainer.learned(best + 5)


def test_the_last_step_competes_though_none_was_due():
    trainer = start(steps=23, validate_every=10)
    train(trainer, lambda report: None)
    assert trainer.best_step() == 23  # still learning
    assert [v.step for v in trainer.choice.validations] == [0, 10, 20]  # as for a training that goes on
    assert start(steps=3).best_step() == 0


@pytest.mark.parametrize("stop", [7, 10, 14])
def test_straight_is_stopped_and_resumed(tmp_path, stop):
    path, settings = tmp_path / "a.training_state", {"steps": 20, "validate_every": 5}
    straight, stopped, resumed = (start(**settings) for _ in range(3))
    train(straight, lambda report: None)

    def on_step(report):
        if report.step == stop:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(stopped, on_step, lambda: save_training(path, KeptTraining(stopped.state(), {}, stopped.start)))
    resumed.restore(load_training(path).state)
    assert_same_state(resumed, stopped)
    train(resumed, lambda report: None)
    assert_same_state(resumed, straight)
    assert resumed.best_step() == straight.best_step()


def test_a_stop_inside_a_validation_loses_no_step_and_no_validation(monkeypatch):
    straight, trainer = (start(steps=20, validate_every=10) for _ in range(2))
    train(straight, lambda report: None)
    original, kept = type(trainer).validation_error, []

    def cancelled(self):
        if self.step_number == 10 and not kept:
            raise Cancelled
        return original(self)

    monkeypatch.setattr(type(trainer), "validation_error", cancelled)
    with pytest.raises(Cancelled):
        train(trainer, lambda report: None, lambda: kept.append(trainer.step_number))
    assert kept == [10]
    train(trainer, lambda report: None)
    assert_same_state(trainer, straight)


def test_without_memory_for_a_validation_the_last_step_is_taken(caplog, monkeypatch):
    trainer = start(ToyTask(room=3), batch_size=4, validate_every=5)
    train(trainer, lambda report: None)
    assert trainer.choice.best is None and trainer.best_step() == 20
    assert "the last step is taken" in caplog.text


def test_a_validation_that_was_given_up_stays_so_after_a_step_without_memory():
    task, reports = ToyTask(room=3), []
    trainer = start(task, batch_size=4, validate_every=5)

    def on_step(report):
        reports.append(report)
        task.room = 1 if report.step == 7 else 1000  # then one step fails, and all validations would have room again

    train(trainer, on_step)
    assert trainer.micro_batch == 1 and trainer.choice.every == 0 and not trainer.choice.validations
    assert all(report.validation_given_up and report.best_step is None for report in reports)


def test_without_memory_for_the_last_step_the_best_of_those_before_it_is_kept(monkeypatch, caplog):
    trainer = start(steps=12, validate_every=5)
    train(trainer, lambda report: None)

    def fails(self):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(trainer), "validation_error", fails)
    released = []
    assert best_step_within_memory(trainer, lambda: released.append(1)) == trainer.choice.best.step <= 10
    assert released == [1] and "taken, the best of those before it" in caplog.text


def test_an_error_that_is_not_finite_stops():
    trainer = start(ToyTask(spoil=float("nan")), validate_every=5)
    with pytest.raises(PerfusionError, match="validation error became nan"):
        train(trainer, lambda report: None)


def test_a_negative_distance_is_refused():
    with pytest.raises(PerfusionError, match="validate_every must be at least 0"):
        TrainingSettings(validate_every=-1)
