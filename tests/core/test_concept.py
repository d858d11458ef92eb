"""perfusion_core.concept: what a concept accepts, and stacks of concepts."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from core_examples import make_concept, random, second_moment

from perfusion_core.concept import (
    MAX_TEXT_LENGTH,
    GatedConcept,
    check_stack,
    normalise_word,
    typed_word,
    unit_energy,
)
from perfusion_core.concept_blend import default_word
from perfusion_core.concept_file import load_concept, save_concept
from perfusion_core.edit import edit_encoding
from perfusion_core.errors import PerfusionError


@pytest.mark.parametrize("text", ["hugsy", "<hugsy>", " Hugsy ", "< hugsy >", "<HUGSY>"])
def test_word_gets_brackets(text):
    assert normalise_word(text) == "<hugsy>"


@pytest.mark.parametrize("text", ["", "<>", "two words", "a:b", "(a)", "<<a>>", "a,b", "a\\b"])
def test_words_that_prompt_syntax_would_cut(text):
    with pytest.raises(PerfusionError, match="choose another word"):
        normalise_word(text)


def test_a_word_is_as_long_as_a_file_can_hold(tmp_path):
    """Both ends have one bound: what can be made can be read."""
    longest = f"<{'x' * (MAX_TEXT_LENGTH - 2)}>"
    save_concept(tmp_path / "a.safetensors", make_concept(longest, superclass="y" * MAX_TEXT_LENGTH))
    assert load_concept(tmp_path / "a.safetensors").word == longest
    for make in (normalise_word, typed_word, make_concept):
        with pytest.raises(PerfusionError, match=r"at most 200 signs long, but '<x.*' has 201; choose a shorter word"):
            make(longest.replace("x", "xx", 1))
    with pytest.raises(PerfusionError, match="has 399"):  # each by itself is short enough
        make_concept(default_word(*(make_concept(f"<{letter * 198}>") for letter in "ab")))


@pytest.mark.parametrize("name", ["superclass", "base_model"])
def test_texts_have_no_signs_that_a_file_refuses(name):
    with pytest.raises(PerfusionError, match=f"needs a {name} of signs that can be seen, but has 'ted.*dy'"):
        make_concept(**{name: "ted\u200bdy"})


@pytest.mark.parametrize(("typed", "word"), [(None, "<rex>"), ("", "<rex>"), ("  ", "<rex>"), (" Hugsy", "<hugsy>")])
def test_what_nobody_typed_stays(typed, word):
    assert typed_word(typed, "<rex>") == word


def test_unit_energy():
    inverse = torch.linalg.inv(second_moment(16))
    target_input = random((16,), 1, torch.float32)
    scaled = unit_energy(target_input, 37 * inverse.float() @ target_input)
    assert (target_input @ scaled).item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(PerfusionError, match="positive number"):
        unit_energy(target_input, -scaled)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_are_own_float32_copies(dtype):
    source = random((16,), 1, dtype).requires_grad_()
    concept = make_concept(superclass_encoding=source)
    before = concept.superclass_encoding.clone()
    with torch.no_grad():
        source.add_(1)
    assert torch.equal(concept.superclass_encoding, before)
    assert concept.superclass_encoding.dtype == torch.float32
    assert not concept.superclass_encoding.requires_grad


def test_a_concept_made_in_inference_mode_can_be_trained_with():
    """The host runs nodes in inference mode; what they make must still work under autograd."""
    with torch.inference_mode():
        concept = make_concept()
    assert not concept.target_input.is_inference()
    assert not concept.word_vectors["clip_l"].is_inference()
    encoding = random((3, 16), 1, torch.float32).requires_grad_()
    edit_encoding(encoding, [GatedConcept(concept, 0.6, 0.15).edit()]).value_context.sum().backward()
    assert encoding.grad is not None


def test_a_concept_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        make_concept().bias = 0.5
    mapping = {"clip_l": torch.ones(1, 16)}
    concept = make_concept(word_vectors=mapping)
    mapping.clear()
    assert list(concept.word_vectors) == ["clip_l"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"word": "hugsy"}, "angle brackets"),
        ({"superclass": " "}, "superclass"),
        ({"base_model": ""}, "base_model"),
        ({"form": "linear"}, "gated, paper"),
        ({"bias": math.nan}, "finite bias"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"training": {"lr": math.nan}}, "JSON"),
        ({"training": {"lr": torch.ones(1)}}, "JSON"),
        ({"target_input": torch.ones(15)}, "shape 16 for target_input"),
        ({"superclass_encoding": torch.full((16,), math.inf)}, "finite numbers in superclass_encoding"),
        ({"inverse_target_input": torch.ones(16)}, "unit_energy"),
        ({"word_vectors": {}}, "at least one entry in word_vectors"),
        ({"word_vectors": {"clip_g": torch.ones(1, 16)}}, "same text encoders"),
        ({"word_vectors": {"clip_l": torch.ones(1, 15)}}, "one width for clip_l"),
        ({"word_vectors": {"clip_l": torch.ones(0, 16)}}, "shape any x any"),
        ({"value_targets": {}}, "at least one entry in value_targets"),
        ({"value_targets": {"a": torch.ones(2, 2)}}, "shape any for value_targets"),
        ({"value_targets": {"a": torch.tensor([math.nan])}}, "finite numbers in value_targets"),
        ({"encoding_offset": torch.ones(16)}, "shape any x 16 for encoding_offset"),
        ({"encoding_offset": torch.ones(1, 15)}, "shape any x 16 for encoding_offset"),
        ({"encoding_offset": torch.full((1, 16), math.nan)}, "finite numbers in encoding_offset"),
        ({"superclass": "x" * 201}, "superclass of at most 200 signs"),
        ({"picture": b"\x89PNG"}, "JPEG"),
        ({"picture": b"\xff\xd8" + bytes(70_000)}, "70002 bytes"),
    ],
)
def test_what_a_concept_refuses(changes, message):
    with pytest.raises(PerfusionError, match=message) as caught:
        make_concept(**changes)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "settings",
    [
        {"bias": math.inf},
        {"temperature": 0.0},
        {"temperature": math.nan},
        {"strength": math.nan},
        {"start_percent": 0.6, "end_percent": 0.4},
        {"start_percent": -0.1},
        {"end_percent": 1.1},
    ],
)
def test_what_a_gate_refuses(settings):
    with pytest.raises(PerfusionError, match="<hugsy>"):
        GatedConcept(make_concept(), **{"bias": 0.6, "temperature": 0.15, **settings})


def test_edit_has_the_settings_of_the_gate():
    concept = make_concept(form="paper")
    edit = GatedConcept(concept, bias=0.5, temperature=0.2, strength=0.7).edit()
    assert (edit.bias, edit.temperature, edit.strength, edit.form) == (0.5, 0.2, 0.7, "paper")
    assert edit.target_input is concept.target_input


def test_stack_with_one_word_twice():
    hugsy, mossy = GatedConcept(make_concept(), 0.6, 0.15), GatedConcept(make_concept("<mossy>"), 0.6, 0.15)
    check_stack((hugsy, mossy))
    check_stack(())
    with pytest.raises(PerfusionError, match="<hugsy>"):
        check_stack((hugsy, mossy, replace(hugsy, bias=0.1)))


def test_one_word_for_two_offsets_is_refused():
    """Marks know a word by its vectors, so one of the offsets would be added to both words."""
    hugsy = make_concept("<hugsy>", encoding_offset=torch.ones(1, 16))
    again = replace(hugsy, word="<again>")
    gates = [GatedConcept(one, 0.5, 0.1) for one in (hugsy, again)]
    check_stack(gates)
    for offset in (None, torch.zeros(1, 16)):
        other = GatedConcept(replace(again, encoding_offset=offset), 0.5, 0.1)
        with pytest.raises(PerfusionError, match="words <hugsy> and <again> have the same vectors and other offsets"):
            check_stack([gates[0], other])
    moved = {key: vectors + 1e-3 for key, vectors in hugsy.word_vectors.items()}
    check_stack([gates[0], GatedConcept(replace(again, encoding_offset=None, word_vectors=moved), 0.5, 0.1)])
