"""Blend Perfusion Concepts: what it gives is used and saved like any other concept."""

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.blend_concepts import BlendConcepts
from perfusion_pack.nodes.concept_card import concept_text
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept_file import load_concept, round_for_file, save_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import difference, encode, gated, make_concept, sample

NODE = BlendConcepts.PREPARE_CLASS_CLONE({"hidden_inputs": {}})


@pytest.fixture(scope="module")
def bruno(model, clip):
    """Another teddy, whose target input is near that of the first."""
    one, made = make_concept(model, clip), make_concept(model, clip, "<bruno>", seed=5)
    mixed = {
        name: 0.5 * getattr(one, name) + 0.5 * getattr(made, name) for name in ("target_input", "inverse_target_input")
    }
    energy = mixed["target_input"] @ mixed["inverse_target_input"]
    return dataclasses.replace(
        made,
        target_input=mixed["target_input"],
        inverse_target_input=mixed["inverse_target_input"] / energy,
    )


def blended(one, other, share, **inputs):
    return NODE.execute(concept_a=(gated(one),), concept_b=(gated(other),), share=share, **inputs)


def painted(model, clip, stack):
    word = stack[0].concept.word
    speaking = add_words(clip, stack)
    return sample(apply_concepts(model, stack), encode(speaking, f"a photo of {word}"), encode(speaking, ""))


def test_the_picture_moves_from_the_one_to_the_other(model, clip, hugsy, bruno):
    # Of loaders and trainers come concepts as files give them back.
    ends = [painted(model, clip, (gated(round_for_file(one)),)) for one in (hugsy, bruno)]
    slider = [painted(model, clip, blended(hugsy, bruno, share).args[0]) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert torch.equal(slider[0], ends[0]) and torch.equal(slider[-1], ends[1])
    assert all(difference(one, next_one) > 1e-4 for one, next_one in zip(slider, slider[1:], strict=False))


def test_it_has_a_word_and_says_what_it_is_made_of(hugsy, bruno):
    (stack, word), ui = (made := blended(hugsy, bruno, 0.25)).args, made.ui
    assert word == stack[0].concept.word == "<hugsy-bruno>" and len(stack) == 1
    assert ui["text"] == (f"<hugsy-bruno> · 75% <hugsy>, 25% <bruno> · bias {hugsy.bias:g}",)
    assert blended(hugsy, bruno, 0.25, word=" Teddy ").args[1] == "<teddy>"
    card = concept_text(stack)
    assert "<hugsy>" in card and "<bruno>" in card and "0.25" in card


def test_different_superclasses_are_allowed_with_a_warning(hugsy, bruno):
    cup = dataclasses.replace(bruno, superclass="cup")
    assert "Warning: teddy and cup are different superclasses" in blended(hugsy, cup, 0.5).ui["text"][0]


def test_it_is_saved_like_any_other(model, clip, hugsy, bruno, tmp_path):
    stack = blended(hugsy, bruno, 0.5).args[0]
    save_concept(tmp_path / "blend.safetensors", stack[0].concept)
    loaded = (gated(load_concept(tmp_path / "blend.safetensors")),)
    assert torch.equal(painted(model, clip, loaded), painted(model, clip, stack))


def test_the_last_of_a_stack_is_taken_and_an_empty_one_is_told(hugsy, bruno):
    stack = NODE.execute(concept_a=(gated(bruno), gated(hugsy)), concept_b=(gated(bruno),), share=0.0).args[0]
    assert torch.equal(stack[0].concept.target_input, hugsy.target_input)
    with pytest.raises(PerfusionError, match="input concept_b expected a concept, but found an empty stack"):
        NODE.execute(concept_a=(gated(hugsy),), concept_b=(), share=0.5)
    assert BlendConcepts.validate_inputs(word="two words").startswith("The word of a concept must be")
    assert BlendConcepts.validate_inputs(word="") is True
