"""perfusion_core.learned_tensors: after a training a word's own similarity is 1, and nothing but the gate knows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_training import WIDTH, start

from perfusion_core.edit import FORMS, OWN_KEYS, ConceptEdit, edit_encoding, similarity
from perfusion_core.learned_tensors import learned_tensors
from perfusion_core.training_run import train


def trained(**changes):
    trainer = start(steps=60, word_learning_rate=0.05, **changes)
    train(trainer, lambda report: None)
    return trainer


def own_similarity(trainer, learned) -> float:
    """The mean similarity of the word's tokens in all templates."""
    encodings, positions = trainer.task.encode(learned.word_vectors, trainer.settings.templates)
    return similarity(encodings[positions], learned.target_input, learned.inverse_target_input).mean().item()


def test_the_words_own_similarity_is_1_where_the_moving_average_lags():
    lagging = trained(normalise_gate=False)
    assert abs(own_similarity(lagging, lagging.learned()) - 1) > 0.05  # or there would be nothing to see
    trainer = trained()
    assert own_similarity(trainer, trainer.learned()) == pytest.approx(1, abs=1e-5)


def test_it_is_1_at_the_best_step_too():
    trainer = trained(validate_every=5, value_learning_rate=0.3)
    best = trainer.best_step()
    assert best < trainer.step_number  # the step before the last ones was better, at such a rate
    assert own_similarity(trainer, trainer.learned(best)) == pytest.approx(1, abs=1e-5)


def test_before_the_first_step_nothing_lags():
    trainer = start()
    assert torch.allclose(trainer.learned().target_input, trainer.target_input, rtol=1e-5)


def test_the_training_itself_goes_on_with_the_moving_average():
    with_it, without = trained(), trained(normalise_gate=False)
    with_it.learned()
    assert torch.equal(with_it.target_input, without.target_input)
    assert with_it.losses == without.losses
    assert torch.equal(without.learned().target_input, without.target_input)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), length=st.floats(0.3, 3))
@pytest.mark.parametrize("form", FORMS)
def test_the_length_of_i_moves_the_gate_and_nothing_else(form, seed, length):
    """With the gate wide open or shut, two lengths of i give the same contexts."""
    draw = torch.Generator().manual_seed(seed)
    target_input, superclass, *encoding = torch.randn(5, WIDTH, generator=draw, dtype=torch.float64)
    encoding = torch.stack(encoding)
    for bias in (-1e4, 1e4) if form not in OWN_KEYS else (-1e4,):
        one, other = (
            edit_encoding(encoding, [ConceptEdit(i, i / (i @ i), superclass, bias, 0.1, form=form)])
            for i in (target_input, length * target_input)
        )
        assert torch.allclose(one.key_context, other.key_context, atol=1e-9)
        assert torch.allclose(one.value_context, other.value_context, atol=1e-9)
        assert torch.allclose(one.similarities, length * other.similarities, atol=1e-9)


@pytest.mark.parametrize("word", [torch.zeros(WIDTH), -torch.ones(WIDTH), torch.full((WIDTH,), math.inf)])
def test_a_word_that_left_its_target_input_leaves_it_as_it_is(word):
    tensors = {"target_input": torch.ones(WIDTH), "superclass_encoding": torch.ones(WIDTH)}
    assert torch.equal(learned_tensors(tensors, torch.eye(WIDTH), word).target_input, torch.ones(WIDTH))
