"""What a refused resume says: the preset that the training began with, and inputs by their names on the node."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..perfusion_core.training import TrainingSettings
from .training_settings import CAME_LATER, CUSTOM, SETTING_OF

_INPUT_OF = {setting: name for name, setting in SETTING_OF.items()}
# Settings that stand beside the preset, each with an input of its own name.
_BESIDE_THE_PRESET = {"seed", "flip", "validate_every", "pooled_lock"}
_OF_THE_PRESET = {field.name for field in dataclasses.fields(TrainingSettings)} - _BESIDE_THE_PRESET
# What follows from a setting that has an input.
_FOLLOWS = {"mirrored pictures": "flip"}


def differences(different: Sequence[str], started_with: str, preset: str) -> str:
    """How an unfinished training differs from the one that is asked for, to stand behind those words.

    different: inputs by the names that the state of a training has for them.  started_with: its preset, "" where its
    state does not say it.  preset: the one that is asked for.
    """
    another_preset = started_with not in ("", preset)
    if another_preset and started_with != CUSTOM:  # its settings come back with it
        different = [name for name in different if name not in _OF_THE_PRESET]
    different = [name for name in different if _FOLLOWS.get(name) not in different]
    set_by_inputs = [_INPUT_OF.get(name, name) for name in different if _has_input(name)]
    # Without any it is a setting that only another version of the pack has set otherwise.
    named = ", ".join(set_by_inputs or ([] if another_preset else different))
    if not another_preset:
        return f"with another {named or 'model'}"
    return f"that was started with preset {started_with}" + (f" and with another {named}" if named else "")


def _has_input(name: str) -> bool:
    return name not in _OF_THE_PRESET or name in _INPUT_OF or name in CAME_LATER
