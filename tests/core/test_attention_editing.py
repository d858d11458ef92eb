"""The edit of attention without maps against explicit maps, as the paper writes it, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_token_alignment import prompt

from perfusion_core.attention_editing import blended, edited_values, soft_threshold
from perfusion_core.errors import PerfusionError
from perfusion_core.prompt_edit import WordSetting, edited_text, read_phrases, read_words
from perfusion_core.token_alignment import align

quick = settings(max_examples=50, deadline=None)

PLACES, WIDTH = 5, 4
WORDS = st.lists(st.sampled_from("abcd"), max_size=20)


def attention(queries, keys):
    return (queries @ keys.T * WIDTH**-0.5).softmax(dim=-1)


def by_maps(alignment, taking, weights, source, edited, values):
    """The output from explicit maps: those of the source, moved; where a token does not take them, its own."""
    of_source, own = attention(*source), attention(*edited)
    moved = of_source @ alignment.shares.double()
    takes = taking & alignment.has_source
    maps = torch.where(takes, moved, own) * weights
    return maps @ values


@quick
@given(WORDS, WORDS, st.integers(0, 2**31))
def test_no_map_is_needed(one, other, seed):
    tokens_s, tokens_e = prompt(one), prompt(other)
    alignment = align(tokens_s, tokens_e)
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    source, edited = ((numbers(PLACES, WIDTH), numbers(len(tokens), WIDTH)) for tokens in (tokens_s, tokens_e))
    values, weights = numbers(len(tokens_e), WIDTH), numbers(len(tokens_e))
    for share in (0.0, 0.5, 1.0):
        taking = torch.rand(len(tokens_e), generator=generator) < share
        factors = edited_values(alignment, taking, weights)
        output = torch.zeros(PLACES, WIDTH, dtype=torch.float64)
        if factors.of_source is not None:
            output += attention(*source) @ (factors.of_source.double() @ values)
        if factors.own is not None:
            output += attention(*edited) @ (factors.own[:, None] * values)
        assert not factors.changes_nothing
        expected = by_maps(alignment, taking, weights, source, edited, values)
        assert torch.allclose(output, expected, atol=1e-6)


def test_what_needs_nothing_is_left_out():
    alignment = align(prompt("abc"), prompt("abc"))
    ones, none = torch.ones(len(prompt("abc"))), torch.zeros(len(prompt("abc")), dtype=torch.bool)
    assert edited_values(alignment, none, ones).changes_nothing
    taken = edited_values(alignment, ~none, ones)
    assert torch.equal(taken.of_source, torch.eye(len(ones))) and taken.own is None
    weighed = edited_values(alignment, none, ones * 2)
    assert weighed.of_source is None and torch.equal(weighed.own, ones * 2)
    some = none.clone()
    some[1] = True
    assert edited_values(alignment, some, ones).has_both


@quick
@given(st.floats(0, 1), st.floats(0, 1), st.just(0.0) | st.floats(0.01, 1))
def test_the_threshold_is_a_ramp(value, threshold, softness):
    at = soft_threshold(torch.tensor([value, threshold, 1.0]), threshold, softness).tolist()
    assert 0 <= at[0] <= 1 and (softness == 0 or at[1] == pytest.approx(0.5))
    if value > threshold + softness / 2 + 1e-6:
        assert at[0] == 1.0
    if value < threshold - softness / 2 - 1e-6:
        assert at[0] == 0.0


def test_a_blend_is_exact_at_both_ends():
    source, edited = torch.randn(2, 1, 4, 4, 4)
    assert torch.equal(blended(source, edited, torch.zeros(1, 1, 4, 4)), source)
    assert torch.equal(blended(source, edited, torch.ones(1, 1, 4, 4)), edited)


def test_replacements_in_words():
    assert edited_text("a red cat", "") == "a red cat"
    assert edited_text("a red cat", " a dog ") == "a dog"
    assert edited_text("a red cat", "red -> blue\ncat->dog") == "a blue dog"
    assert edited_text("a red cat", "red -> blue; cat -> <hugsy>") == "a blue <hugsy>"
    assert edited_text("a red cat", " red ->") == "a  cat"
    assert edited_text("a delicate cat, a cat", "cat -> dog") == "a delicate dog, a dog"
    assert edited_text("a <cat> in a catalogue", "<cat> -> dog; catalog -> b") == "a dog in a bue"
    beach, cat, dog = "\u6d5c\u8fba\u306e", "\u732b", "\u72ac"  # Japanese has no spaces
    assert edited_text(beach + cat, f"{cat} -> {dog}") == beach + dog
    for wrong in ("dog -> cat", "-> cat", "cat -> dog\nblue"):
        with pytest.raises(PerfusionError, match="before ->"):
            edited_text("a red cat", wrong)


def test_weights_of_words():
    assert read_words("hat = 2\n <hugsy> = -1, 0, 0.8; ") == (
        WordSetting("hat", 2.0),
        WordSetting("<hugsy>", -1.0, (0.0, 0.8)),
    )
    for wrong in ("hat", "= 2", "hat = x", "hat = 4", "hat = -2.5", "hat = 1, 0", "hat = 1, 0, 2", "hat = nan"):
        with pytest.raises(PerfusionError, match="hat = 2"):
            read_words(wrong)
    assert read_phrases("a cat, hat;\nball") == ("a cat", "hat", "ball") and read_phrases(" ") == ()
