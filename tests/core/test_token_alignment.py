"""Which tokens of two prompts correspond: properties for any lists, and the cases by name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.token_alignment import BEGIN, END, PADDING, align, common_subsequence, places_of

quick = settings(max_examples=50, deadline=None)

CHUNK = 12


def prompt(words, chunk=CHUNK):
    """A token list as the host makes it: chunks of begin, content, end and padding."""
    words, tokens = list(words), []
    while words or not tokens:
        content, words = words[: chunk - 2], words[chunk - 2 :]
        tokens += [BEGIN, *content, END, *[PADDING] * (chunk - 2 - len(content))]
    return tokens


WORDS = st.lists(st.sampled_from("abcdefg"), max_size=30)


@quick
@given(WORDS, WORDS)
def test_no_attention_is_made_and_none_but_that_of_deleted_tokens_is_lost(one, other):
    source, edited = prompt(one), prompt(other)
    alignment = align(source, edited)
    given_away = alignment.shares.sum(dim=1)
    for token, share in zip(source, given_away.tolist(), strict=True):
        assert share == pytest.approx(1.0) or (share == 0.0 and token not in (BEGIN, END))
    assert torch.equal(alignment.has_source, alignment.shares.sum(dim=0) > 0)
    assert all(alignment.has_source[j] for j, token in enumerate(edited) if token in (BEGIN, END))


@quick
@given(WORDS, WORDS)
def test_only_equal_tokens_and_replaced_ones_correspond(one, other):
    source, edited = prompt(one), prompt(other)
    alignment = align(source, edited)
    for i, j in alignment.shares.nonzero().tolist():
        assert source[i] == edited[j] or (i in alignment.changed_source and j in alignment.changed_edited)


@quick
@given(WORDS)
def test_a_prompt_is_aligned_with_itself_token_by_token(words):
    alignment = align(prompt(words), prompt(words))
    assert torch.equal(alignment.shares, torch.eye(len(prompt(words))))
    assert not alignment.changed_source and not alignment.changed_edited


@quick
@given(WORDS, WORDS)
def test_the_common_subsequence_is_one_and_is_as_long_as_from_the_other_side(one, other):
    pairs = common_subsequence(one, other)
    assert all(one[i] == other[j] for i, j in pairs)
    assert pairs == sorted(pairs) and len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert len(common_subsequence(other, one)) == len(pairs)
    assert len(common_subsequence(one[::-1], other[::-1])) == len(pairs)


@quick
@given(WORDS, WORDS, st.integers(1, 3), st.integers(1, 3))
def test_repeated_prompts_share_as_single_ones(one, other, times_s, times_e):
    alignment = align(prompt(one), prompt(other))
    repeated = alignment.repeated(times_s, times_e)
    s, e = alignment.shares.shape
    attention = torch.rand(3, s) / times_s  # softmax over copies gives each its part
    got = (attention.repeat(1, times_s) @ repeated.shares).unflatten(1, (times_e, e)).sum(dim=1)
    assert torch.allclose(got, attention * times_s @ alignment.shares, atol=1e-5)
    assert repeated.has_source.tolist() == alignment.has_source.tolist() * times_e
    changed = torch.zeros(e * times_e, dtype=torch.bool)
    changed[[*repeated.changed_edited]] = True
    assert changed.tolist() == ([j in alignment.changed_edited for j in range(e)] * times_e)


def shares(one, other):
    """The shares between content tokens alone."""
    source, edited = prompt(one), prompt(other)
    found = align(source, edited).shares
    rows = [i for i, token in enumerate(source) if token not in (BEGIN, END, PADDING)]
    columns = [j for j, token in enumerate(edited) if token not in (BEGIN, END, PADDING)]
    return found[rows][:, columns].tolist()


def test_a_swapped_block_goes_one_to_one():
    assert shares("abc", "axc") == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert shares("abcd", "axyd") == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_blocks_of_other_lengths_share_evenly():
    assert shares("abd", "axyd") == [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    assert shares("abcd", "axd") == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_inserted_and_deleted_tokens_have_no_counterpart():
    assert shares("ac", "abc") == [[1, 0, 0], [0, 0, 1]]
    assert shares("abc", "ac") == [[1, 0], [0, 0], [0, 1]]
    inserted = align(prompt("ac"), prompt("abc"))
    assert inserted.changed_edited == (2,) and not inserted.has_source[2] and inserted.changed_source == ()


def test_padding_is_matched_from_the_end():
    alignment = align(prompt("a"), prompt("abcd"))
    last = CHUNK - 1
    assert alignment.shares[last, last] == 1.0
    assert [i for i, row in enumerate(prompt("a")) if row == PADDING and not alignment.shares[i].any()] == [3, 4, 5]
    longer = align(prompt("abcd"), prompt("a"))
    assert not longer.has_source[[3, 4, 5]].any() and longer.has_source[6:].all()


def test_more_chunks_share_the_begin_and_end_of_the_last():
    source, edited = prompt("ab"), prompt("ab" + "c" * 12)
    found = align(source, edited).shares
    begins = [j for j, token in enumerate(edited) if token == BEGIN]
    assert len(begins) == 2 and found[0, begins].tolist() == [0.5, 0.5]
    back = align(edited, source).shares
    assert back[begins, 0].tolist() == [1.0, 1.0]


def test_places_of_a_phrase():
    assert places_of("bc", "abcdbc") == [1, 2, 4, 5]
    assert places_of("aa", "aaa") == [0, 1, 2]
    assert places_of("x", "abc") == places_of("", "abc") == places_of("abcd", "abc") == []
