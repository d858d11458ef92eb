"""The lock of the keys as a number: what it mixes, what it leaves alone, and the forms that it contains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from core_examples import make_concept, make_edits, random, relative_error, second_moment
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.concept import GatedConcept, alone
from perfusion_core.edit import FORMS, LOCK_OF, ConceptEdit, edit_encoding
from perfusion_core.errors import PerfusionError

WIDTH, TOKENS = 24, 7
INVERSE = torch.linalg.inv(second_moment(WIDTH))
seeds, forms, locks = st.integers(0, 10_000), st.sampled_from(FORMS), st.floats(0, 1)
quick = settings(max_examples=25, deadline=None)


def contexts(edits: list[ConceptEdit], seed: int, **changes):
    """The edit of tokens of which one is a concept's own and one is shared out between two of them."""
    encoding = random((TOKENS, WIDTH), seed + 1)
    encoding[2], encoding[3] = edits[0].target_input, (edits[0].target_input + edits[-1].target_input) / 2
    return edit_encoding(encoding, [replace(edit, **changes) for edit in edits])


@quick
@given(seeds, forms, locks, st.integers(1, 3), st.sampled_from([0.4, 1.0, 1.3]))
def test_keys_are_linear_in_the_lock_and_values_do_not_know_it(seed, form, lock, count, strength):
    edits = make_edits(count, WIDTH, INVERSE, seed, form=form, strength=strength)
    own, locked, between = (contexts(edits, seed, lock=of) for of in (0.0, 1.0, lock))
    expected = own.key_context + lock * (locked.key_context - own.key_context)
    assert relative_error(between.key_context, expected) <= 1e-12
    assert not torch.equal(own.key_context, locked.key_context)
    for other in (own, locked):
        assert torch.equal(between.value_context, other.value_context)
        assert torch.equal(between.value_gates, other.value_gates)


@quick
@given(seeds, forms, st.sampled_from([torch.float32, torch.float64]))
def test_the_lock_of_the_form_is_the_form_bit_for_bit(seed, form, dtype):
    edits = make_edits(2, WIDTH, INVERSE, seed, form=form)
    encoding = random((TOKENS, WIDTH), seed + 1, dtype)
    chosen = edit_encoding(encoding, [replace(edit, lock=LOCK_OF[form]) for edit in edits])
    assert torch.equal(chosen.key_context, edit_encoding(encoding, edits).key_context)


@quick
@given(seeds, st.integers(1, 3))
def test_lockable_at_0_is_unlocked_bit_for_bit(seed, count):
    edits = make_edits(count, WIDTH, INVERSE, seed, form="unlocked")
    lockable, unlocked = contexts(edits, seed, form="lockable", lock=0.0), contexts(edits, seed)
    assert torch.equal(lockable.key_context, unlocked.key_context)
    assert torch.equal(lockable.value_context, unlocked.value_context)


@quick
@given(seeds, st.integers(1, 3))
def test_lockable_at_1_is_gated_where_gates_are_open(seed, count):
    """Whatever the gate, the own keys of unlocked are all that is left of the word at lock 0; at 1 nothing is."""
    edits = make_edits(count, WIDTH, INVERSE, seed, bias=-100.0, form="gated")
    lockable, gated = contexts(edits, seed, form="lockable", lock=1.0), contexts(edits, seed)
    assert relative_error(lockable.key_context, gated.key_context) <= 1e-12


def test_a_closing_gate_leaves_the_superclass_at_every_lock():
    (edit,) = make_edits(1, WIDTH, INVERSE, form="lockable", bias=100.0, temperature=0.01)
    for lock in (0.0, 0.5, 1.0):
        closed = edit_encoding(edit.target_input[None], [replace(edit, lock=lock)])
        own = torch.sigmoid(torch.tensor(2.5, dtype=torch.float64))  # of the own token, by the gate that knows it
        expected = edit.target_input + own * (edit.superclass_encoding - edit.target_input)
        assert relative_error(closed.key_context[0], expected) <= 1e-12
        assert torch.equal(closed.key_context, closed.value_context)


@quick
@given(seeds, forms, st.lists(locks, min_size=3, max_size=3))
def test_every_row_may_have_its_own_lock(seed, form, of_rows):
    edits = make_edits(2, WIDTH, INVERSE, seed, form=form)
    encoding = random((3, TOKENS, WIDTH), seed + 1)
    drawn = torch.tensor(of_rows, dtype=torch.float64)[:, None]
    together = edit_encoding(encoding, [replace(edits[0], lock=drawn), edits[1]])
    for row, lock in enumerate(of_rows):
        apart = edit_encoding(encoding[row], [replace(edits[0], lock=lock), edits[1]])
        assert torch.allclose(together.key_context[row], apart.key_context, rtol=0, atol=1e-12)
        assert torch.allclose(together.value_context[row], apart.value_context, rtol=0, atol=1e-12)


@quick
@given(seeds, forms, locks)
def test_strength_0_is_nothing_at_every_lock(seed, form, lock):
    edits = make_edits(2, WIDTH, INVERSE, seed, form=form, lock=lock)
    encoding = random((TOKENS, WIDTH), seed + 1)
    found = edit_encoding(encoding, [replace(edits[0], strength=0.0), edits[1]])
    assert torch.equal(found.key_context, edit_encoding(encoding, edits[1:]).key_context)
    nothing = edit_encoding(encoding, [replace(edit, strength=0.0) for edit in edits])
    assert nothing.key_context is encoding


@quick
@given(seeds, st.lists(locks, min_size=3, max_size=3), st.permutations(range(3)))
def test_order_does_not_matter_with_different_locks(seed, of_each, order):
    edits = make_edits(3, WIDTH, INVERSE, seed, form="lockable")
    edits = [replace(edit, lock=lock) for edit, lock in zip(edits, of_each, strict=True)]
    encoding = random((TOKENS, WIDTH), seed + 1)
    found, expected = edit_encoding(encoding, [edits[j] for j in order]), edit_encoding(encoding, edits)
    assert torch.allclose(found.key_context, expected.key_context, rtol=0, atol=1e-10)


@pytest.mark.parametrize("lock", [-0.1, 1.5, float("nan"), torch.tensor([[0.0], [2.0]])])
def test_a_lock_is_from_0_to_1(lock):
    (edit,) = make_edits(1, WIDTH, INVERSE)
    with pytest.raises(PerfusionError, match="lock of a concept must be a number from 0 to 1"):
        replace(edit, lock=lock)
    if not torch.is_tensor(lock):
        with pytest.raises(PerfusionError, match="lock of <hugsy> must be a number from 0 to 1"):
            GatedConcept(make_concept(), 0.8, 0.1, lock=lock)


@pytest.mark.parametrize("form", FORMS)
def test_a_concept_is_used_with_its_own_lock_or_the_one_that_was_chosen(form):
    concept = make_concept(form=form)
    assert concept.recommended_lock == LOCK_OF[form] == alone(concept)[0].edit().lock_in_force
    assert GatedConcept(concept, 0.8, 0.1, lock=0.25).edit().lock_in_force == 0.25


def test_only_a_lockable_concept_recommends_another_lock():
    assert alone(make_concept(form="lockable", lock=0.0))[0].edit().lock_in_force == 0.0
    for changes in ({"form": "unlocked", "lock": 0.0}, {"form": "gated", "lock": 0.5}):
        with pytest.raises(PerfusionError, match="needs no lock of its own in the form"):
            make_concept(**changes)
    with pytest.raises(PerfusionError, match="needs a lock from 0 to 1 in the form lockable, but it is 2"):
        make_concept(form="lockable", lock=2)
