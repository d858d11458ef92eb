"""One picture is tried before a training, which then takes as many at once as find room; what that means for SD."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import comfy.model_management
import pytest
import torch
from perfusion_pack.nodes.host.progress import NodeProgress
from perfusion_pack.nodes.host.training import measured_memory
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.files import TrainingFiles
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.training import TrainingSettings
from test_training_storage import SavedNumbers
from training_inputs import run_node

GB = 1e9


def planned(inputs, monkeypatch, free: float, settings=None, **changes):
    """The plan of a training where so many bytes are free; and the result."""
    monkeypatch.setattr(measured_memory, "free_memory", lambda device: int(free))
    settings = settings or TrainingSettings(steps=2, batch_size=4, validate_every=0)
    asked = {**inputs._asdict(), "word": "<hugsy>", "superclass": "teddy", "settings": settings, **changes}
    plans = []
    with torch.inference_mode():
        result = TrainingJob(TrainingRequest(**asked), TrainingHooks(on_memory_plan=plans.append)).train()
    assert plans == [result.memory_plan]
    return plans[0], result


def test_the_plan_is_what_the_training_does(inputs, monkeypatch):
    """With less and less room: all at once, some, with checkpointing, and at last one by one, whatever comes."""
    sizes, original = [], HostDenoisingTask.denoise

    def denoise(self, noisy, *args):
        sizes.append((len(noisy), self.gradient_checkpointing))
        return original(self, noisy, *args)

    monkeypatch.setattr(HostDenoisingTask, "denoise", denoise)
    wide, whole = planned(inputs, monkeypatch, 10 * GB)
    assert (wide.micro_batch, wide.gradient_checkpointing, wide.checkpointed) == (4, False, None)
    assert sizes[-2:] == [(4, False)] * 2 and wide.plain.seconds > 0
    least = planned(inputs, monkeypatch, 0)[0].checkpointed.memory
    assert least < wide.plain.memory
    rooms = {2: (2.5 * wide.plain.memory, False), 1: ((least + wide.plain.memory) / 2, True)}
    for micro_batch, (room, checkpointing) in rooms.items():
        plan, result = planned(inputs, monkeypatch, room)
        assert (plan.micro_batch, plan.gradient_checkpointing) == (micro_batch, checkpointing)
        assert sizes[-4 // micro_batch * 2 :] == [(micro_batch, checkpointing)] * (4 // micro_batch * 2)
        for name, values in result.concept.value_targets.items():
            assert torch.allclose(values, whole.concept.value_targets[name], atol=1e-4), name
        assert torch.allclose(result.concept.target_input, whole.concept.target_input, atol=1e-4)
    narrow, _ = planned(inputs, monkeypatch, 0)
    assert not narrow.fits and (narrow.micro_batch, narrow.gradient_checkpointing) == (1, True)
    asked, _ = planned(inputs, monkeypatch, 10 * GB, gradient_checkpointing=True)
    assert (asked.micro_batch, asked.gradient_checkpointing, asked.plain) == (4, True, None)


def test_a_picture_without_room_is_given_up_before_it_has_taken_the_memory(inputs, monkeypatch):
    """Some drivers would move it elsewhere; what autograd keeps stays within what was free."""
    plain = planned(inputs, monkeypatch, 10 * GB)[0].plain.memory
    seen, original = [], measured_memory.picture_cost

    def cost(*args):
        with SavedNumbers() as saved:
            found = original(*args)
        seen.append((found, saved.total))
        return found

    monkeypatch.setattr(measured_memory, "picture_cost", cost)
    planned(inputs, monkeypatch, plain / 4)
    assert seen[0][0] is None and seen[1][0] is not None


def test_the_host_is_asked_for_room_where_not_all_find_some(inputs, monkeypatch):
    asked, original = [], comfy.model_management.load_models_gpu

    def load(models, memory_required=0, **options):
        asked.append(memory_required)
        return original(models, memory_required=memory_required, **options)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", load)
    wide, _ = planned(inputs, monkeypatch, 10 * GB)
    usual = len(asked)
    asked.clear()
    planned(inputs, monkeypatch, 2.5 * wide.plain.memory)
    assert len(asked) == usual + 1 and max(asked) >= 4 * wide.plain.memory


def test_the_node_says_it_in_its_line_and_in_the_report(inputs, folder, monkeypatch):
    lines, shown = [], NodeProgress.show
    monkeypatch.setattr(NodeProgress, "show", lambda self, *a: lines.append(" ".join(map(str, a))) or shown(self, *a))
    texts, original = [], importlib.import_module("perfusion_pack.nodes.training_report").TrainingReport.draw
    monkeypatch.setattr(
        "perfusion_pack.nodes.training_report.TrainingReport.draw",
        lambda report: texts.append(report.settings) or original(report),
    )
    run_node(inputs, steps=1)
    assert any("1 steps of 2" in line and "all 2 pictures at once (0." in line for line in lines)
    assert "; all 2 pictures at once (0." in texts[0]


def test_a_training_that_goes_on_takes_no_more_at_once_than_before(inputs, folder, monkeypatch):
    """Bit for bit as without the stop; and less where there is less room now."""
    settings = TrainingSettings(steps=2, batch_size=4, validate_every=0)
    asked = {**inputs._asdict(), "word": "<hugsy>", "superclass": "teddy"}

    def train(steps: int, resume: bool, free: float):
        monkeypatch.setattr(measured_memory, "free_memory", lambda device: int(free))
        wanted = TrainingSettings(**{**vars(settings), "steps": steps})
        job = TrainingJob(TrainingRequest(**asked, settings=wanted), files=TrainingFiles("hugsy", resume))
        with torch.inference_mode():
            return job, job.train()

    first, _ = train(2, False, 10 * GB)
    assert first.trainer.micro_batch == 4
    narrow, result = train(3, True, 0)
    assert narrow.trainer.micro_batch == 1 and len(result.losses) == 3
    wide, result = train(4, True, 10 * GB)
    assert wide.trainer.micro_batch == 1 and len(result.losses) == 4
    again, finished = train(4, True, 0)
    assert finished.memory_plan is None, "nothing is left to try anything for"
    assert load_concept(result.path).training["steps"] == 4 and again.trainer.step_number == 4


@pytest.fixture(scope="module")
def counting():
    sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("memory")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "size", "storage"),
    [("SDXL, 1024 px", 10, "fp16"), ("SD1.5, 512 px", 4, "fp16"), ("SDXL, 1024 px", 6, "fp8")],
)
def test_standard_finds_room(counting, family, size, storage, record_property):
    """Counted on UNets and text encoders of full depth: weights, and the passes of as many pictures as are taken."""
    off, on = (counting.count(family, storage, 1, checkpointing) for checkpointing in (False, True))
    plan, expected = counting.standard_within(size * GB, off, on)
    assert plan.fits
    taken = counting.count(family, storage, plan.micro_batch, plan.gradient_checkpointing)
    total = taken.weights + taken.memory
    record_property(f"{family}, {storage}, GB", total / GB)
    assert total <= size * GB
    assert total <= expected * 1.02, "so many pictures take no more than so many times one"
