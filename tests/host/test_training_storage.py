"""Training on weights of any precision, under a LoRA, with gradient checkpointing; nothing is left behind."""

from __future__ import annotations

import comfy.model_base
import comfy.sd
import comfy.sdxl_clip
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.training import denoising_task
from perfusion_pack.nodes.host.training.autograd import gradient_scale, scaled_gradient
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training import TrainingSettings
from tiny_models import (
    CPU,
    UNET_CONFIG,
    LowVramPatcher,
    TinyModelConfig,
    clip_options,
    difference,
    encode,
    fill,
    instance_forwards,
    sample,
    tiny_sdxl_clip,
)
from training_gradients import first_gradients

SETTINGS = TrainingSettings(steps=3, batch_size=2)
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
# How the weights are stored, and what they are cast to for every operation (None: they are used as they are).
STORAGES = [(F32, None), (BF16, None), (F16, None), (BF16, F32), (F16, F32), (E4M3, F32), (E5M2, F32), (E4M3, BF16)]


def stored_model(dtype: torch.dtype, compute: torch.dtype | None, seed: int = 0, patcher=ModelPatcher, **changes):
    """A tiny model whose weights are what a float32 model of this seed has, rounded to a dtype."""
    with torch.inference_mode():
        config = TinyModelConfig({**UNET_CONFIG, **changes})
        config.set_inference_dtype(dtype, compute)
        base = comfy.model_base.BaseModel(config, device=CPU)
        fill(base.diffusion_model, seed)
        return patcher(base, CPU, CPU)


def as_float(model):
    """The same weights, rounding and all, stored and computed in float32."""
    exact = stored_model(F32, None)
    with torch.inference_mode():
        state = {name: tensor.float() for name, tensor in model.model.diffusion_model.state_dict().items()}
        exact.model.diffusion_model.load_state_dict(state)
    return exact


def bits(*modules: torch.nn.Module) -> list[torch.Tensor]:
    """Everything the modules hold, bit for bit; fp8 numbers cannot be compared as such."""
    return [t.detach().clone().contiguous().view(-1).view(torch.uint8) if t.dim() else t.clone()
            for module in modules for t in module.state_dict().values()]  # fmt: skip


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def learn(inputs, model=None, clip=None, settings=SETTINGS, on_step=lambda report: None, **changes):
    with torch.inference_mode():
        asked = {**inputs._asdict(), "word": "<hugsy>", "superclass": "teddy", "settings": settings, **changes}
        asked |= {"model": model or inputs.model, "clip": clip or inputs.clip}
        return TrainingJob(TrainingRequest(**asked), TrainingHooks(on_step)).train()


def cosine(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    flat = [torch.cat([tensor.flatten().double() for tensor in tensors.values()]) for tensors in (one, other)]
    return torch.nn.functional.cosine_similarity(*flat, dim=0).item()


@pytest.mark.parametrize(("dtype", "compute"), STORAGES)
def test_a_model_stored_in_any_precision(inputs, dtype, compute, record_property):
    model, exact = stored_model(dtype, compute), None
    before, clip_before = bits(model.model), bits(inputs.clip.cond_stage_model)
    prompt, empty = encode(inputs.clip, "a photo of a teddy"), encode(inputs.clip, "")
    with torch.inference_mode():
        picture = sample(model, prompt, empty)
    result = learn(inputs, model)
    assert all(torch.tensor(result.losses).isfinite()) and result.effect > 0
    with torch.inference_mode():
        assert difference(sample(model, prompt, empty), picture) == 0.0
    assert same(before, bits(model.model)) and same(clip_before, bits(inputs.clip.cond_stage_model))
    assert not instance_forwards(model)

    exact = as_float(model)
    loss, gradients = first_gradients(model, inputs.clip)
    exact_loss, exact_gradients = first_gradients(exact, inputs.clip)
    precision = 1e-5 if (compute or dtype) == F32 else 0.03
    likeness = cosine(gradients, exact_gradients)
    record_property(f"gradient of {dtype} in {compute}", f"loss {loss / exact_loss - 1:+.1e}, cosine {likeness:.6f}")
    assert loss == pytest.approx(exact_loss, rel=precision)
    assert likeness > 1 - precision


@pytest.mark.parametrize("dtype", [F16, BF16, E4M3])
def test_a_text_encoder_stored_in_any_precision(inputs, dtype):
    with torch.inference_mode():
        target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
        clip = comfy.sd.CLIP(target, model_options={**clip_options("clip_l"), "dtype": dtype})
        fill(clip.cond_stage_model, 1)
    before = bits(clip.cond_stage_model)
    result = learn(inputs, clip=clip)
    assert all(torch.tensor(result.losses).isfinite()) and result.effect > 0
    assert same(before, bits(clip.cond_stage_model))


@pytest.mark.parametrize("share", [2**-8, 2**-10, 2**-13])
def test_small_gradients_survive_half_precision(inputs, share, record_property):
    """As at batch 4 and 1024 pixels, where the error of one number counts 1 / 2^18 or so; float16 ends at 2^-24."""
    model = stored_model(F16, None)
    _, half = first_gradients(model, inputs.clip, scale=share)
    _, exact = first_gradients(as_float(model), inputs.clip)
    record_property(f"cosine of float16 gradients when the loss is scaled by {share}", cosine(half, exact))
    assert cosine(half, exact) > 0.99


def with_lora(model, strength: float = 1.0):
    """The model with a LoRA of rank 2 on every attention projection, put on by the host's own loader."""
    draw = torch.Generator().manual_seed(11)
    lora = {}
    for name, weight in model.model.diffusion_model.state_dict().items():
        if ".attn" in name and name.endswith(".weight") and weight.dim() == 2:
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            lora[f"{stem}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=draw) * 0.2
            lora[f"{stem}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=draw) * 0.2
    with torch.inference_mode():
        return comfy.sd.load_lora_for_models(model, None, lora, strength, 0.0)[0]


def merged(patched):
    """A model that holds the patched weights as its own."""
    with torch.inference_mode():
        patched.patch_model()
        state = {name: tensor.clone() for name, tensor in patched.model.diffusion_model.state_dict().items()}
        patched.unpatch_model()
        exact = stored_model(F32, None)
        exact.model.diffusion_model.load_state_dict(state)
    return exact


@pytest.mark.parametrize("failing", [False, True])
def test_a_model_that_carries_a_lora(inputs, failing):
    """It is learned on the patched weights, and both the LoRA's and the base's model stay as they were."""
    base = stored_model(F32, None)
    patched = with_lora(base)
    before = bits(base.model)
    prompt, empty = encode(inputs.clip, "a photo of a teddy"), encode(inputs.clip, "")
    with torch.inference_mode():
        pictures = [sample(model, prompt, empty) for model in (base, patched, base)]
    assert difference(pictures[0], pictures[1]) > 1e-3 and difference(pictures[0], pictures[2]) == 0.0
    if failing:
        with pytest.raises(RuntimeError, match="stop here"):
            learn(inputs, patched, on_step=stop_here)
    else:
        found, expected = learn(inputs, patched).concept, learn(inputs, merged(patched)).concept
        plain = learn(inputs, base).concept
        for name, values in found.value_targets.items():
            assert torch.allclose(values, expected.value_targets[name], atol=1e-5), name
            assert not torch.allclose(values, plain.value_targets[name], atol=1e-3), name
    with torch.inference_mode():
        again = [sample(model, prompt, empty) for model in (patched, base)]
    assert difference(again[0], pictures[1]) == 0.0 and difference(again[1], pictures[0]) == 0.0
    assert same(before, bits(base.model))


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(("dtype", "compute"), [(F32, None), (E4M3, F32)])
def test_a_model_in_low_vram(inputs, dtype, compute, lora):
    """As the host streams it under --novram, training or not: the concept is that of the fully loaded model."""
    full, streamed = stored_model(dtype, compute), stored_model(dtype, compute, patcher=LowVramPatcher)
    before, clip_before = bits(streamed.model), bits(inputs.clip.cond_stage_model)
    models = [with_lora(model) if lora else model for model in (full, streamed)]
    expected, found = (learn(inputs, model) for model in models)
    to_v = streamed.model.diffusion_model.get_submodule("middle_block.1.transformer_blocks.0.attn2.to_v")
    assert streamed.model.model_lowvram and to_v.comfy_cast_weights and bool(to_v.weight_function) == lora
    # Fully loaded, a patched weight is rounded to fp8 once more; streamed it is not, and so it is when one samples.
    precision = 0.1 if lora and dtype == E4M3 else 1e-5
    assert found.losses == pytest.approx(expected.losses, rel=precision) and found.effect > 0
    for name, values in found.concept.value_targets.items():
        wanted = expected.concept.value_targets[name]
        assert (values - wanted).norm() <= precision * wanted.norm(), name
    assert torch.allclose(found.concept.target_input, expected.concept.target_input, rtol=precision, atol=1e-5)
    models[1].unpatch_model()
    assert same(before, bits(streamed.model)) and same(clip_before, bits(inputs.clip.cond_stage_model))
    assert not instance_forwards(streamed)


def stop_here(report) -> None:
    raise RuntimeError("stop here")


@pytest.mark.parametrize("dtype", [F32, F16, E4M3])
def test_an_error_leaves_the_model_as_it_was(inputs, dtype):
    """From the callback, from inside the model, and from a loss that is not finite."""
    model = stored_model(dtype, F32 if dtype == E4M3 else None)
    before, clip_before = bits(model.model), bits(inputs.clip.cond_stage_model)
    with pytest.raises(RuntimeError, match="stop here"):
        learn(inputs, model, on_step=stop_here)
    layer = model.model.diffusion_model.middle_block[1]
    handle = layer.register_forward_hook(lambda *_: stop_here(None))
    with pytest.raises(RuntimeError, match="stop here"):
        learn(inputs, model)
    handle.remove()
    handle = layer.register_forward_hook(lambda module, args, output: output * float("nan"))
    with pytest.raises(PerfusionError, match="became nan"):
        learn(inputs, model)
    handle.remove()
    assert same(before, bits(model.model)) and same(clip_before, bits(inputs.clip.cond_stage_model))
    assert not instance_forwards(model)
    assert learn(inputs, model).effect > 0  # the queue is usable


class SavedNumbers:
    """Counts the numbers that autograd keeps for the backward pass, each storage once."""

    def __enter__(self):
        self.storages: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def _note(self, tensor):
        self.storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def __exit__(self, *exception):
        self._hooks.__exit__(*exception)
        self.total = sum(self.storages.values())


@pytest.mark.parametrize(("dtype", "compute"), [(F32, None), (F16, None), (E4M3, F32)])
def test_gradient_checkpointing_changes_memory_and_nothing_else(inputs, dtype, compute, record_property):
    """Bit-equal losses and gradients, and far fewer numbers kept between the passes."""
    found = {}
    for checkpointing in (False, True):
        model = stored_model(dtype, compute)
        before = bits(model.model)
        with SavedNumbers() as saved:
            loss, gradients = first_gradients(model, inputs.clip, size=16, gradient_checkpointing=checkpointing)
        assert not instance_forwards(model) and same(before, bits(model.model))
        found[checkpointing] = (loss, gradients, saved.total)
    (loss, gradients, most), (again, checkpointed, least) = found[False], found[True]
    record_property(f"kept with gradient checkpointing, {dtype}", least / most)
    assert loss == again
    assert all(torch.equal(gradient, checkpointed[name]) for name, gradient in gradients.items())
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())
    assert least < 0.7 * most


@pytest.mark.parametrize("patcher", [ModelPatcher, LowVramPatcher], ids=["loaded", "streamed"])
@pytest.mark.parametrize(("dtype", "compute"), [(E4M3, BF16), (E5M2, F32), (F16, F32)])
def test_no_cast_weight_is_kept_for_the_backward_pass(inputs, dtype, compute, patcher, record_property):
    """A model held in one precision and computed in another keeps what one that is held as it is computed keeps."""
    kept = []
    native = stored_model(compute, None)
    for model in (native, stored_model(dtype, compute, patcher=patcher)):
        with torch.inference_mode(), SavedNumbers() as saved:
            first_gradients(model, inputs.clip, size=16)
        weights = {weight.untyped_storage().data_ptr() for weight in model.model.parameters()}
        kept.append(sum(size for place, size in saved.storages.items() if place not in weights))
    record_property(f"kept by {dtype} in {compute}, of what {compute} keeps", kept[1] / kept[0])
    weights = sum(weight.numel() for weight in native.model.parameters()) * torch.empty((), dtype=compute).itemsize
    assert kept[1] - kept[0] < 0.02 * weights  # normalisations, which are small, are cast and kept


@pytest.mark.parametrize(("dtype", "compute"), [(E4M3, F32), (F32, None), (F16, None)])
def test_recast_layers_have_the_gradients_of_the_hosts_own(inputs, monkeypatch, dtype, compute):
    """Bit for bit, through linear layers and convolutions of every kind that a UNet has."""
    model = stored_model(dtype, compute)
    loss, gradients = first_gradients(model, inputs.clip, size=16)
    monkeypatch.setattr(denoising_task, "recast_layers", lambda module: [])
    again, expected = first_gradients(model, inputs.clip, size=16)
    assert loss == again and all(torch.equal(gradients[name], tensor) for name, tensor in expected.items())


def test_gradients_of_float32_are_not_scaled():
    tensor = torch.ones(3)
    assert gradient_scale(F32, 2**17) == gradient_scale(BF16, 2**17) == 1.0 and scaled_gradient(tensor, 1.0) is tensor
    tensor.requires_grad_()
    scaled_gradient(tensor, 0.25).sum().backward()
    assert gradient_scale(F16, 2**17 + 5) == 2.0**17 and tensor.grad.tolist() == [0.25] * 3


@pytest.mark.parametrize("refiner", [False, True])
def test_the_word_learns_in_every_encoder(refiner):
    """SDXL's tokenizer lists the encoders in another order than the model; its refiner's lists one more than it has."""
    with torch.inference_mode():
        clip = tiny_sdxl_clip()
        if refiner:
            target = comfy.supported_models_base.ClipTarget(
                comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLRefinerClipModel
            )
            clip = comfy.sd.CLIP(target, model_options=clip_options("clip_g", width=48, layers=3))
            fill(clip.cond_stage_model, 2)
        plain = encode(clip, "a photo of a teddy")[0][0][0]
    model = stored_model(F32, None, context_dim=plain.shape[-1])
    _, gradients = first_gradients(model, clip)
    learned = {"clip_g"} if refiner else {"clip_l", "clip_g"}
    assert {name for name in gradients if name.startswith("clip_")} == learned
    for name in learned:
        assert gradients[name].abs().sum() > 0, name
    with torch.inference_mode(False):
        vectors = encode_superclass_vectors(clip, "teddy")
        with HostDenoisingTask(model, clip, torch.zeros(1, 4, 8, 8), None, "<hugsy>", vectors) as task:
            encoding, _ = task.encode(vectors, ["a photo of a {}"])
    assert difference(encoding[0].detach(), plain) < 1e-5
