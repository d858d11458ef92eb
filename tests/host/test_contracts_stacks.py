"""Contract 3 for stacks whose concepts differ in every setting, and for models with two text encoders."""

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.host.gate import run as gate_run
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from reference import own_words, reference_model
from test_contracts import pairs
from test_gate_patch import keys_and_values
from tiny_models import difference, encode, gated, make_concept, sample, tiny_model, tiny_sdxl_clip

PROMPT = "a photo of <hugsy> beside a <cuppy>"

# Width of the encodings of `tiny_sdxl_clip`.
TWO_ENCODERS = {"context_dim": 80}

# Percent of the sampling, and which of the two concepts act there.
MOMENTS = ((0.1, (0,)), (0.5, (0, 1)), (0.8, (1,)), (0.97, ()))


@pytest.fixture(scope="module")
def stack(hugsy, cuppy):
    """Two concepts with nothing in common: form, bias, temperature, strength and window are each their own."""
    return (
        gated(dataclasses.replace(hugsy, form="paper"), bias=0.6, temperature=0.1, end_percent=0.6),
        gated(cuppy, bias=0.4, temperature=0.2, strength=0.7, start_percent=0.3, end_percent=0.9),
    )


@pytest.mark.parametrize("lock", ["local", "global"])
def test_each_concept_keeps_its_own_window_and_gate(model, clip, stack, lock):
    """In every part of the sampling the keys and values are those of the concepts that act there, and of no other."""
    context = encode(add_words(clip, stack, lock), PROMPT)[0][0]
    patched = apply_concepts(model, stack, lock)
    for percent, acting in MOMENTS:
        sigma = float(model.model.model_sampling.percent_to_sigma(percent))
        always = [dataclasses.replace(stack[j], start_percent=0.0, end_percent=1.0) for j in acting]
        expected = keys_and_values(reference_model(always) if always else model, context, sigma)
        for found, wanted in zip(keys_and_values(patched, context, sigma), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
            assert acting or torch.equal(found, wanted)


@pytest.mark.parametrize("lock", ["local", "global"])
def test_no_key_or_value_outlives_the_window_it_was_made_in(model, clip, stack, lock, monkeypatch):
    spoken = add_words(clip, stack, lock)
    positive, negative = encode(spoken, PROMPT), encode(spoken, "blurry")
    patched = apply_concepts(model, stack, lock)
    reused = sample(patched, positive, negative, steps=8)
    monkeypatch.setattr(gate_run.GateRun, "find", lambda *_: None)
    assert torch.equal(sample(patched, positive, negative, steps=8), reused)
    assert difference(reused, sample(model, positive, negative, steps=8)) > 0


@pytest.fixture(scope="module")
def two_encoders():
    """A MODEL and a CLIP as SDXL's, and a stack for them."""
    model, clip = tiny_model(**TWO_ENCODERS), tiny_sdxl_clip()
    return (
        model,
        clip,
        (
            gated(make_concept(model, clip), bias=0.6, temperature=0.1),
            gated(make_concept(model, clip, "<cuppy>", "cup", seed=4), strength=0.8),
        ),
    )


@pytest.mark.parametrize("lock", ["local", "global"])
def test_two_text_encoders(two_encoders, lock):
    """The encoding is that of both, and so is the superclass encoding of the global lock."""
    model, clip, stack = two_encoders
    spoken = add_words(clip, stack, lock)
    positive, negative = encode(spoken, f"{PROMPT}, (<hugsy>:0.8)"), encode(spoken, "blurry")
    base = sample(model, positive, negative)
    result = sample(apply_concepts(model, stack, lock), positive, negative)
    prompts = positive + negative
    reference = reference_model(stack, pairs(prompts, lock), own_words(prompts), **TWO_ENCODERS)
    expected = sample(reference, positive, negative)
    rounding = 2e-5 * base.abs().max().item()
    assert difference(result, expected) <= rounding
    assert difference(result, base) > 20 * rounding
