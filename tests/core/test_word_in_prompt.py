"""The similarity relative to the word as it stands in a prompt, and the edit that is measured by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from core_examples import make_edits, random, second_moment

from perfusion_core.edit import FORMS, edit_encoding, similarity
from perfusion_core.word_in_prompt import LEAST_REFERENCE, WordsInPrompt

WIDTH, TOKENS = 24, 7
INVERSE = torch.linalg.inv(second_moment(WIDTH))
RELATIVE = [form for form in FORMS if form != "paper"]


def prompt(edits, shares, seed=3):
    """Two prompts of which the first has the words of the concepts at tokens 1, 2, ..., each with this share of its i,
    and the marks of it."""
    encoding = 0.2 * random((2, TOKENS, WIDTH), seed)
    own = torch.zeros(2, TOKENS, len(edits), dtype=torch.bool)
    plain = torch.full((2, TOKENS, len(edits)), torch.nan, dtype=torch.float64)  # of other tokens it must not matter
    for j, (edit, share) in enumerate(zip(edits, shares, strict=True)):
        encoding[0, j + 1] = encoding[0, j + 1] + share * edit.target_input
        own[0, j + 1, j] = True
        plain[0, j + 1, j] = similarity(encoding[0, j + 1], edit.target_input, edit.inverse_target_input)
    return encoding, WordsInPrompt(own, plain)


def raw(encoding, edit):
    return similarity(encoding, edit.target_input, edit.inverse_target_input)


@pytest.mark.parametrize("form", RELATIVE)
@pytest.mark.parametrize("share", [0.1, 0.64, 1.0, 1.4])
def test_the_word_has_a_similarity_of_one_wherever_it_stands(form, share):
    (edit,) = make_edits(1, WIDTH, INVERSE, form=form)
    encoding, words = prompt([edit], [share])
    edited = edit_encoding(encoding, [edit], words)
    assert edited.similarities[0, 1, 0].item() == pytest.approx(1, abs=1e-12)
    assert edited.gates[0, 1, 0].item() == pytest.approx(torch.sigmoid(torch.tensor(0.4 / 0.15)).item(), abs=1e-6)


@pytest.mark.parametrize("form", RELATIVE)
def test_other_tokens_are_measured_against_it_and_other_prompts_are_not(form):
    (edit,) = make_edits(1, WIDTH, INVERSE, form=form)
    encoding, words = prompt([edit], [0.7])
    alone, own = raw(encoding, edit), raw(encoding[0, 1], edit)
    found = edit_encoding(encoding, [edit], words).similarities[..., 0]
    others = torch.arange(TOKENS) != 1
    torch.testing.assert_close(found[0, others], alone[0, others] / own)
    torch.testing.assert_close(found[1], alone[1], rtol=0, atol=0)
    assert (found[0, others] - alone[0, others]).abs().max() > 0.01


def test_a_word_that_hardly_has_its_concept_does_not_open_the_gate_for_others():
    (edit,) = make_edits(1, WIDTH, INVERSE)
    encoding, words = prompt([edit], [0.02])
    assert abs(raw(encoding[0, 1], edit)) < LEAST_REFERENCE / 2
    found = edit_encoding(encoding, [edit], words).similarities[0, 2:, 0]
    torch.testing.assert_close(found, raw(encoding[0, 2:], edit) / LEAST_REFERENCE)


def test_a_word_that_stands_there_twice():
    """Each with its own; other tokens with the mean of both."""
    (edit,) = make_edits(1, WIDTH, INVERSE)
    encoding, words = prompt([edit], [0.6])
    encoding[0, 4] = encoding[0, 4] + 0.9 * edit.target_input
    words.own[0, 4] = True
    words.similarities[0, 4, 0] = raw(encoding[0, 4], edit)
    found, alone = edit_encoding(encoding, [edit], words).similarities[0, :, 0], raw(encoding[0], edit)
    assert found[[1, 4]].tolist() == pytest.approx([1, 1], abs=1e-12)
    assert found[2].item() == pytest.approx((alone[2] / alone[[1, 4]].mean()).item(), abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.2])
def test_the_weight_of_a_word_acts(weight):
    """The encoding of a weighted word lies on the line from the empty prompt's to its own."""
    (edit,) = make_edits(1, WIDTH, INVERSE)
    encoding, words = prompt([edit], [0.8])
    empty, plain = 0.05 * random((WIDTH,), 9), encoding[0, 1].clone()
    encoding[0, 1] = torch.lerp(empty, plain, weight)
    found = edit_encoding(encoding, [edit], words).similarities[0, 1, 0]
    expected = weight + (1 - weight) * raw(empty, edit) / raw(plain, edit)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_tokens_of_a_word_keep_their_shares():
    """Its first token may know less of the concept than its last; together they are the word."""
    (edit,) = make_edits(1, WIDTH, INVERSE)
    encoding, words = prompt([edit], [0.5])
    encoding[0, 2] = encoding[0, 2] + 1.1 * edit.target_input
    words.own[0, 2] = True
    alone = raw(encoding[0, 1:3], edit)
    words.similarities[0, 1:3, 0] = alone.mean()
    found = edit_encoding(encoding, [edit], words).similarities[0, 1:3, 0]
    torch.testing.assert_close(found, alone / alone.mean())
    assert found.mean().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("form", RELATIVE)
def test_two_words_in_one_prompt(form):
    """Each gate is as open at its own word as if it were alone, and at the other's no wider than without marks, also
    where the words have unlike shares of their concepts."""
    edits = make_edits(2, WIDTH, INVERSE, form=form, bias=0.85)
    encoding, words = prompt(edits, [0.6, 1.1])
    edited = edit_encoding(encoding, edits, words)
    assert edited.similarities[0, [1, 2], [0, 1]].tolist() == pytest.approx([1, 1], abs=1e-12)
    at_the_others = edited.similarities[0, [2, 1], [0, 1]]
    assert at_the_others.max() < 0.5


def test_at_a_known_word_no_other_concept_is_taken_for_the_one_that_is_meant():
    """The word of the first concept has little of it, and by chance more of the second."""
    one, other = make_edits(2, WIDTH, INVERSE)
    alike = other.target_input + 2 * one.target_input
    edits = [one, replace(other, target_input=alike, inverse_target_input=INVERSE @ alike)]
    encoding, words = prompt(edits, [0.55, 1.0])
    encoding[0, 1] = 0.55 * edits[0].target_input + 0.7 * edits[1].target_input
    words.similarities[0, 1, 0] = raw(encoding[0, 1], edits[0])
    similarities = edit_encoding(encoding, edits, words).similarities[0, 1]
    unmarked = edit_encoding(encoding, edits).similarities[0, 1]
    assert similarities[0].item() == pytest.approx(1, abs=1e-12)
    assert unmarked[1] > similarities[1] + 0.1


def test_the_form_paper_measures_as_the_paper_does():
    edits = make_edits(2, WIDTH, INVERSE, form="paper")
    encoding, words = prompt(edits, [0.7, 0.8])
    marked, plain = edit_encoding(encoding, edits, words), edit_encoding(encoding, edits)
    for name in ("key_context", "value_context", "value_gates", "similarities"):
        assert torch.equal(getattr(marked, name), getattr(plain, name))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_nowhere_changes_nothing(form):
    """A prompt with no word in it, or with that of a concept of strength 0, bit for bit."""
    edits = make_edits(2, WIDTH, INVERSE, form=form)
    encoding, words = prompt(edits, [0.7, 0.8])
    nowhere = WordsInPrompt(torch.zeros_like(words.own), words.similarities)
    marked, plain = edit_encoding(encoding, edits, nowhere), edit_encoding(encoding, edits)
    assert torch.equal(marked.key_context, plain.key_context)
    assert torch.equal(marked.value_context, plain.value_context)
    first = [edits[0], replace(edits[1], strength=0.0)]
    only_second = WordsInPrompt(words.own & torch.tensor([False, True]), words.similarities)
    assert torch.equal(
        edit_encoding(encoding, first, only_second).key_context, edit_encoding(encoding, first).key_context
    )


def test_the_share_of_i_that_is_taken_out_stays():
    """Only the gate is measured against the word: what the edit removes is all that the encoding has of i."""
    (edit,) = make_edits(1, WIDTH, INVERSE, form="gated", bias=-1e3)
    encoding, words = prompt([edit], [0.6])
    left = edit_encoding(encoding, [edit], words).value_context
    assert raw(left, edit).abs().max() < 1e-12
