"""Models in the host's dynamic VRAM are trained on a copy outside of it, and the host knows that a training runs."""

from __future__ import annotations

import collections
import gc
import weakref

import comfy.model_management
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from needs_host import needs_host, takes
from perfusion_pack.demo.load import load_demo_model
from perfusion_pack.nodes.host.training.autograd import host_in_training
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.dynamic_memory import trainable_clip, trainable_model
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import tiny_clip, tiny_model
from training_inputs import TRIES, run_node

pytestmark = needs_host(
    "0.25.0",
    "to load a model of its dynamic VRAM again outside of it; with older ones the trainer refuses such a model",
    takes(ModelPatcher.clone, "force_deepcopy"),
)


class DynamicPatcher(ModelPatcher):
    """Dynamic as far as a CPU goes: the host's own class needs a CUDA device and makes a plain one on a CPU."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        pins = {"active": False, "current_prompt": False, "weights": ({},), "weights-loaded": ({},)}
        self.model.dynamic_pins = collections.defaultdict(lambda: pins)

    def is_dynamic(self):
        return True

    def loaded_ram_size(self):
        return 0


def refuse_gradients(module: torch.nn.Module) -> None:
    """Let a module run only as the host samples and encodes."""

    def check(*_):
        assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled(), "a dynamic model was trained through"

    module.register_forward_pre_hook(check)


@pytest.fixture
def dynamic(inputs):
    """The same sockets with a MODEL and a CLIP in dynamic VRAM, of the same weights."""
    copies = []

    def reload_model(seed: int, disable_dynamic: bool = False):
        model = tiny_model(seed, patcher=ModelPatcher if disable_dynamic else DynamicPatcher)
        copies.append(weakref.ref(model.model))
        return model, "and what else a checkpoint holds"

    def reload_clip(disable_dynamic: bool = False):
        patcher = tiny_clip().patcher
        copies.append(weakref.ref(patcher.model))
        return patcher

    with torch.inference_mode():
        model, clip = tiny_model(patcher=DynamicPatcher), tiny_clip()
        clip.patcher = DynamicPatcher(clip.cond_stage_model, clip.patcher.load_device, clip.patcher.offload_device)
    model.cached_patcher_init = (reload_model, (0,), 0)
    clip.patcher.cached_patcher_init = (reload_clip, ())
    refuse_gradients(model.model.diffusion_model)
    refuse_gradients(clip.cond_stage_model.clip_l.transformer)
    return inputs._replace(model=model, clip=clip), copies


def test_the_copy_is_trained_and_the_given_models_are_untouched(inputs, dynamic, folder):
    given, copies = dynamic
    modules = (given.model.model, given.clip.cond_stage_model)
    before = [(parameter, parameter.clone()) for module in modules for parameter in module.parameters()]
    run_node(given)
    gc.collect()
    assert len(copies) == 2 and not any(copy() for copy in copies), "the copies hold memory after the training"
    run_node(inputs, file_name="plain")
    # The very parameters, not equal ones: nothing was made differentiable in place either.
    after = [parameter for module in modules for parameter in module.parameters()]
    assert all(old is new and torch.equal(old, kept) for (old, kept), new in zip(before, after, strict=True))
    assert all(parameter.is_inference() for parameter in after)
    found, expected = (load_concept(folder / f"{name}.safetensors") for name in ("hugsy", "plain"))
    assert torch.equal(found.word_vectors["clip_l"], expected.word_vectors["clip_l"])
    assert all(torch.equal(values, expected.value_targets[name]) for name, values in found.value_targets.items())


def test_patches_and_the_layer_of_the_clip_go_along(dynamic):
    given, _ = dynamic
    name = "diffusion_model.middle_block.1.proj_in.weight"
    given.model.add_patches({name: (torch.ones_like(given.model.model.state_dict()[name]),)})
    given.clip.clip_layer(-2)
    model, clip = trainable_model(given.model), trainable_clip(given.clip)
    assert type(model) is ModelPatcher and list(model.patches) == [name]
    assert clip.layer_idx == -2 and clip.cond_stage_model is clip.patcher.model is not given.clip.cond_stage_model


def test_models_outside_of_dynamic_memory_are_trained_themselves(inputs):
    assert trainable_model(inputs.model) is inputs.model and trainable_clip(inputs.clip) is inputs.clip


def no_file(disable_dynamic: bool = False):
    raise FileNotFoundError("model.safetensors\nis gone.")


@pytest.mark.parametrize(
    ("socket", "loader", "said"),
    [
        ("model", None, r"model input .* \(its loader did not register how to load it again\)"),
        ("clip", None, r"clip input .* \(its loader did not register how to load it again\)"),
        ("model", (no_file, ()), r"\(model.safetensors is gone\); load it with"),
        ("clip", (lambda: None, ()), r"unexpected keyword argument 'disable_dynamic'\)"),
    ],
)
def test_where_no_copy_can_be_made_one_sentence_says_so(dynamic, folder, socket, loader, said):
    given, _ = dynamic
    (given.model if socket == "model" else given.clip.patcher).cached_patcher_init = loader
    with pytest.raises(PerfusionError, match=said) as caught:
        run_node(given)
    assert "\n" not in str(caught.value) and not folder.exists()
    assert comfy.model_management.in_training is False


def test_the_demo_model_can_be_copied(monkeypatch):
    """On a host with dynamic VRAM the first picture's model is a dynamic one too."""
    monkeypatch.setattr("comfy.model_patcher.CoreModelPatcher", DynamicPatcher)
    with torch.inference_mode():
        model, clip, _ = load_demo_model()
    assert model.is_dynamic() and clip.patcher.is_dynamic()
    with torch.inference_mode(False):
        copies = trainable_model(model), trainable_clip(clip).patcher
    for copy, given in zip(copies, (model, clip.patcher), strict=True):
        assert not copy.is_dynamic() and not any(parameter.is_inference() for parameter in copy.model.parameters())
        mine, theirs = copy.model.state_dict(), given.model.state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


@pytest.mark.parametrize("error", [None, RuntimeError("x"), comfy.model_management.InterruptProcessingException()])
def test_the_host_is_told_of_the_training_while_it_runs(inputs, folder, monkeypatch, error):
    original, seen = HostDenoisingTask.denoise, []

    def denoise(self, *args):
        seen.append(comfy.model_management.in_training)
        if error is not None and len(seen) == TRIES + 2 + 3:  # two were the validation of step 0
            raise error
        return original(self, *args)

    monkeypatch.setattr(HostDenoisingTask, "denoise", denoise)
    if error is None:
        run_node(inputs)
    else:
        with pytest.raises(type(error)):
            run_node(inputs)
    assert seen and all(seen) and comfy.model_management.in_training is False


def test_the_flag_goes_back_to_what_it_was(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "in_training", "another training")
    with host_in_training():
        assert comfy.model_management.in_training is True
    assert comfy.model_management.in_training == "another training"
    monkeypatch.delattr(comfy.model_management, "in_training")
    with host_in_training():
        assert not hasattr(comfy.model_management, "in_training")
