"""The trainer's presets and its advanced inputs, which make the preset Custom."""

from __future__ import annotations

from comfy_api.latest import io

from ..perfusion_core.edit import FORMS
from ..perfusion_core.training import TrainingSettings
from .host.old_hosts import ADVANCED, choice

DEFAULTS = TrainingSettings()

GRADIENT_CHECKPOINTING = "gradient_checkpointing"  # what a preset may set besides the settings of the training

PRESETS: dict[str, dict[str, object]] = {
    "Quick": {"steps": 150, "batch_size": 4},
    "Standard": {},
    "Quality": {"steps": 600},
    "Paper": {  # all of it, also what the defaults share today: they follow what is measured, and this must not
        "steps": 400,
        "batch_size": 4,
        "accumulation": 4,
        "value_learning_rate": 0.03,
        "word_learning_rate": 0.006,
        "target_input_decay": 0.99,
        "bias": 0.75,
        "temperature": 0.10,
        "normalise_gate": False,
        "form": "paper",
        "noise_alone": 0.0,
    },
    # As many pictures as Standard, in as many steps.
    "Low memory": {"batch_size": 1, "accumulation": 8, GRADIENT_CHECKPOINTING: True},
}
CUSTOM = "Custom"

# The share of pictures with the thing right, of the four demo things that settings were tried on, as
#     python demo/measure_concepts.py --biases 0.85 --preset NAME
# prints it in the row "all" (Paper: at a bias of 0.65). A preset without a number is said to be unmeasured.
MEASURED: dict[str, str] = {"Standard": "97 %", "Quick": "89 %", "Paper": "86 %"}

# What was measured (demo/measure_concepts.py; 72 pictures of four demo things that settings were tried on, 72 of four
# that none was; one training of each). The default that Standard replaced (300 x 8, gated form, values at 0.03, a
# quarter of the samples from noise alone; no published recipe): the thing right in 0.76 and 0.93, the scene in 0.92 and
# 0.99. Standard: the thing right in 0.97 and 0.94, the scene in 0.97 and 0.99. Of the first four alone: Quick 0.89 and
# 0.96, Paper 0.86 and 0.89 (its fish 0.44, the other things 1.00). Quality with values at 0.01: 0.96 and 0.97.
_PRESETS_IN_WORDS = {
    "Standard": "300 steps of 8 pictures; leaves the paper in length (400 of 16), form (unlocked: the word's attention"
    " is its own, not its kind's), rate of the values (0.02, not 0.03) and gate (scaled to the word: a bias means the"
    " same for every concept)",
    "Quick": "150 steps of 4, for a first look; often not yet alike",
    "Quality": "600 steps of 8; twice as long, and with values at 0.01 no better on these things",
    "Paper": "400 steps of 16, keys locked to the kind, values at 0.03; 2.7 times as long",
    "Low memory": "Standard's pictures one at a time with gradient checkpointing, for small cards; slower",
}


def _preset_tooltip() -> str:
    found = {name: f"thing right in {MEASURED[name]}" if name in MEASURED else "not measured" for name in PRESETS}
    presets = " ".join(f"{name}: {text} ({found[name]})." for name, text in _PRESETS_IN_WORDS.items())
    return (
        f"Start with Standard. {presets} Custom: the advanced inputs. Likeness was measured on pictures of four things"
        " of the demo model. All presets, Paper too, leave the paper in two more points: masks that you do not give"
        " are made of the model's attention, not by CLIPSeg, and text statistics are over 2,000 captions, not 100,000."
    )


PRESET_TOOLTIP = _preset_tooltip()

# Inputs of the preset Custom by name, and the setting that each one is.
_SETTING_OF = {
    "steps": "steps",
    "batch_size": "batch_size",
    "accumulation": "accumulation",
    "value_learning_rate": "value_learning_rate",
    "word_learning_rate": "word_learning_rate",
    "form": "form",
    "training_bias": "bias",
    "training_temperature": "temperature",
}


def training_settings(
    preset: str, seed: int, flip: bool, validate_every: int, custom: dict[str, object]
) -> TrainingSettings:
    """The settings of a preset; for Custom those of the advanced inputs, by the names of the inputs."""
    chosen = PRESETS.get(preset)
    if chosen is None:
        chosen = {_SETTING_OF[name]: value for name, value in custom.items()}
        chosen["normalise_gate"] = chosen.get("form", DEFAULTS.form) != "paper"
    chosen = {name: value for name, value in chosen.items() if name != GRADIENT_CHECKPOINTING}
    return TrainingSettings(**{**chosen, "seed": seed, "flip": flip, "validate_every": validate_every})


def uses_checkpointing(preset: str, asked_for: bool = False) -> bool:
    """Whether a training takes gradient checkpointing: where the preset says so, and wherever the input does."""
    return asked_for or bool(PRESETS.get(preset, {}).get(GRADIENT_CHECKPOINTING, False))


def settings_text(preset: str, settings: TrainingSettings, pictures: int, gradient_checkpointing: bool = False) -> str:
    """The settings in words, for the report."""
    size = f"{settings.batch_size}" + (f" x {settings.accumulation}" if settings.accumulation > 1 else "")
    return (
        f"preset {preset}: {settings.steps} steps of {size} out of {pictures} pictures; learning rates"
        f" {settings.value_learning_rate:g} (values), {settings.word_learning_rate:g} (word); {settings.form} form;"
        f" gate while training: bias {settings.bias:g}, temperature {settings.temperature:g}; flip"
        f" {'on' if settings.flip else 'off'}; seed {settings.seed}"
        + (f"; {settings.noise_alone:.0%} of the samples from noise alone" if settings.noise_alone else "")
        + ("; gradient checkpointing" if gradient_checkpointing else "")
    )


def custom_inputs() -> list[io.Input]:
    """The advanced inputs of the preset Custom."""

    def number(kind: type, name: str, low: float, high: float, tooltip: str, **more: object) -> io.Input:
        default = getattr(DEFAULTS, _SETTING_OF[name])
        tooltip = f"Custom preset: {tooltip}"
        return kind(name, default=default, min=low, max=high, optional=True, **ADVANCED, tooltip=tooltip, **more)

    whole, real, rate = io.Int.Input, io.Float.Input, {"step": 1e-4, "round": False}
    return [
        number(
            whole,
            "steps",
            1,
            10_000,
            "optimiser steps; start with 300. Too few: not yet alike. Too many: stiff, ignores the prompt.",
        ),
        number(
            whole,
            "batch_size",
            1,
            64,
            "pictures at once; start with 8. 1 learns unsteadily; too many run out of memory (then half as many are "
            "taken at a time, which is slower).",
        ),
        number(
            whole,
            "accumulation",
            1,
            64,
            "batches for each step; start with 1. 4 of batch 4 is the paper's 16. Too low with a small batch learns "
            "unsteadily; higher makes each step take that much longer.",
        ),
        number(
            real,
            "value_learning_rate",
            1e-5,
            1.0,
            "for the values; start with 0.02 for the unlocked form and 0.03, as the paper, for the others. Too high "
            "falls into blobs, too low stays the plain kind.",
            **rate,
        ),
        number(
            real,
            "word_learning_rate",
            0.0,
            1.0,
            "for the word; start with 0.006, as the paper. Too high and it drifts from its kind, until the gate does "
            "not know it; 0 keeps it there.",
            **rate,
        ),
        choice(
            "form",
            options=list(FORMS),
            default=DEFAULTS.form,
            optional=True,
            **ADVANCED,
            tooltip="Custom preset: start with unlocked, which learns values and leaves the word's attention to the "
            "word; the most like the thing on the demo model, but its attention may drift from the kind's. gated locks "
            "it to the plain kind: less like the thing. paper locks it and also takes the concept's direction out of "
            "every other word: prompts without the word change too.",
        ),
        number(
            real,
            "training_bias",
            -1.0,
            2.0,
            "the gate's bias while training; start with 0.75, as the paper. Near 0 the concept goes into other words "
            "too; near 1 and above the gate hardly opens and little is learned.",
            step=0.01,
        ),
        number(
            real,
            "training_temperature",
            0.01,
            1.0,
            "the gate's temperature while training; start with 0.1, as the paper. Higher opens it for more words; near "
            "0 it is a switch that gives the word no gradient.",
            step=0.01,
        ),
    ]
