"""Values as a difference to the word's (forms residual, anchored): a word alone is in both, and what holds it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from core_examples import make_concept, make_edits, random, second_moment
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_training import ToyTask, assert_same_state, start

from perfusion_core.concept_check import check_learned
from perfusion_core.concept_file import _check_version, load_concept, save_concept
from perfusion_core.edit import OWN_TOKEN_BIAS, OWN_TOKEN_TEMPERATURE, add_value_targets, edit_encoding
from perfusion_core.errors import PerfusionError
from perfusion_core.training import TrainingSettings
from perfusion_core.training_run import train
from perfusion_core.value_difference import hold_differences

WIDTH, TOKENS, OUT = 24, 7, 10
INVERSE = torch.linalg.inv(second_moment(WIDTH))
quick = settings(max_examples=25, deadline=None)
seeds, counts = st.integers(0, 10_000), st.integers(1, 3)
biases, strengths = st.floats(-1, 2), st.floats(-1, 2)
dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])


def values_of(edits, encoding, weight, differences):
    edited = edit_encoding(encoding, edits)
    return add_value_targets(edited.value_context @ weight.to(encoding.dtype).T, edited.value_gates, differences)


@quick
@given(seeds, counts, biases, strengths, dtypes)
def test_without_a_difference_the_word_is_alone_bit_for_bit(seed, count, bias, strength, dtype):
    """Keys and values are those of an unpatched model, whatever gate and strength."""
    edits = make_edits(count, WIDTH, INVERSE, seed, form="residual", bias=bias, strength=strength)
    encoding, weight = random((2, TOKENS, WIDTH), seed + 1, dtype), random((OUT, WIDTH), seed + 2)
    encoding[0, 2] = edits[0].target_input.to(dtype)
    edited = edit_encoding(encoding, edits)
    assert torch.equal(edited.key_context, encoding) and torch.equal(edited.value_context, encoding)
    found = values_of(edits, encoding, weight, torch.zeros(count, OUT, dtype=torch.float64))
    assert torch.equal(found, encoding @ weight.to(dtype).T)


@quick
@given(seeds, counts, biases, strengths)
def test_values_are_linear_in_the_strength(seed, count, bias, strength):
    edits = make_edits(count, WIDTH, INVERSE, seed, form="residual", bias=bias)
    encoding, weight = random((TOKENS, WIDTH), seed + 1), random((OUT, WIDTH), seed + 2)
    differences = random((count, OUT), seed + 3)
    alone, whole, between = (
        values_of([replace(edit, strength=w) for edit in edits], encoding, weight, differences)
        for w in (0.0, 1.0, strength)
    )
    torch.testing.assert_close(between, alone + strength * (whole - alone), rtol=1e-9, atol=1e-9)
    assert torch.equal(alone, encoding @ weight.T)


@quick
@given(seeds)
def test_a_closed_gate_leaves_the_word(seed):
    (edit,) = make_edits(1, WIDTH, INVERSE, seed, form="residual", bias=1e3)
    differences = random((1, OUT), seed + 3)
    encoding, weight = edit.target_input[None], random((OUT, WIDTH), seed + 2)
    assert torch.equal(values_of([edit], encoding, weight, differences), encoding @ weight.T)


@quick
@given(seeds, counts, strengths, dtypes)
def test_anchored_without_a_difference_and_with_open_gates_is_the_word(seed, count, strength, dtype):
    """And with closed gates the superclass stands in the word's place, in keys and values."""
    edits = make_edits(count, WIDTH, INVERSE, seed, form="anchored", bias=-1e3, strength=strength)
    encoding = random((TOKENS, WIDTH), seed + 1, dtype)
    encoding[2] = edits[0].target_input.to(dtype)
    edited = edit_encoding(encoding, edits)
    assert torch.equal(edited.key_context, encoding) and torch.equal(edited.value_context, encoding)


@quick
@given(seeds)
def test_anchored_closes_as_unlocked_does(seed):
    """To the superclass, but for what is left where a token is not known for certain to be the concept's."""
    closed = make_edits(1, WIDTH, INVERSE, seed, form="anchored", bias=1e3)
    unlocked = [replace(edit, form="unlocked") for edit in closed]
    encoding = torch.stack([closed[0].target_input, *random((TOKENS, WIDTH), seed + 1)])
    found, expected = edit_encoding(encoding, closed), edit_encoding(encoding, unlocked)
    assert torch.equal(found.key_context, expected.key_context)
    assert torch.equal(found.value_context, expected.value_context)
    known = 1 / (1 + math.exp(-(1 - OWN_TOKEN_BIAS) / OWN_TOKEN_TEMPERATURE))
    target, superclass = closed[0].target_input, closed[0].superclass_encoding
    torch.testing.assert_close(found.value_context[0], target + known * (superclass - target))


# --- training ---


def test_a_training_starts_at_the_word_alone():
    trainer = start(form="residual")
    assert all(not value.any() for value in trainer.value_targets.values())
    batch = trainer._draw()
    encodings, _ = trainer.task.encode(trainer.word_vectors, [trainer.settings.templates[i] for i in batch.templates])
    edited = trainer.loss(batch, trainer.settings.templates, trainer.generator)[3]
    assert torch.equal(edited.value_context, encodings)


def test_with_a_value_rate_of_0_the_word_alone_is_learned():
    trainer = start(form="residual", value_learning_rate=0.0)
    train(trainer, lambda report: None)
    learned = trainer.learned()
    assert not learned.value_targets["layer.attn2"].any() and trainer.losses[-1] < trainer.losses[0]
    check_learned(trainer.values_at_start, make_concept(form="residual", **fitting(learned)))
    untouched = {**fitting(learned), "word_vectors": learned.word_vectors, "superclass_vectors": learned.word_vectors}
    with pytest.raises(PerfusionError, match="learned nothing"):
        check_learned(trainer.values_at_start, make_concept(form="residual", **untouched))


def fitting(learned):
    vectors = {key: rows + 1 for key, rows in learned.word_vectors.items()}
    return {"value_targets": learned.value_targets, "word_vectors": learned.word_vectors, "superclass_vectors": vectors}


def test_rates_are_relative_to_the_values_of_the_superclass():
    """A difference has no size at the start."""
    residual, usual = (start(form=form, relative_value_rate=0.1) for form in ("residual", "unlocked"))
    assert residual.rates == usual.rates and residual.recorded_rates == usual.recorded_rates
    assert all(torch.equal(tensor, usual.start[name]) for name, tensor in residual.start.items())


@pytest.mark.parametrize("cap", [0.0, 0.2, 1.0])
def test_the_cap_is_a_bound_in_units_of_the_values(cap):
    trainer = start(form="residual", difference_cap=cap, value_learning_rate=0.5)
    most = cap * trainer.start["value.layer.attn2"].norm()
    norms = []
    train(trainer, lambda report: norms.append(trainer.value_targets["layer.attn2"].norm()))
    assert max(norms) <= most * (1 + 1e-6)
    free = start(form="residual", value_learning_rate=0.5)
    train(free, lambda report: None)
    assert free.value_targets["layer.attn2"].norm() > most


def test_the_decay_takes_a_share_of_every_step():
    differences = {"a": torch.tensor([1.0, -2.0]), "b": torch.zeros(2)}
    hold_differences(differences, {}, decay=0.25, cap=None)
    assert differences["a"].tolist() == [0.75, -1.5] and not differences["b"].any()
    held, free = (start(form="residual", difference_decay=decay) for decay in (0.3, None))
    for trainer in (held, free):
        train(trainer, lambda report: None)
    assert held.value_targets["layer.attn2"].norm() < free.value_targets["layer.attn2"].norm()


def test_a_held_training_goes_on_bit_for_bit():
    asked = {"form": "residual", "difference_decay": 0.1, "difference_cap": 0.3, "value_learning_rate": 0.3}
    straight, first = start(steps=20, **asked), start(steps=10, **asked)
    train(straight, lambda report: None)
    train(first, lambda report: None)
    second = start(steps=20, **asked)
    second.restore(first.state())
    train(second, lambda report: None)
    assert_same_state(second, straight)


@pytest.mark.parametrize("form", ["unlocked", "gated", "paper", "lockable"])
def test_other_forms_train_as_they_did(form):
    """Bit for bit: the start of the values, and no holding."""
    trainer = start(ToyTask(), form=form)
    values = trainer.value_targets["layer.attn2"]
    assert torch.equal(values, trainer.task.value_outputs(trainer.superclass_encoding)["layer.attn2"])
    assert torch.equal(values, trainer.start["value.layer.attn2"])


@pytest.mark.parametrize(
    "changes",
    [
        {"difference_decay": 0.1},
        {"difference_cap": 1.0, "form": "lockable"},
        {"difference_decay": 1.5, "form": "residual"},
        {"difference_cap": -1.0, "form": "residual"},
    ],
)
def test_settings_that_cannot_be(changes):
    with pytest.raises(
        PerfusionError, match=r"difference_\w+ must be a number from 0 to .* needs the form anchored or"
    ):
        TrainingSettings(**changes)


# --- its file ---


def test_the_file_comes_back_and_older_packs_ask_for_an_update(tmp_path):
    path = tmp_path / "hugsy.safetensors"
    concept = make_concept(form="residual", training={"difference_cap": 0.5})
    save_concept(path, concept)
    assert load_concept(path).form == "residual" and load_concept(path).recommended_lock == 0.0
    for newest in (1, 2):
        with pytest.raises(PerfusionError, match=f"version 3, but this pack reads versions up to {newest}; update"):
            _check_version("3", newest, path)
