"""The preset Paper is the paper's recipe, number by number, whatever the defaults become."""

from __future__ import annotations

import dataclasses

import pytest
from perfusion_pack.nodes import training_settings as presets
from perfusion_pack.perfusion_core import training
from perfusion_pack.perfusion_core.caption_templates import TEMPLATES
from perfusion_pack.perfusion_core.training import TrainingSettings

# Perfusion, section 4.4 and appendix, with the re-implementations where these are silent (docs/method.md, "Training").
PAPER = {
    "steps": 400,
    "batch_size": 4,
    "accumulation": 4,
    "value_learning_rate": 0.03,
    "word_learning_rate": 0.006,
    "relative_value_rate": 0.03,  # of layers whose values are about 1
    "relative_word_rate": 0.41,  # .006 of CLIP-L's .0145
    "target_input_decay": 0.99,
    "bias": 0.75,
    "temperature": 0.10,
    "normalise_gate": False,
    "form": "paper",
    "flip": True,
    "seed": 3,
    "validate_every": 25,
    "noise_alone": 0.0,
    "lock": None,
    "word_first": False,
    "pooled_lock": False,
    "difference_decay": None,
    "difference_cap": None,
    "attention_weight": None,
    "relative_offset_rate": None,
}


def paper() -> TrainingSettings:
    return presets.training_settings("Paper", 3, True, 25, {"steps": 7, "form": "gated"})


def test_every_number_of_the_preset():
    assert dataclasses.asdict(paper()) == PAPER


def test_no_number_of_the_preset_is_inherited():
    """What the node asks for by itself is not the preset's; everything else must be in it."""
    asked = {"seed", "flip", "validate_every"}
    assert set(presets.PRESETS["Paper"]) == set(PAPER) - asked


@pytest.mark.parametrize("name", ["word_learning_rate", "target_input_decay", "bias", "temperature"])
def test_other_defaults_do_not_change_it(monkeypatch, name):
    positions = [f.name for f in dataclasses.fields(training.TrainingSettings)]
    defaults = list(TrainingSettings.__init__.__defaults__)
    defaults[positions.index(name)] = 0.5
    monkeypatch.setattr(TrainingSettings.__init__, "__defaults__", tuple(defaults))
    assert getattr(TrainingSettings(), name) == 0.5
    assert dataclasses.asdict(paper()) == PAPER


def test_the_nine_templates():
    assert (
        paper().templates
        == TEMPLATES
        == (
            "a photo of a {}",
            "a good photo of a {}",
            "the photo of a {}",
            "a good photo of the {}",
            "image of a {}",
            "image of the {}",
            "A photograph of {}",
            "A {} shown in a photo",
            "A photo of {}",
        )
    )
