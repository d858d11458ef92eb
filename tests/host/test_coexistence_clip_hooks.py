"""Concepts beside a LoRA that hooks put on the text encoder, also with keyframes: the prompt has several encodings."""

import comfy.hooks
import pytest
import torch
from coexistence import EFFECT, PROMPT, ROUNDING, make_scene, record_pair
from comfy_extras.nodes_hooks import SetClipHooks
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY, superclass_encoding_of
from perfusion_pack.nodes.host.text.words import add_words
from tiny_models import WIDTH, difference, encode, sample

LAYER = "lora_te_text_model_encoder_layers_0_mlp_fc1"


@pytest.fixture(scope="module")
def scene():
    return make_scene()


def hooked(clip, *strengths, scheduled):
    """Return the CLIP of the stock node with a LoRA of these strengths, evenly spread over the run."""
    generator = torch.Generator().manual_seed(13)
    lora = {
        f"{LAYER}.lora_up.weight": torch.randn(64, 2, generator=generator),
        f"{LAYER}.lora_down.weight": torch.randn(2, WIDTH, generator=generator),
    }
    group = comfy.hooks.create_hook_lora(lora, 0.0, 1.0)
    frames = comfy.hooks.HookKeyframeGroup()
    for index, strength in enumerate(strengths):
        frames.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=index / len(strengths)))
    group.set_keyframes_on_hooks(frames)
    return SetClipHooks().apply_hooks(clip, scheduled, True, group)[0]


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_lora_hook_on_the_text_encoder(scene, clip, lock, scheduled, record_property):
    """Of a scheduled encoding the host keeps nothing but the encoding itself, which carries the superclass' one."""
    strengths = (0.2, 1.0) if scheduled else (1.0,)
    one = hooked(add_words(clip, scene.stack, lock), *strengths, scheduled=scheduled)
    other = add_words(hooked(clip, *strengths, scheduled=scheduled), scene.stack, lock)
    positive, negative = encode(one, PROMPT), encode(one, "blurry")
    orders = [difference(mine[0], its[0]) for mine, its in zip(positive, encode(other, PROMPT), strict=True)]
    assert len(positive) == len(strengths)
    kept = [CONDITIONING_KEY in extra for _, extra in positive]
    assert kept == [lock == "global" and not scheduled] * len(positive)
    carried = [superclass_encoding_of(encoding, extra) is not None for encoding, extra in positive]
    assert carried == [lock == "global"] * len(positive)

    base = sample(scene.model, positive, negative, steps=4)
    size = base.abs().max().item()
    result = sample(apply_concepts(scene.model, scene.stack, lock), positive, negative, steps=4)
    closed = sample(apply_concepts(scene.model, scene.closed(), lock), positive, negative, steps=4)
    reference = scene.reference(positive + negative, lock)
    without = encode(add_words(clip, scene.stack, lock), PROMPT)
    numbers = {
        "concept closed": difference(closed, base),
        "two orders": max(orders),
        "reference": difference(result, sample(reference, positive, negative, steps=4)) / size,
        "concept's effect": difference(result, base) / size,
        "partner's effect": max(difference(encoding, without[0][0]) for encoding, _ in positive),
    }
    name = f"LoRA hook on the CLIP{' with keyframes' if scheduled else ''}"
    record_pair(record_property, f"{name}, global lock" if lock == "global" else name, **numbers)
    assert numbers["concept closed"] == numbers["two orders"] == 0.0
    assert numbers["reference"] <= ROUNDING
    assert numbers["concept's effect"] > EFFECT and numbers["partner's effect"] > EFFECT
