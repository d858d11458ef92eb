"""Prompts of which it is known whose words they have: the others take no part, exactly."""

from __future__ import annotations

import pytest
import torch
from core_examples import make_edits, random, second_moment
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.edit import FORMS, edit_encoding
from perfusion_core.edit_present import edit_present
from perfusion_core.word_in_prompt import WordsInPrompt

WIDTH, TOKENS, ROWS, COUNT = 24, 7, 4, 3
INVERSE = torch.linalg.inv(second_moment(WIDTH))
quick = settings(max_examples=25, deadline=None)
seeds, forms = st.integers(0, 10_000), st.sampled_from(FORMS)
PARTS = ("key_context", "value_context", "value_gates", "similarities", "gates")


def words_at(place: int, present: torch.Tensor) -> WordsInPrompt:
    own = torch.zeros(ROWS, TOKENS, COUNT, dtype=torch.bool)
    own[:, place] = present
    return WordsInPrompt(own, torch.full((ROWS, TOKENS, COUNT), 0.8, dtype=torch.float64))


@quick
@given(seeds, forms, st.lists(st.lists(st.booleans(), min_size=COUNT, max_size=COUNT), min_size=ROWS, max_size=ROWS))
def test_each_prompt_is_edited_by_its_own_concepts_alone(seed, form, rows):
    present = torch.tensor(rows)
    edits, encoding = make_edits(COUNT, WIDTH, INVERSE, seed, form=form), random((ROWS, TOKENS, WIDTH), seed + 1)
    words = words_at(2, present)
    found = edit_present(encoding, edits, words, present)
    for row, of_row in enumerate(rows):
        taking = [j for j, here in enumerate(of_row) if here]
        if not taking:
            assert torch.equal(found.key_context[row], encoding[row])
            assert torch.equal(found.value_context[row], encoding[row])
        else:
            of_words = WordsInPrompt(words.own[row : row + 1], words.similarities[row : row + 1])
            alone = edit_encoding(encoding[row, None], [edits[j] for j in taking], of_words.of(torch.tensor(taking)))
            for part in ("key_context", "value_context"):
                torch.testing.assert_close(getattr(found, part)[row], getattr(alone, part)[0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(found.value_gates[row][:, taking], alone.value_gates[0], rtol=1e-9, atol=1e-9)
        absent = [j for j, here in enumerate(of_row) if not here]
        assert not found.value_gates[row][:, absent].any() and not found.gates[row][:, absent].any()


@quick
@given(seeds, forms)
def test_where_all_are_present_nothing_is_new(seed, form):
    edits, encoding = make_edits(COUNT, WIDTH, INVERSE, seed, form=form), random((ROWS, TOKENS, WIDTH), seed + 1)
    found = edit_present(encoding, edits, None, torch.ones(ROWS, COUNT, dtype=torch.bool))
    usual = edit_encoding(encoding, edits)
    assert all(torch.equal(getattr(found, part), getattr(usual, part)) for part in PARTS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_nothing_is_lost_by_rounding(dtype):
    edits = make_edits(COUNT, WIDTH, INVERSE, form="paper", bias=-3.0)
    encoding = random((ROWS, TOKENS, WIDTH), 4, dtype)
    found = edit_present(encoding, edits, None, torch.zeros(ROWS, COUNT, dtype=torch.bool))
    assert found.key_context.dtype == dtype
    assert torch.equal(found.key_context, encoding) and torch.equal(found.value_context, encoding)


def test_a_single_prompt_needs_no_batch():
    edits, encoding = make_edits(2, WIDTH, INVERSE), random((TOKENS, WIDTH), 5)
    found = edit_present(encoding, edits, None, torch.tensor([True, False]))
    alone = edit_encoding(encoding, edits[:1])
    assert found.key_context.shape == encoding.shape
    torch.testing.assert_close(found.key_context, alone.key_context)
