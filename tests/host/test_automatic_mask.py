"""The automatic mask on the host's own classes: what is captured, what is left behind, and that it trains."""

from __future__ import annotations

import pytest
import torch
from comfy.ldm.modules import attention
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.training.attention_mask import attention_masks
from perfusion_pack.nodes.host.training.captured_attention import captured_attention
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.perfusion_core.attention_maps import word_attention
from perfusion_pack.perfusion_core.training import TrainingSettings
from tiny_models import instance_forwards


@pytest.fixture(scope="module")
def latents(inputs):
    with torch.inference_mode():
        return inputs.vae.encode(inputs.images)


def masks_of(inputs, latents, **changes) -> torch.Tensor:
    with torch.inference_mode(False):
        vectors = encode_superclass_vectors(inputs.clip, "teddy bear")
        with HostDenoisingTask(inputs.model, inputs.clip, latents, None, "<hugsy>", vectors) as task:
            return attention_masks(task, vectors, **changes)


def weights(inputs) -> list[torch.Tensor]:
    modules = (inputs.model.model, inputs.clip.cond_stage_model)
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def test_masks_of_every_picture_and_nothing_left_behind(inputs, latents):
    before = weights(inputs)
    masks = masks_of(inputs, latents)
    assert masks.shape == (3, 1, 8, 8) and not masks.requires_grad
    assert masks.min() == 0 and torch.equal(masks.amax(dim=(1, 2, 3)), torch.ones(3))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(inputs), strict=True))
    assert not instance_forwards(inputs.model)


def test_masks_are_the_same_each_time_and_however_they_are_batched(inputs, latents):
    assert torch.equal(masks_of(inputs, latents), masks_of(inputs, latents))
    assert torch.allclose(masks_of(inputs, latents), masks_of(inputs, latents, at_once=1), atol=1e-3)


def test_what_is_captured_is_what_the_layer_attends_with(inputs, latents):
    """The captured probabilities, times the values, are the output of the host's own attention."""
    model = inputs.model.model.diffusion_model
    layers = cross_attention_layers(model)
    captured = {}

    def note(name, queries, keys, heads):
        every = torch.eye(keys.shape[1], dtype=torch.bool)
        captured[name] = torch.stack([word_attention(queries, keys, 1, token) for token in every], dim=-1)

    with torch.inference_mode(False), torch.no_grad():
        name, layer = next(iter(layers.items()))
        x, context = torch.randn(1, 64, layer.to_q.in_features), torch.randn(1, 9, layer.to_k.in_features)
        plain = layer(x, context)
        with captured_attention({name: layer}, note):
            watched = layer(x, context)
        assert torch.equal(plain, watched)
        single = attention.attention_basic(layer.to_q(x), layer.to_k(context), layer.to_v(context), 1)
        assert torch.allclose(captured[name] @ layer.to_v(context), single, atol=1e-5)


def test_an_error_inside_leaves_nothing_behind(inputs, latents, monkeypatch):
    def broken(self, *_):
        raise RuntimeError("broken")

    monkeypatch.setattr(HostDenoisingTask, "noised", broken)
    with pytest.raises(RuntimeError, match="broken"):
        masks_of(inputs, latents)
    assert not instance_forwards(inputs.model)


def test_a_training_without_masks_uses_and_names_them(inputs):
    def learn(masks, automatic_mask):
        with torch.inference_mode():
            own = {**inputs._asdict(), "masks": masks, "automatic_mask": automatic_mask}
            settings = TrainingSettings(steps=2, batch_size=2)
            return TrainingJob(TrainingRequest(**own, word="<hugsy>", superclass="teddy", settings=settings)).train()

    automatic, given, none = learn(None, True), learn(inputs.masks, True), learn(None, False)
    assert [r.concept.training["masks"] for r in (automatic, given, none)] == ["attention", "given", "none"]
    assert none.masks is None and automatic.masks.shape == given.masks.shape == (3, 1, 8, 8)
    assert given.masks.sum() == 3 * 16  # the given ones win
    assert automatic.losses != none.losses
