"""Stopping and going on: the state between two steps, its file, and what a run keeps whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy_training import ToyTask, assert_same_state, start

from perfusion_core.errors import PerfusionError
from perfusion_core.out_of_memory import is_out_of_memory
from perfusion_core.tensor_file import read_tensors, write_tensors
from perfusion_core.training_run import step_within_memory, train
from perfusion_core.training_state_file import KeptTraining, load_training, save_training

INPUTS = {"word": "<hugsy>", "seed": 0, "value_learning_rate": 0.03}
REPOSITORY = Path(__file__).resolve().parents[2]


class Cancelled(BaseException):
    """As the host's: no Exception, so that nothing swallows it."""


def cancel_at(step: int):
    def on_step(report) -> None:
        if report.step == step:
            raise Cancelled

    return on_step


@pytest.mark.parametrize("accumulation", [1, 3])
def test_forty_steps_are_twenty_cancel_and_twenty_more(tmp_path, accumulation):
    path = tmp_path / "hugsy.training_state"
    straight = start(steps=40, accumulation=accumulation)
    train(straight, lambda report: None)

    first = start(steps=40, accumulation=accumulation)
    with pytest.raises(Cancelled):
        train(first, cancel_at(20), lambda: save_training(path, KeptTraining(first.state(), INPUTS, first.start)))
    second = start(steps=40, accumulation=accumulation)
    second.restore(load_training(path).state)
    assert second.step_number == 20
    steps = []
    losses = train(second, lambda report: steps.append(report.step))
    assert steps == list(range(21, 41))
    assert losses == straight.losses and len(losses) == 40
    assert_same_state(second, straight)
    for name, value in straight.learned().value_targets.items():
        assert torch.equal(value, second.learned().value_targets[name])


def test_a_step_that_is_interrupted_inside_has_not_happened(monkeypatch):
    """The host raises Cancel from inside the model too, when random numbers were drawn already."""
    straight, task = start(steps=10), ToyTask()
    stopped = start(task, steps=10)
    original = task.loss

    def cancelled_in_the_seventh(*args):
        loss = original(*args)
        if len(task.batches) == 7:
            raise Cancelled
        return loss

    monkeypatch.setattr(task, "loss", cancelled_in_the_seventh)
    kept = []
    with pytest.raises(Cancelled):
        train(stopped, lambda report: None, lambda: kept.append(stopped.step_number))
    assert kept == [6] and stopped.step_number == 6
    train(stopped, lambda report: None)
    train(straight, lambda report: None)
    assert_same_state(stopped, straight)


def test_work_is_kept_every_so_many_steps_and_once_at_the_stop():
    trainer, kept = start(steps=20), []
    with pytest.raises(Cancelled):
        train(trainer, cancel_at(12), lambda: kept.append(trainer.step_number), keep_every=5)
    assert kept == [5, 10, 12]
    trainer, kept = start(steps=20), []
    with pytest.raises(Cancelled):
        train(trainer, cancel_at(10), lambda: kept.append(trainer.step_number), keep_every=5)
    assert kept == [5, 10]


def test_what_stops_the_training_is_told_even_where_nothing_can_be_kept(caplog):
    def disk_full() -> None:
        raise PerfusionError("no space")

    with pytest.raises(Cancelled):
        train(start(), cancel_at(3), disk_full)
    assert "stopped at step 3 and could not be kept" in caplog.text


def test_the_file_gives_back_every_bit(tmp_path):
    trainer = start(steps=3)
    train(trainer, lambda report: None)
    trainer.micro_batch = 2
    save_training(tmp_path / "a", KeptTraining(trainer.state(), INPUTS, trainer.start, finished=True))
    kept = load_training(tmp_path / "a")
    assert kept.finished and kept.inputs == INPUTS and not kept.differing_inputs(INPUTS)
    assert kept.starts_like(trainer.start)
    other = start(steps=3)
    other.restore(kept.state)
    assert_same_state(other, trainer)
    save_training(tmp_path / "b", KeptTraining(other.state(), INPUTS, other.start, finished=True))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_state_before_the_first_step_has_no_moments_and_takes_them_away():
    trainer, fresh = start(), start()
    before = trainer.state()
    train(trainer, lambda report: None)
    trainer.restore(before)
    assert_same_state(trainer, fresh)
    assert train(trainer, lambda report: None) == train(fresh, lambda report: None)


def test_differences_are_named():
    kept = KeptTraining(start().state(), INPUTS, start().start)
    assert kept.differing_inputs({**INPUTS, "seed": 1, "masks": "ab"}) == ["seed", "masks"]
    assert not kept.starts_like(start(ToyTask(seed=6)).start)


def test_a_state_of_another_shape_is_refused_and_changes_nothing():
    trainer = start()
    trainer.step()
    before = start()
    before.restore(trainer.state())
    state = trainer.state()
    wrong = {**state.tensors, "value.layer.attn2": torch.zeros(9)}
    with pytest.raises(PerfusionError, match="other layers or words"):
        trainer.restore(type(state)(state.step, state.micro_batch, state.losses, state.generator, wrong))
    assert_same_state(trainer, before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"perfusion.format": "perfusion-concept"}, "expected to be a Perfusion training state"),
        ({"perfusion.version": "2"}, "version '2'"),
        ({"perfusion.step": "4"}, "wrong header"),
        ({"perfusion.micro_batch": "0"}, "wrong header"),
        ({"perfusion.validations": "[3]"}, "wrong header"),
        ({"perfusion.generator": "AAAA"}, "wrong header"),
        ({"perfusion.generator": "no base64"}, "wrong header"),
        ({"perfusion.inputs": "[]"}, "wrong header"),
        ({"perfusion.finished": "perhaps"}, "wrong header"),
    ],
)
def test_files_that_hold_no_state_are_refused_in_one_sentence(tmp_path, changes, said):
    path, trainer = tmp_path / "a.training_state", start()
    trainer.step()
    save_training(path, KeptTraining(trainer.state(), INPUTS, trainer.start))
    header, tensors = read_tensors(path, "file")
    write_tensors(path, tensors, {**header.metadata, **changes})
    with pytest.raises(PerfusionError, match=said) as caught:
        load_training(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_cut_file_and_numbers_that_are_not_finite_are_refused(tmp_path):
    path, trainer = tmp_path / "a.training_state", start()
    trainer.step()
    save_training(path, KeptTraining(trainer.state(), INPUTS, trainer.start))
    header, tensors = read_tensors(path, "file")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 8])
    with pytest.raises(PerfusionError, match="Perfusion training state"):
        load_training(path)
    write_tensors(path, {**tensors, "target_input": tensors["target_input"] * torch.nan}, header.metadata)
    with pytest.raises(PerfusionError, match="not finite"):
        load_training(path)


SAVES_FOR_EVER = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/core"]
import conftest, torch
from toy_training import start
from perfusion_core.training_state_file import KeptTraining, save_training
trainer = start(steps=100_000)
# Large enough that a save takes a while, so that many kills fall into one.
start_values = {**trainer.start, "value.padding": torch.zeros(300_000)}
while True:
    trainer.step()
    save_training(sys.argv[2], KeptTraining(trainer.state(), {"seed": 0}, start_values))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_kill_9_at_any_moment_leaves_the_last_good_state_readable(tmp_path):
    path = tmp_path / "hugsy.training_state"
    command = [sys.executable, "-c", SAVES_FOR_EVER, str(REPOSITORY / "tests"), str(path)]
    for attempt in range(4):
        path.unlink(missing_ok=True)
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            deadline = time.monotonic() + 60
            while not path.exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(0.1 + 0.0137 * attempt)
        finally:
            process.kill()
            process.wait()
        state = load_training(path).state
        trainer = start(steps=100_000)
        for _ in range(state.step):
            trainer.step()
        assert torch.equal(trainer.state().tensors["target_input"], state.tensors["target_input"])
        assert json.dumps(trainer.losses) == json.dumps(list(state.losses))


@pytest.mark.parametrize(("room", "micro_batch"), [(8, 8), (5, 4), (2, 2), (1, 1)])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_gradients(room, micro_batch):
    wide, narrow = (start(ToyTask(room=r, noise=0.3), batch_size=8) for r in (8, room))
    released: list[int] = []
    for _ in range(4):
        step_within_memory(wide, lambda: None)
        step_within_memory(narrow, lambda: released.append(narrow.micro_batch))
    assert narrow.micro_batch == micro_batch and released == [m for m in (4, 2, 1) if m >= micro_batch and room < 8]
    assert narrow.losses == pytest.approx(wide.losses, rel=1e-5)
    for name, tensor in wide.state().tensors.items():
        assert torch.allclose(tensor, narrow.state().tensors[name], rtol=1e-3, atol=1e-5), name


def test_an_odd_micro_batch_is_split_without_losing_a_picture():
    task = ToyTask(room=3)
    trainer = start(task, batch_size=7)
    step_within_memory(trainer, lambda: None)
    assert trainer.micro_batch == 2 and sum(len(batch.pictures) for batch in task.batches[-4:]) == 7


def test_out_of_memory_with_one_picture_says_what_would_help():
    trainer = start(ToyTask(room=0), batch_size=4)
    with pytest.raises(PerfusionError, match="single picture.*smaller pictures") as caught:
        train(trainer, lambda report: None)
    assert "\n" not in str(caught.value) and trainer.step_number == 0 and trainer.micro_batch == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (Cancelled("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) == expected
