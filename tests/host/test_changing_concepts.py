"""What it takes to put concepts on a model or to change their gate: no weight, no reload, no time to speak of."""

import time

import comfy.model_patcher
import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import applied_concepts, apply_concepts, with_gate
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import encode, gated, sample, tiny_clip, tiny_model

PROMPT = "a photo of <hugsy> beside a <cuppy>"


def test_applying_and_changing_concepts_touches_no_weight_and_reloads_nothing(clip, hugsy, cuppy, monkeypatch):
    model = tiny_model()
    prompts = encode(add_words(clip, (gated(hugsy), gated(cuppy))), PROMPT), encode(clip, "blurry")
    sample(model, *prompts)
    before = {name: (p.data_ptr(), p.clone()) for name, p in model.model.named_parameters()}
    moved = []
    for name in ("patch_weight_to_device", "unpatch_hooks"):
        own = getattr(comfy.model_patcher.ModelPatcher, name)
        monkeypatch.setattr(
            comfy.model_patcher.ModelPatcher,
            name,
            lambda self, *args, own=own, name=name, **kwargs: moved.append(name) or own(self, *args, **kwargs),
        )
    to = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **kw: moved.append("to") or to(self, *args, **kw))

    sample(model, *prompts)
    of_the_base, moved[:] = list(moved), []
    results = []
    for stack in ((gated(hugsy),), (gated(hugsy, bias=0.4),), (gated(hugsy, bias=0.4), gated(cuppy))):
        patched = apply_concepts(model, stack)
        assert patched.model is model.model and patched.patches_uuid == model.patches_uuid
        assert not patched.patches and not patched.object_patches
        results.append(sample(patched, *prompts))
        assert moved == of_the_base, "the host loads what it loads for the base model again"
        moved.clear()
    assert not torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])
    for name, parameter in model.model.named_parameters():
        assert parameter.data_ptr() == before[name][0] and torch.equal(parameter, before[name][1]), name


def test_another_bias_needs_no_other_encoding(model, clip, hugsy, cuppy):
    """What was encoded for one gate is what would be encoded for the other; a sampling run encodes nothing."""
    one, other = ((gated(hugsy, bias=bias), gated(cuppy, bias=bias)) for bias in (0.75, 0.5))
    for lock in ("local", "global"):
        (encoding, extra), *_ = encode(add_words(clip, one, lock), PROMPT)
        (again, other_extra), *_ = encode(add_words(clip, other, lock), PROMPT)
        assert torch.equal(encoding, again) and extra.keys() == other_extra.keys()
        if lock == "global":
            assert torch.equal(extra[CONDITIONING_KEY], other_extra[CONDITIONING_KEY])

    calls = []
    encoder = clip.cond_stage_model.clip_l
    handle = encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    sample(apply_concepts(model, other, "global"), [[encoding, extra]], [[encoding, {}]])
    handle.remove()
    assert not calls


def test_applying_takes_at_most_20_milliseconds(model, hugsy):
    """On a MODEL and a CLIP of any size: nothing of either is read. The shortest of a few tries on a busy machine."""
    clip, seconds = tiny_clip(), []
    for bias in (0.5, 0.55, 0.6, 0.65, 0.7):
        started = time.process_time()
        stack = (gated(hugsy, bias=bias),)
        apply_concepts(model, stack, "global")
        add_words(clip, stack, "global")
        seconds.append(time.process_time() - started)
    assert min(seconds) <= 0.02


def test_another_bias_on_a_model_is_that_bias_from_the_start(model, clip, hugsy, cuppy):
    stack = gated(hugsy, bias=0.9), gated(cuppy, bias=0.9)
    for lock in ("local", "global"):
        prompts = encode(add_words(clip, stack, lock), PROMPT), encode(clip, "blurry")
        patched = apply_concepts(model, stack, lock)
        before = sample(patched, *prompts)
        for word, biases in (("", (0.4, 0.4)), ("<cuppy>", (0.9, 0.4))):
            changed = with_gate(patched, word, bias=0.4)
            wanted = tuple(gated(concept, bias=bias) for concept, bias in zip((hugsy, cuppy), biases, strict=True))
            assert applied_concepts(changed).key_lock == lock
            assert [one.bias for one in applied_concepts(changed).stack] == list(biases)
            expected = sample(apply_concepts(model, wanted, lock), *prompts)
            assert torch.equal(sample(changed, *prompts), expected)
            assert not torch.equal(expected, before)
        assert torch.equal(sample(patched, *prompts), before), "the MODEL that was given has changed"


def test_a_bias_needs_concepts(model, hugsy):
    with pytest.raises(PerfusionError, match="no concept is on it"):
        with_gate(model, bias=0.5)
    with pytest.raises(PerfusionError, match="<hugsy>, but found '<cuppy>'"):
        with_gate(apply_concepts(model, (gated(hugsy),)), "<cuppy>", bias=0.5)
