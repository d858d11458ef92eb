"""Memory that runs out around the steps of a training: one sentence or a way on, and models that still sample."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from perfusion_pack.nodes.host.progress import NodeProgress
from perfusion_pack.nodes.host.training import dynamic_memory
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training import ConceptTrainer
from perfusion_pack.perfusion_core.training_state_file import load_training
from tiny_models import encode, instance_forwards, sample
from training_inputs import run_node


def out_of_memory(*_args, **_options):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("comfy.sd.VAE.encode", "while the VAE encoded the pictures; train on smaller or fewer pictures"),
        ("comfy.model_management.load_models_gpu", "while the models were loaded for the training; close other"),
        ("comfy.sample.sample", "while the trained concept was tried out; turn resume on to try only this again"),
    ],
)
def test_it_is_said_in_one_sentence_where_memory_ran_out(inputs, folder, monkeypatch, target, said):
    with monkeypatch.context() as patched:
        patched.setattr(target, out_of_memory)
        with pytest.raises(PerfusionError, match=f"Memory ran out {said}") as caught:
            run_node(inputs)
    assert "\n" not in str(caught.value)
    kept = folder / "hugsy.training_state"
    if "tried out" in said:
        assert str(folder / "hugsy.safetensors") in str(caught.value) and not load_training(kept).finished
    run_node(inputs, resume=True)
    assert load_training(kept).finished


def test_a_copy_for_which_there_is_no_memory_is_not_blamed_on_its_loader(inputs, folder, monkeypatch):
    monkeypatch.setattr(dynamic_memory, "is_dynamic", lambda patcher: True)
    monkeypatch.setattr("comfy.model_patcher.ModelPatcher.clone", out_of_memory)
    monkeypatch.setattr(inputs.model, "cached_patcher_init", (None, ()), raising=False)
    with pytest.raises(PerfusionError, match="Memory ran out while the models were loaded"):
        run_node(inputs)


def test_the_picture_is_the_same_right_after_a_training_that_had_no_memory(inputs, folder, monkeypatch):
    with torch.inference_mode():
        prompts = [encode(inputs.clip, text) for text in ("a photo of a teddy", "")]
        picture = sample(inputs.model, *prompts)
    monkeypatch.setattr(HostDenoisingTask, "denoise", out_of_memory)
    with pytest.raises(PerfusionError, match="single picture"):
        run_node(inputs)
    with torch.inference_mode():
        assert torch.equal(sample(inputs.model, *prompts), picture)
    assert not instance_forwards(inputs.model)


@pytest.mark.parametrize("room", [2, 1, 0])
def test_the_automatic_mask_starts_again_with_fewer_pictures(inputs, folder, monkeypatch, room):
    """It fails in the middle of a pass, when maps of other pictures were added up already."""
    asked, released, original = [], [], HostDenoisingTask.predict
    monkeypatch.setattr(comfy.model_management, "soft_empty_cache", lambda *_: released.append(1))

    def predict(self, noisy, sigma, encoding, *hints):
        masking = not torch.is_grad_enabled() and self.masks is None
        if masking:
            asked.append(len(noisy))
        result = original(self, noisy, sigma, encoding, *hints)  # so that its layers were captured
        if masking and len(noisy) > room and (len(asked) > 1 or room == 0):
            out_of_memory()
        return result

    seen, run = [], TrainingJob.run
    monkeypatch.setattr(TrainingJob, "run", lambda job: seen.append(job.task.masks) or run(job))
    options = {"masks": None, "steps": 1, "validate_every": 0, "batch_size": 2}
    run_node(inputs, **options)
    monkeypatch.setattr(HostDenoisingTask, "predict", predict)
    if room == 0:
        with pytest.raises(PerfusionError, match="automatic mask was made from a single picture.*connect masks") as e:
            run_node(inputs, **options)
        assert "\n" not in str(e.value) and asked == [2, 1]
        return
    run_node(inputs, **options)
    passes = [2, 1] * 3  # three pictures at each of three noise levels
    assert asked == (passes if room == 2 else [2, 1, 2] + [1] * 9)
    assert len(released) >= (room == 1) and torch.allclose(*seen, atol=1e-3)


def test_the_node_says_that_validating_was_given_up(inputs, folder, monkeypatch):
    lines, shown = [], NodeProgress.show

    def show(self, done, text="", preview=None):
        lines.append(text)
        return shown(self, done, text, preview)

    monkeypatch.setattr(NodeProgress, "show", show)
    monkeypatch.setattr(ConceptTrainer, "validation_error", out_of_memory)
    run_node(inputs, steps=2)
    assert [("the last step is taken" in line) for line in lines if line.startswith("step ")] == [True, True]
