"""Learning rates relative to the size of what is learned: one number for every text encoder and every layer."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy_training import OUT, ToyTask, assert_same_state, start

from perfusion_core.errors import PerfusionError
from perfusion_core.learning_rates import Rate, learning_rates, recorded_rates, size
from perfusion_core.training import TrainingSettings

PARAMETERS = {
    "value.a.attn2": torch.tensor([3.0, -4.0, 0.0, 0.0]),
    "value.b.attn2": torch.full((8,), -0.5),
    "word.clip_l": torch.full((1, 768), 0.0145),
    "word.clip_g": torch.full((2, 1280), 0.03),
}
RELATIVE = TrainingSettings(relative_value_rate=0.03, relative_word_rate=0.41)


def rates_of(settings: TrainingSettings, parameters=PARAMETERS) -> dict[str, float]:
    return learning_rates(*settings.rates, parameters)


def test_a_size_is_a_root_mean_square():
    assert size(PARAMETERS["value.a.attn2"]) == pytest.approx(2.5)
    assert size(PARAMETERS["word.clip_l"].half()) == pytest.approx(0.0145, rel=1e-3)


def test_absolute_rates_are_the_same_for_all():
    rates = rates_of(TrainingSettings(value_learning_rate=0.3, word_learning_rate=0.1))
    assert rates == {name: 0.3 if name.startswith("value.") else 0.1 for name in PARAMETERS}


def test_relative_rates_are_shares_of_each_size():
    rates = rates_of(RELATIVE)
    shares = {"value.a.attn2": 0.03 * 2.5, "value.b.attn2": 0.03 * 0.5, "word.clip_l": 0.41 * 0.0145}
    assert rates == pytest.approx({**shares, "word.clip_g": 0.41 * 0.03})


def test_the_published_rate_of_the_word_is_41_percent_on_clip_l():
    """Perfusion trains with .006; a component of CLIP-L's token vectors is .0145."""
    assert rates_of(RELATIVE)["word.clip_l"] == pytest.approx(0.006, rel=0.01)


@pytest.mark.parametrize("kind", ["value", "word"])
def test_one_kind_may_be_relative_and_the_other_not(kind):
    rates = rates_of(TrainingSettings(**{f"relative_{kind}_rate": 0.2}))
    for name, rate in rates.items():
        usual = 0.02 if name.startswith("value.") else 0.006
        assert rate == (pytest.approx(0.2 * size(PARAMETERS[name])) if name.startswith(kind) else usual)


def test_a_rate_of_0_keeps_the_word_where_it_is():
    assert rates_of(TrainingSettings(relative_word_rate=0.0))["word.clip_l"] == 0.0


def test_nothing_to_be_relative_to_is_an_error_with_relative_rates_only():
    nothing = {**PARAMETERS, "value.a.attn2": torch.zeros(4)}
    rates_of(TrainingSettings(), nothing)
    with pytest.raises(PerfusionError, match="needs the size of value.a.attn2 at the start, but it is 0.0"):
        rates_of(RELATIVE, nothing)


@pytest.mark.parametrize("settings", [RELATIVE, TrainingSettings(value_learning_rate=0.05)])
def test_the_record_says_both_whichever_was_given(settings):
    rates = rates_of(settings)
    record = recorded_rates(rates, PARAMETERS)
    values = [rates["value.b.attn2"], rates["value.a.attn2"]]
    assert record["absolute_rates"]["values"] == pytest.approx(sorted(values), rel=1e-3)
    shares = sorted(rates[name] / size(PARAMETERS[name]) for name in ("value.a.attn2", "value.b.attn2"))
    assert record["relative_rates"]["values"] == pytest.approx(shares, rel=1e-3)
    for key in ("clip_l", "clip_g"):
        absolute, relative = (record[f"{kind}_rates"]["words"][key] for kind in ("absolute", "relative"))
        assert absolute == pytest.approx(rates[f"word.{key}"], rel=1e-3)
        assert relative == pytest.approx(absolute / size(PARAMETERS[f"word.{key}"]), rel=1e-2)


def test_the_record_of_what_is_0_has_no_relative_rate():
    nothing = {"value.a.attn2": torch.zeros(4), "word.clip_l": torch.zeros(1, 4)}
    record = recorded_rates(rates_of(TrainingSettings(), nothing), nothing)
    assert record["relative_rates"] == {"values": None, "words": {"clip_l": None}}
    assert record["absolute_rates"] == {"values": [0.02, 0.02], "words": {"clip_l": 0.006}}


def test_rates_in_words():
    assert (Rate(0.02).text(), Rate(0.02, 0.41).text()) == ("0.02", "0.41 of its size")


def test_a_step_of_adam_is_as_long_as_the_relative_rate_says():
    trainer = start(relative_value_rate=0.03, relative_word_rate=0.41)
    before = {name: tensor.detach().clone() for name, tensor in trainer.parameters().items()}
    trainer.step()
    for name, share in (("value.layer.attn2", 0.03), ("word.clip_l", 0.41)):
        moved = (trainer.parameters()[name] - before[name]).abs()
        assert torch.allclose(moved, torch.full_like(moved, share * size(before[name])), rtol=1e-3), name


def test_the_same_training_in_relative_and_in_absolute_units_is_the_same_bit_for_bit():
    """Where a model has one layer and one encoder; layers of other sizes get other rates, which is the purpose."""
    relative = start(relative_value_rate=0.03, relative_word_rate=0.41)
    absolute = start(
        value_learning_rate=relative.rates["value.layer.attn2"], word_learning_rate=relative.rates["word.clip_l"]
    )
    for _ in range(10):
        assert relative.step() == absolute.step()
    assert_same_state(relative, absolute)


def test_a_larger_model_learns_the_same_share_of_its_size():
    """The values of one model are ten times those of another: with relative rates they go the same way."""
    found = []
    for times in (1.0, 10.0):
        task = ToyTask(noise=0.0)
        task.values, task.target = times * task.values, times * task.target
        trainer = start(task, relative_value_rate=0.03, word_learning_rate=0.0)
        for _ in range(20):
            trainer.step()
        found.append(trainer.value_targets["layer.attn2"].detach() / times)
    assert found[0].shape == (OUT,) and torch.allclose(found[0], found[1], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found[0], start(ToyTask()).value_targets["layer.attn2"], rtol=0.05)


def test_a_resumed_training_has_the_rates_of_its_start():
    straight = start(relative_value_rate=0.03, relative_word_rate=0.41)
    for _ in range(4):
        straight.step()
    resumed = start(relative_value_rate=0.03, relative_word_rate=0.41)
    resumed.restore(straight.state())
    assert resumed.rates == straight.rates
    straight.step(), resumed.step()
    assert_same_state(resumed, straight)


def test_the_settings_of_old_states_and_files_are_absolute():
    """Without the new settings nothing is relative, and a training is what it was."""
    settings = TrainingSettings()
    assert settings.relative_value_rate is settings.relative_word_rate is settings.lock is None
    assert dataclasses.asdict(settings)["value_learning_rate"] == 0.02
