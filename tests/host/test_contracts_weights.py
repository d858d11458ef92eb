"""What a weight in the prompt, `(<hugsy>:1.2)`, does to a concept: more of it for more weight, and never a jump."""

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.encoders import word_positions
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.edit import edit_encoding
from tiny_models import difference, encode, gated, sample

WEIGHTS = [step / 20 for step in range(31)]
BIAS, TEMPERATURE = 0.65, 0.1


@pytest.fixture(scope="module", params=["unlocked", "gated", "anchored"])
def stack(hugsy, request):
    return (gated(dataclasses.replace(hugsy, form=request.param), bias=BIAS, temperature=TEMPERATURE),)


@pytest.fixture(scope="module")
def spoken(clip, stack):
    return add_words(clip, stack)


def similarities_and_gates(spoken, stack, prompt):
    found = []
    for weight in WEIGHTS:
        tokens = spoken.tokenize(prompt.format(weight))
        (position,) = word_positions(tokens, "<hugsy>")
        edited = edit_encoding(spoken.encode_from_tokens(tokens)[0], [stack[0].edit()])
        found.append((edited.similarities[position, 0], edited.gates[position, 0]))
    return [torch.stack(column).double() for column in zip(*found, strict=True)]


@pytest.mark.parametrize("prompt", ["a photo of (<hugsy>:{:g})", "in the snow, a (<hugsy>:{:g}) beside a red ball"])
def test_the_gate_grows_with_the_weight_and_never_jumps(spoken, stack, prompt):
    """The host moves the encoding along a straight line, so the similarity is linear in the weight; the gate's slope
    is then at most that of its sigmoid, 1 / (4 temperature)."""
    similarities, gates = similarities_and_gates(spoken, stack, prompt)
    weights = torch.tensor(WEIGHTS).double()
    full = similarities[WEIGHTS.index(1.0)] - similarities[0]
    torch.testing.assert_close(similarities, similarities[0] + full * weights, atol=1e-4, rtol=1e-4)
    steps = gates.diff()
    assert (steps > 0).all()
    assert steps.max() <= full / (4 * TEMPERATURE) * (WEIGHTS[1] - WEIGHTS[0]) * 1.001
    assert similarities[0] < 0.2 and gates[0] < 0.05 < 0.8 < gates[-1]


def test_pictures_follow_the_weight_from_absent_to_more_than_learned(model, spoken, stack):
    """The concept's part in a picture: what it changes of the picture that the base MODEL makes of the same prompt.

    Of weight 0 nothing is left but the gate's leak. From there on the part grows, with no step of the weight bringing
    more than a small share of the whole.
    """
    patched, negative = apply_concepts(model, stack), encode(spoken, "blurry")
    weights = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5]
    parts = []
    for weight in weights:
        positive = encode(spoken, f"a photo of (<hugsy>:{weight:g})")
        parts.append(sample(patched, positive, negative) - sample(model, positive, negative))
    sizes = [part.norm().item() for part in parts]
    print("the concept's part by weight:", dict(zip(weights, (f"{size:.3g}" for size in sizes), strict=True)))
    assert sizes[0] < 0.12 * sizes[5]
    assert all(one < other for one, other in zip(sizes[:6], sizes[1:6], strict=False))
    steps = [difference(one, other) for one, other in zip(parts, parts[1:], strict=False)]
    assert max(steps) < 0.5 * parts[-1].abs().max().item()
