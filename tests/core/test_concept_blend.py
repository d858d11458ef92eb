"""A concept between two others: the ends are the concepts, lengths lie between, and C^-1 i stays that of i."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from core_examples import PICTURE, make_concept, random, second_moment
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core.concept import Concept, GatedConcept, alone, unit_energy
from perfusion_core.concept_blend import (
    KEY,
    between_directions,
    blend_concepts,
    concerns,
    default_word,
)
from perfusion_core.concept_file import load_concept, round_for_file, save_concept
from perfusion_core.errors import PerfusionError

WIDTH, WORD = 16, "<between>"
INVERSE = torch.linalg.inv(second_moment(WIDTH))
TENSORS = ("target_input", "inverse_target_input", "superclass_encoding")
MAPPINGS = ("word_vectors", "value_targets")
shares = st.floats(0, 1)


def concept(word: str, seed: int, length: float = 1.0, **changes) -> Concept:
    """One whose target input is similar to that of others in one metric."""
    target = length * (random((WIDTH,), 1) + 0.4 * random((WIDTH,), seed))
    own = {"target_input": target, "inverse_target_input": unit_energy(target, INVERSE @ target), **changes}
    return make_concept(word, WIDTH, seed=seed, **own)


A, B = concept("<hugsy>", 20, picture=PICTURE), concept("<bruno>", 30, length=3.0, bias=0.85)
ONE, OTHER = alone(A)[0], alone(B)[0]


def tensors(one: Concept) -> dict[str, torch.Tensor]:
    found = {name: getattr(one, name) for name in TENSORS}
    return found | {f"{kind}.{key}": t for kind in MAPPINGS for key, t in getattr(one, kind).items()}


@pytest.mark.parametrize(("share", "end"), [(0.0, ONE), (1.0, OTHER)])
def test_the_ends_are_the_concepts_bit_for_bit(share, end):
    blend = blend_concepts(ONE, OTHER, share, WORD)
    assert blend.concept.word == WORD and blend.concept.training == end.concept.training
    assert vars(replace(blend, concept=end.concept)) == vars(end)
    for name, tensor in tensors(blend.concept).items():
        assert torch.equal(tensor, tensors(end.concept)[name]), name


@given(shares)
def test_lengths_lie_between(share):
    blend = blend_concepts(ONE, OTHER, share, WORD).concept
    for kind in MAPPINGS:
        for key, tensor in getattr(blend, kind).items():
            a, b = (getattr(one, kind)[key].norm(dim=-1) for one in (A, B))
            assert torch.allclose(tensor.norm(dim=-1), torch.lerp(a, b, share), rtol=1e-5)


@given(shares)
def test_what_decides_the_gate_is_linear_and_belongs_together(share):
    """Whatever the lengths of both target inputs, whose units their files do not hold."""
    blend = blend_concepts(ONE, OTHER, share, WORD).concept
    assert torch.allclose(blend.target_input, torch.lerp(A.target_input, B.target_input, share), atol=1e-6)
    mixed = torch.lerp(A.superclass_encoding, B.superclass_encoding, share)
    assert torch.allclose(blend.superclass_encoding, mixed, atol=1e-6)
    target = blend.target_input.double()
    assert torch.allclose(
        blend.inverse_target_input.double(), unit_energy(target, INVERSE @ target), rtol=1e-3, atol=1e-6
    )


@given(shares)
def test_an_offset_is_mixed_as_the_encoding_is_and_nobodys_is_zero(share):
    a, b = torch.full((2, WIDTH), 2.0), random((2, WIDTH), 7, torch.float32)
    with_a, with_b = (alone(replace(one, encoding_offset=offset))[0] for one, offset in ((A, a), (B, b)))

    def offset_of(one, other):
        return blend_concepts(one, other, share, WORD).concept.encoding_offset

    if 0 < share < 1:
        assert torch.allclose(offset_of(with_a, with_b), torch.lerp(a, b, share), atol=1e-6)
        assert torch.allclose(offset_of(with_a, OTHER), (1 - share) * a, atol=1e-6)
        assert torch.allclose(offset_of(ONE, with_b), share * b, atol=1e-6)
    assert offset_of(ONE, OTHER) is None


def test_offsets_of_other_numbers_of_positions_are_refused():
    one, other = (alone(replace(c, encoding_offset=torch.ones(n, WIDTH)))[0] for c, n in ((A, 1), (B, 2)))
    with pytest.raises(PerfusionError, match="number of positions 1, but <bruno> has 2"):
        blend_concepts(one, other, 0.5, WORD)


@given(shares)
def test_both_orders_are_the_same_slider(share):
    one, other = blend_concepts(ONE, OTHER, share, WORD), blend_concepts(OTHER, ONE, 1 - share, WORD)
    for name, tensor in tensors(one.concept).items():
        assert torch.allclose(tensor, tensors(other.concept)[name], rtol=1e-4, atol=1e-5), name
    assert one.bias == pytest.approx(other.bias)


@given(shares)
def test_a_concept_with_itself_stays_itself(share):
    blend = blend_concepts(ONE, ONE, share, WORD)
    for name, tensor in tensors(blend.concept).items():
        assert torch.allclose(tensor, tensors(A)[name], rtol=1e-5, atol=1e-6), name


def test_directions_that_cancel_give_no_numbers_that_are_not():
    vector = random((5,), 0)
    middle = between_directions(vector, -vector, 0.5)
    assert torch.isfinite(middle).all() and middle.norm() < 1e-6
    assert torch.equal(between_directions(torch.zeros(5), torch.zeros(5), 0.3), torch.zeros(5))


def test_gates_lie_between():
    one = GatedConcept(A, 0.4, 0.1, strength=1.0, start_percent=0.0, end_percent=1.0)
    other = GatedConcept(B, 0.8, 0.2, strength=0.5, start_percent=0.2, end_percent=0.6, lock=0.5)
    blend = blend_concepts(one, other, 0.25, WORD)
    found = (blend.bias, blend.temperature, blend.strength, blend.start_percent, blend.end_percent, blend.lock)
    assert found == pytest.approx((0.5, 0.125, 0.875, 0.05, 0.9, 0.875))  # the form gated has the lock 1
    assert blend.concept.bias == pytest.approx(0.75 * A.bias + 0.25 * B.bias)
    assert blend_concepts(ONE, OTHER, 0.5, WORD).lock is None
    lockable = [alone(concept(f"<l{n}>", n, form="lockable", lock=lock))[0] for n, lock in enumerate((0.2, 0.6))]
    assert blend_concepts(*lockable, 0.5, WORD).concept.lock == pytest.approx(0.4)


def test_what_has_nothing_between_is_of_the_nearer_one():
    other = replace(B, superclass="cup", training={"pooled_lock": True})
    of = {share: blend_concepts(ONE, alone(other)[0], share, WORD).concept for share in (0.25, 0.75)}
    assert [of[share].superclass for share in of] == ["bear", "cup"]
    assert [of[share].pooled_lock for share in of] == [False, True]
    assert torch.equal(of[0.25].superclass_vectors["clip_l"], A.superclass_vectors["clip_l"])
    assert of[0.25].picture is None and of[0.75].training[KEY] == {"of": ["<hugsy>", "<bruno>"], "share": 0.75}


def test_it_is_saved_and_loaded_and_blended_again(tmp_path):
    blend = blend_concepts(ONE, OTHER, 0.5, default_word(A, B)).concept
    save_concept(tmp_path / "blend.safetensors", blend)
    loaded = load_concept(tmp_path / "blend.safetensors")
    assert loaded.word == "<hugsy-bruno>" and loaded.training == blend.training
    for name, tensor in tensors(loaded).items():
        assert torch.equal(tensor, tensors(round_for_file(blend))[name]), name
    assert blend_concepts(alone(loaded)[0], ONE, 0.5, WORD).concept.training[KEY]["of"] == ["<hugsy-bruno>", "<hugsy>"]


def test_what_speaks_against_a_blend_is_told():
    assert concerns(A, B) == []
    other = replace(B, superclass="cup", statistics_hash="another")
    found = concerns(A, other)
    assert len(found) == 2 and "bear and cup" in found[0] and "statistics" in found[1]
    assert blend_concepts(ONE, alone(other)[0], 0.5, WORD).concept.statistics_hash == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base_model": "sdxl"}, "base model 'sd1', but <bruno> has 'sdxl'"),
        ({"form": "paper"}, "form 'gated', but <bruno> has 'paper'"),
        ({"clip_layer": -2}, "layer of the text encoder None, but <bruno> has -2"),
        (
            {"word_vectors": {"clip_l": torch.ones(2, WIDTH)}},
            "word tokens {'clip_l': 1}, but <bruno> has {'clip_l': 2}",
        ),
        (
            dict.fromkeys(("word_vectors", "superclass_vectors"), {"clip_l": torch.ones(1, 7)}),
            f"width of clip_l vectors {WIDTH}, but <bruno> has 7",
        ),
        ({"value_targets": {"another": torch.ones(8)}}, "number of layers 2, but <bruno> has 1"),
        ({"value_targets": dict.fromkeys(A.value_targets, torch.ones(3))}, "attn2 of size 8, but <bruno> has 3"),
        (
            {"target_input": -B.target_input, "inverse_target_input": -B.inverse_target_input},
            "expected a concept simil",
        ),
    ],
)
def test_concepts_that_cannot_be_blended_are_told_in_one_sentence(changes, told):
    with pytest.raises(PerfusionError) as error:
        blend_concepts(ONE, alone(replace(B, **changes))[0], 0.5, WORD)
    assert told in str(error.value) and str(error.value).startswith("The input concept_b")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(PerfusionError, match="share expected a number from 0 to 1"):
        blend_concepts(ONE, OTHER, share, WORD)
