"""The offset of a word's encoding in use: where it reaches the layers, how far, and what leaves no trace of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from perfusion_pack.nodes.concept_card import concept_text
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.gate.projection_swap import swapped_forwards
from perfusion_pack.nodes.host.gate.reading import read_gates
from perfusion_pack.nodes.host.text.encoders import positions_at_layers
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.training_settings import CUSTOM, settings_text, training_settings
from perfusion_pack.perfusion_core.concept import alone
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.edit import similarity
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training_state_file import load_training
from perfusion_pack.perfusion_core.word_in_prompt import LEAST_REFERENCE
from tiny_models import difference, encode, gated, make_concept, sample, tiny_clip
from training_inputs import run_node, stop_training
from transformer_families import FAMILIES, IN_ALL, layers_text, random_offset, sample_family, transformer_concept

PROMPT, NEGATIVE = "a photo of a (<hugsy>:1.3) in the snow, <hugsy>", "blurry"


@pytest.fixture
def family(request, families):
    """Models, and two concepts for them that add nothing but an offset: of the second's word it is 0."""
    if request.param not in families:
        made = FAMILIES[request.param]()
        concepts = [transformer_concept(made), transformer_concept(made, "<cuppy>", "coffee cup", seed=4)]
        nothing = {name: torch.zeros_like(value) for name, value in concepts[0].value_targets.items()}
        alone = [dataclasses.replace(one, form="residual", value_targets=nothing) for one in concepts]
        alone[0] = dataclasses.replace(alone[0], encoding_offset=random_offset(made))
        families[request.param] = made, *alone
    return families[request.param]


def texts_at_layers(family, stack, prompt: str, lock: str = "local") -> dict[str, torch.Tensor]:
    """What the last cross-attention layer gets for keys and for values in the first call of the model, [N, d]."""
    model, clip = family[0]
    knowing = add_words(clip, stack, lock)
    seen: dict[str, list[torch.Tensor]] = {"to_k": [], "to_v": []}

    def noting(kind, project):
        def forward(text):
            seen[kind].append(text[0].clone())
            return project(text)

        return forward

    layer = list(cross_attention_layers(model.model.diffusion_model).values())[-1]
    watched = [(getattr(layer, kind), noting(kind, getattr(layer, kind).forward)) for kind in seen]
    with torch.inference_mode(), swapped_forwards(watched):
        positive = encode(knowing, prompt)
        sample_family(apply_concepts(model, stack, lock), positive, positive, steps=1, cfg=1.0)
    return {kind: texts[0] for kind, texts in seen.items()}


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_it_is_added_at_the_word_with_weight_and_strength(family, strength):
    """And no number of any other token changes, nor of another concept's word."""
    made, concept, other = family
    stack = (gated(concept, strength=strength), gated(other))
    prompt = f"{PROMPT}, a <cuppy>"
    knowing = add_words(made.clip, stack)
    tokens = knowing.tokenize(prompt)
    plain = layers_text(made, tokens, knowing)
    found = texts_at_layers(family, stack, prompt)["to_v"]
    places = positions_at_layers(tokens, "<hugsy>")
    count = len(concept.encoding_offset)
    assert len(places) == 2 * count
    weights = torch.tensor([1.3] * count + [1.0] * count)
    expected = strength * weights[:, None] * concept.encoding_offset.repeat(2, 1)
    torch.testing.assert_close(found[places] - plain[places], expected, rtol=1e-3, atol=1e-4)
    others = [place for place in range(len(plain)) if place not in places]
    torch.testing.assert_close(found[others], plain[others], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_what_does_not_act_leaves_no_trace(family):
    made, concept, other = family
    knowing = add_words(made.clip, (gated(concept), gated(other)))
    with torch.inference_mode():
        positive, negative = encode(knowing, PROMPT), encode(knowing, NEGATIVE)
        without = encode(knowing, "a photo of a <cuppy>, <cuppy>")

    def run(*stack, prompt=positive):
        return sample_family(apply_concepts(made.model, stack), prompt, negative, batch=2)

    base = run()
    assert difference(base, run(gated(concept, strength=0.0))) == 0.0
    assert difference(base, run(gated(concept, start_percent=1.0, end_percent=1.0))) == 0.0
    assert difference(base, run(gated(dataclasses.replace(concept, encoding_offset=None)))) == 0.0
    assert difference(run(prompt=without), run(gated(concept), gated(other), prompt=without)) == 0.0
    found = run(gated(concept), gated(other))
    assert difference(base, found) > 1e-3
    assert difference(found, run(gated(other), gated(concept))) < 1e-4
    assert difference(found, run(gated(concept))) < 1e-4, "the other one adds nothing"


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_a_lock_of_the_whole_prompt_keeps_the_keys_of_the_superclass(family):
    concept = family[1]
    without = dataclasses.replace(concept, encoding_offset=None)
    found, plain = (texts_at_layers(family, (gated(one),), PROMPT, "global") for one in (concept, without))
    assert torch.equal(found["to_k"], plain["to_k"]) and not torch.equal(found["to_v"], plain["to_v"])


@pytest.mark.parametrize("family", IN_ALL[:1], indirect=True)
def test_a_weaker_lock_of_the_whole_prompt_mixes_the_word_with_its_offset(family):
    """As the local lock does: what is not yet the superclass is the word as the values have it."""
    made, concept, _ = family
    without = dataclasses.replace(concept, encoding_offset=None)
    stacks = [(gated(one, strength=0.25),) for one in (concept, without)]
    found, plain = (texts_at_layers(family, stack, PROMPT, "global") for stack in stacks)
    tokens = add_words(made.clip, (gated(concept),)).tokenize(PROMPT)
    places = positions_at_layers(tokens, "<hugsy>")
    keys, values = (found[kind][places] - plain[kind][places] for kind in ("to_k", "to_v"))
    assert values.abs().max() > 1e-2
    torch.testing.assert_close(keys, 0.75 * values, rtol=1e-3, atol=1e-4)


def test_each_token_of_a_word_has_its_own_vector_in_sd15_too(model, clip):
    concept = make_concept(model, clip, superclass="teddy bear")
    offset = torch.stack([torch.full((concept.encoding_width,), 0.3), torch.full((concept.encoding_width,), -0.3)])
    offset[:, ::2] *= -1
    pictures = []
    for own in (None, offset, offset.flip(0)):
        stack = (gated(dataclasses.replace(concept, encoding_offset=own)),)
        knowing = add_words(clip, stack)
        pictures.append(sample(apply_concepts(model, stack), encode(knowing, PROMPT), encode(knowing, NEGATIVE)))
    one, other, third = pictures
    assert min(difference(one, other), difference(other, third), difference(one, third)) > 1e-3


@pytest.mark.parametrize("weight", [1.0, 1.3])
def test_the_gate_is_measured_against_the_word_with_its_offset(clip, hugsy, weight):
    """Otherwise an offset would open or close the gate of every prompt."""
    draw = torch.Generator().manual_seed(3)
    offset = 0.2 * torch.randn(1, hugsy.encoding_width, generator=draw)
    stack = (gated(dataclasses.replace(hugsy, encoding_offset=offset)),)
    knowing = add_words(clip, stack)
    prompt = f"a (<hugsy>:{weight}) in the snow"
    (entry,) = encode(knowing, prompt)
    (place,) = positions_at_layers(knowing.tokenize(prompt), "<hugsy>")
    # A token is off its word by its weight alone, and the weight acts on the word with its offset.
    i, inverse = hugsy.target_input, hugsy.inverse_target_input
    (plain_entry,) = encode(knowing, "a <hugsy> in the snow")
    word = similarity(plain_entry[0][0, place] + offset[0], i, inverse)
    token = similarity(entry[0][0, place] + weight * offset[0], i, inverse)
    expected = 1 + (token - word) / word.clamp(min=LEAST_REFERENCE)
    assert read_gates(entry, stack).similarities[0, place, 0].item() == pytest.approx(expected.item(), abs=1e-4)
    assert weight != 1 or expected.item() == pytest.approx(1, abs=1e-4)


def test_another_offset_of_the_same_word_is_another_concept_for_the_same_encoding(model, clip, hugsy):
    """As of two kept steps of a training whose word stands still: one CLIP encodes for both, and remembers it."""
    pictures = []
    for scale in (None, 0.3, -0.3):
        offset = None if scale is None else torch.full((1, hugsy.encoding_width), scale)
        stack = (gated(dataclasses.replace(hugsy, encoding_offset=offset, form="unlocked")),)
        knowing = add_words(clip, stack)
        pictures.append(sample(apply_concepts(model, stack), encode(knowing, PROMPT), encode(knowing, NEGATIVE)))
    alone = tiny_clip()
    speaking = add_words(alone, stack)
    assert (
        difference(
            pictures[-1], sample(apply_concepts(model, stack), encode(speaking, PROMPT), encode(speaking, NEGATIVE))
        )
        == 0.0
    )
    assert min(difference(pictures[0], other) for other in pictures[1:]) > 1e-3


def test_a_word_that_was_computed_with_stays_as_it_is(clip, hugsy):
    offset = torch.ones(1, hugsy.encoding_width)
    for own in (None, offset):
        concept = dataclasses.replace(hugsy, encoding_offset=own, form="residual")
        stack = (gated(concept),)
        (encoding, extra), *_ = encode(add_words(clip, stack), "a <hugsy>")
        computed = read_gates((0.5 * encoding, {**extra}), stack)
        assert torch.equal(computed.value_context, 0.5 * encoding)


def test_the_node_trains_it_and_every_place_tells_of_it(inputs, folder):
    """In one go and in two it is the same, in the file and in the state."""
    asked = {"relative_offset_rate": 0.1, "validate_every": 2}
    ((whole,), _, _, path) = run_node(inputs, file_name="whole", **asked)
    offset = whole.concept.encoding_offset
    assert offset.shape == (1, whole.concept.encoding_width) and offset.any()
    assert torch.equal(load_concept(path).encoding_offset, offset)
    assert whole.concept.training["relative_offset_rate"] == 0.1
    assert whole.concept.training["relative_rates"]["offset"] == 0.1
    run_node(inputs, file_name="halves", steps=2, **asked)
    ((halves,), *_, again) = run_node(inputs, file_name="halves", resume=True, **asked)
    assert torch.equal(halves.concept.encoding_offset, offset)
    first, second = (load_training(Path(one).with_suffix(".training_state")).state for one in (path, again))
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())
    card = concept_text(alone(whole.concept))
    assert f"1 x {whole.concept.encoding_width}, behind the encoder" in card and "relative offset rate: 0.1" in card
    settings = training_settings(CUSTOM, 0, True, 25, {"relative_offset_rate": 0.1})
    assert "0.1 of its size (offset of its encoding)" in settings_text(CUSTOM, settings, 3)


def test_an_unfinished_training_with_one_does_not_go_on_without(inputs, folder, press_cancel):
    stop_training(inputs, press_cancel, relative_offset_rate=0.1)
    with pytest.raises(PerfusionError, match="unfinished training with another relative_offset_rate"):
        run_node(inputs, resume=True)


def test_a_rate_of_0_gives_the_same_files_byte_for_byte(inputs, folder):
    for name, asked in (("plain", {}), ("asked", {"relative_offset_rate": 0.0})):
        run_node(inputs, file_name=name, **asked)
    plain, asked = (folder / f"{name}.safetensors" for name in ("plain", "asked"))
    assert plain.read_bytes() == asked.read_bytes()
    assert b"offset" not in plain.read_bytes().partition(b"}}")[0].replace(b"data_offsets", b"")
