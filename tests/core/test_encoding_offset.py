"""The offset of a word's encoding: where it is added, how it is learned, and that nothing changes without it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_training import WIDTH, assert_same_state, start

from perfusion_core.concept_check import check_learned
from perfusion_core.encoding_offset import OFFSET, with_offset
from perfusion_core.errors import PerfusionError
from perfusion_core.learning_rates import size
from perfusion_core.training import TrainingSettings

prompts = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=3).map(torch.tensor)


@given(prompts, st.integers(1, 3))
def test_each_position_has_its_own_vector_through_all_occurrences(positions, count):
    draw = torch.Generator().manual_seed(1)
    encodings = torch.randn(*positions.shape, 4, generator=draw)
    offset = torch.randn(count, 4, generator=draw)
    found = with_offset(encodings, positions, offset)
    for row, at, before in zip(found, positions, encodings, strict=True):
        assert torch.equal(row[~at], before[~at])
        expected = offset.repeat(len(row), 1)[: int(at.sum())]
        torch.testing.assert_close(row[at] - before[at], expected)


def test_without_an_offset_nothing_is_computed():
    encodings = torch.randn(1, 3, 4)
    assert with_offset(encodings, torch.ones(1, 3, dtype=torch.bool), None) is encodings


def trained(steps: int = 3, **changes):
    trainer = start(**changes)
    for _ in range(steps):
        trainer.step()
    return trainer


@pytest.mark.parametrize("asked", [None, 0.0])
def test_a_rate_of_0_trains_as_ever(asked):
    """To the bit, and nothing in state or file says that it could have been otherwise."""
    plain, found = trained(), trained(relative_offset_rate=asked)
    assert_same_state(plain, found)
    assert found.encoding_offset is None and OFFSET not in found.tensors() and found.learned().encoding_offset is None
    assert found.recorded_rates == plain.recorded_rates
    assert "relative_offset_rate" not in found.settings.recorded()
    others = {f.name for f in dataclasses.fields(TrainingSettings)} - {"relative_offset_rate"}
    assert set(found.settings.recorded()) == others


def test_it_starts_at_zero_and_moves_at_its_rate():
    plain, found = start(), start(relative_offset_rate=0.1)
    assert found.encoding_offset.shape == (1, WIDTH) and not found.encoding_offset.any()
    expected = 0.1 * size(found.superclass_encoding)
    assert found.rates[OFFSET] == pytest.approx(expected)
    assert found.step().loss == plain.step().loss, "at the start it adds nothing"
    # The first step of Adam is as long as its rate, in every number that has a gradient.
    moved = found.encoding_offset.detach().abs()
    torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-3, atol=0)
    assert found.recorded_rates["relative_rates"]["offset"] == 0.1
    assert found.settings.recorded()["relative_offset_rate"] == 0.1
    assert found.step().loss != plain.step().loss


def test_the_target_input_follows_the_word_with_its_offset():
    """So that the gate knows the word by what the layers get, and a similarity of 1 is that of the word as it is."""
    trainer = trained(20, relative_offset_rate=0.05, target_input_decay=0.5)
    encodings, positions = trainer.task.encode(trainer.word_vectors, trainer.settings.templates)
    alone = encodings[positions].mean(dim=0)
    together = with_offset(encodings, positions, trainer.encoding_offset)[positions].mean(dim=0)
    assert (trainer.target_input - together).norm() < 0.2 * (trainer.target_input - alone).norm()
    learned = trainer.learned()
    assert (together @ learned.inverse_target_input).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(learned.encoding_offset, trainer.encoding_offset)


def test_it_goes_on_bit_for_bit():
    settings = {"relative_offset_rate": 0.1, "validate_every": 2}
    whole, first = trained(4, **settings), trained(2, **settings)
    first.validate()
    kept = first.state()
    assert {OFFSET, f"exp_avg.{OFFSET}", f"step.{OFFSET}", f"best.{OFFSET}"} <= set(kept.tensors)
    again = start(**settings)
    again.restore(kept)
    assert torch.equal(again.learned(2).encoding_offset, first.encoding_offset)
    for _ in range(2):
        again.step()
    assert torch.equal(again.encoding_offset, whole.encoding_offset)
    assert torch.equal(again.target_input, whole.target_input)


def test_a_state_without_it_is_of_another_training():
    with pytest.raises(PerfusionError, match="other layers or words"):
        start(relative_offset_rate=0.1).restore(trained(1).state())


def test_a_failing_step_leaves_it_as_it_was():
    trainer = trained(2, relative_offset_rate=0.1)
    before = trainer.encoding_offset.detach().clone()
    trainer.task.spoil = float("nan")
    with pytest.raises(PerfusionError, match="became nan"):
        trainer.step()
    assert torch.equal(trainer.encoding_offset, before) and trainer.encoding_offset.grad is None


@pytest.mark.parametrize("rate", [-0.1, float("inf"), float("nan")])
def test_rates_that_cannot_be(rate):
    with pytest.raises(PerfusionError, match="relative_offset_rate must be 0 or more"):
        TrainingSettings(relative_offset_rate=rate)


@pytest.mark.parametrize("name", ["word_learning_rate", "relative_word_rate"])
def test_a_word_that_stays_its_superclass_has_none(name):
    """The vectors are how a prompt with the word is told from one with the superclass, and from another such word's."""
    TrainingSettings(**{name: 0.0})
    TrainingSettings(word_learning_rate=0.0, relative_word_rate=1e-4, relative_offset_rate=0.1)
    with pytest.raises(PerfusionError, match="relative_offset_rate needs a word .* but the word's rate is 0"):
        TrainingSettings(**{name: 0.0}, relative_offset_rate=0.1)


def test_in_the_form_residual_it_is_enough_to_have_learned():
    from core_examples import make_concept

    start_values = {name: torch.zeros(8) for name in ("a", "b")}
    nothing = {"form": "residual", "value_targets": start_values}
    same = {"clip_l": torch.ones(1, 16)}
    concept = make_concept(word_vectors=same, superclass_vectors=same, **nothing)
    for offset in (None, torch.zeros(1, 16)):
        with pytest.raises(PerfusionError, match="learned nothing"):
            check_learned(start_values, dataclasses.replace(concept, encoding_offset=offset))
    check_learned(start_values, dataclasses.replace(concept, encoding_offset=torch.ones(1, 16)))
