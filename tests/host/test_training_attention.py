"""Training beside attention back ends that have no backward pass, as sage, flash and int8 attention."""

from __future__ import annotations

import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import pytest
import torch
from perfusion_pack.nodes.host.training import denoising_task
from tiny_models import tiny_model
from training_gradients import first_gradients


@pytest.fixture
def undifferentiable(monkeypatch):
    """The host's choice of attention, which every transformer block calls, without a backward pass; notes its calls."""
    calls = []

    @host_attention.wrap_attn
    def attention(*args, **kwargs):
        calls.append(1)
        with torch.no_grad():
            return host_attention.attention_basic(*args, **kwargs)

    def replace():
        monkeypatch.setattr(host_attention, "optimized_attention", attention)
        monkeypatch.setattr(host_attention, "optimized_attention_masked", attention)
        return calls

    return replace


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_gradients_do_not_depend_on_the_hosts_attention(inputs, undifferentiable, gradient_checkpointing):
    model = tiny_model()
    loss, gradients = first_gradients(model, inputs.clip, gradient_checkpointing=gradient_checkpointing)
    calls = undifferentiable()
    again, found = first_gradients(model, inputs.clip, gradient_checkpointing=gradient_checkpointing)
    assert not calls and again == loss and len(gradients) == 7 + 1  # each layer's values, and the word
    for name, gradient in gradients.items():
        assert gradient.abs().sum() > 0 and torch.equal(gradient, found[name]), name


def test_that_attention_would_give_no_gradients(inputs, undifferentiable, monkeypatch):
    """So that the test above tests something."""
    calls = undifferentiable()
    monkeypatch.setattr(denoising_task, "differentiable_attention", lambda f, *args, **kw: f(*args, **kw))
    with pytest.raises(RuntimeError, match="does not require grad"):
        first_gradients(tiny_model(), inputs.clip)
    assert calls


def test_the_text_encoders_other_attention_gives_the_same_gradients(inputs, monkeypatch):
    """For its short prompts the host takes torch's attention, or, where that is switched off, its basic one."""
    loss, gradients = first_gradients(tiny_model(), inputs.clip)
    used, basic = [], host_attention.attention_basic
    monkeypatch.setattr(host_attention, "attention_basic", lambda *args, **kw: used.append(1) or basic(*args, **kw))
    monkeypatch.setattr(comfy.model_management, "pytorch_attention_enabled", lambda: False)
    again, found = first_gradients(tiny_model(), inputs.clip)
    assert used and again == pytest.approx(loss, rel=1e-5)
    for name, gradient in gradients.items():
        assert gradient.abs().sum() > 0 and torch.allclose(gradient, found[name], rtol=1e-3, atol=1e-6), name
