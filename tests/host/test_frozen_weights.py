"""Text encoders under training keep no copies of their weights, and their gradients stay what they were."""

from __future__ import annotations

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import pytest
import torch
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors, text_encoders
from perfusion_pack.nodes.host.training.autograd import recast_layers
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from tiny_models import clip_options, fill, tiny_model

TEMPLATES = ["a photo of a {}", "the {}"]


@pytest.fixture(scope="module", params=[torch.float16, torch.float32], ids=str)
def clip(request) -> comfy.sd.CLIP:
    """A CLIP held in one precision and computed in float32."""
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    with torch.inference_mode():
        clip = comfy.sd.CLIP(target, model_options={**clip_options("clip_l"), "dtype": request.param})
        fill(clip.cond_stage_model, 1)
    return clip


def word_gradient(task, vectors) -> tuple[torch.Tensor, torch.Tensor, list[torch.Size]]:
    """Encodings of the templates, the gradient of the word's vectors, and the shapes of what was made and kept for it;
    the encoder's own weights are there anyway."""
    kept: list[torch.Size] = []
    own = {weight.data_ptr() for weight in task.clip.cond_stage_model.parameters()}
    leaf = vectors["clip_l"].clone().requires_grad_()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encodings, _ = task.encode({"clip_l": leaf}, TEMPLATES)
    weights = torch.randn(encodings.shape, generator=torch.Generator().manual_seed(3))
    (encodings * weights).sum().backward()
    return encodings.detach(), leaf.grad, kept


def test_no_weight_is_kept_and_nothing_else_changes(clip) -> None:
    encoder = next(iter(text_encoders(clip).values())).model
    linear = {layer.weight.shape for layer, _ in recast_layers(encoder)}
    linear |= {torch.Size(reversed(shape)) for shape in linear}
    assert linear
    with torch.inference_mode(False), torch.enable_grad():
        vectors = encode_superclass_vectors(clip, "teddy")
        task = HostDenoisingTask(tiny_model(), clip, torch.zeros(1, 4, 8, 8), None, "<hugsy>", vectors)
        with task:
            assert not recast_layers(encoder)  # all have been taken
            encodings, gradient, kept = word_gradient(task, vectors)
            forwards = [
                (module, module.__dict__.pop("forward")) for module in encoder.modules() if "forward" in vars(module)
            ]
            plain_encodings, plain_gradient, plainly_kept = word_gradient(task, vectors)
            for module, forward in forwards:
                module.forward = forward
    assert torch.equal(encodings, plain_encodings)
    assert torch.equal(gradient, plain_gradient) and gradient.abs().max() > 0
    held_in_half = any(weight.dtype == torch.float16 for weight in encoder.parameters())
    assert bool(linear & set(plainly_kept)) == held_in_half and not linear & set(kept)
    assert not any("forward" in vars(module) for module in encoder.modules())


def test_a_layer_with_another_forward_is_left_alone(clip) -> None:
    encoder = next(iter(text_encoders(clip).values())).model
    before = len(recast_layers(encoder))
    layer = recast_layers(encoder)[0][0]
    layer.forward = lambda inputs: inputs
    try:
        assert len(recast_layers(encoder)) == before - 1
    finally:
        del layer.forward


def test_half_precision_reaches_the_word(clip) -> None:
    """The gradient is that of the definition: a small move of the word changes the encodings by as much as it says."""
    with torch.inference_mode(False), torch.enable_grad():
        vectors = encode_superclass_vectors(clip, "teddy")
        with HostDenoisingTask(tiny_model(), clip, torch.zeros(1, 4, 8, 8), None, "<hugsy>", vectors) as task:
            leaf = vectors["clip_l"].clone().requires_grad_()
            task.encode({"clip_l": leaf}, TEMPLATES)[0].square().sum().backward()
            move = 1e-2 * leaf.grad / leaf.grad.norm()
            with torch.no_grad():
                ahead, back = (
                    task.encode({"clip_l": leaf.detach() + sign * move}, TEMPLATES)[0].double().square().sum()
                    for sign in (1, -1)
                )
    assert ((ahead - back) / 2).item() == pytest.approx((leaf.grad * move).sum().item(), rel=0.02)
