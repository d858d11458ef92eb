"""What a refused resume says, and that a state of an earlier version is not refused for what it does not say."""

from __future__ import annotations

import dataclasses

import pytest
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training_state_file import load_training, save_training
from training_inputs import run_node, stop_training


def test_another_preset_is_named_before_what_it_sets(inputs, folder, press_cancel):
    stop_training(inputs, press_cancel, preset="Quick")
    state = folder / "hugsy.training_state"
    kept = load_training(state)
    assert kept.preset == "Quick"
    for changes, said in (
        ({}, "is an unfinished training that was started with preset Quick; set that back"),
        ({"seed": 3, "flip": False}, "was started with preset Quick and with another flip, seed; set that back"),
    ):
        with pytest.raises(PerfusionError, match=said):
            run_node(inputs, resume=True, **changes)
    # States of earlier versions do not say their preset; then the inputs are named as the node calls them.
    save_training(state, dataclasses.replace(kept, preset=""))
    with pytest.raises(PerfusionError, match="with another batch_size,.* form,.* relative_word_rate.*; set") as caught:
        run_node(inputs, resume=True)
    assert not [name for name in ("bias", "lock", "word_first", "noise_alone") if f" {name}" in str(caught.value)]


def test_a_state_that_says_no_preset_goes_on(inputs, folder, press_cancel):
    stop_training(inputs, press_cancel)
    state = folder / "hugsy.training_state"
    save_training(state, dataclasses.replace(load_training(state), preset=""))
    assert run_node(inputs, resume=True)[3] == str(folder / "hugsy.safetensors")


def test_settings_are_named_as_the_node_calls_them(inputs, folder, press_cancel):
    stop_training(inputs, press_cancel)
    with pytest.raises(PerfusionError, match="with another training_bias, form; set that back"):
        run_node(inputs, resume=True, training_bias=0.5, form="paper")
    with pytest.raises(
        PerfusionError, match="was started with preset Custom and with another .*batch_size, .*; set that"
    ):
        run_node(inputs, resume=True, preset="Quick")
