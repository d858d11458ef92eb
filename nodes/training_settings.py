"""The trainer's presets and its advanced inputs, which make the preset Custom."""

from __future__ import annotations

from typing import cast

from comfy_api.latest import io

from ..perfusion_core.edit import FORMS
from ..perfusion_core.training import TrainingSettings
from .advice import BIAS_OF_A_STYLE
from .form_words import form_text
from .host.old_hosts import ADVANCED, choice

DEFAULTS = TrainingSettings()

DEMO = "perfusion_demo"  # the family of the pack's own model, as `model_family` names it
# In units of the superclass' vectors and values, see `learning_rates`; what each family starts with.
RATE_OF_VALUES = 0.03
# Of what was tried on the demo model this paints things best: benchmarks/better_than_a_word.md.
OF_DEMO: dict[str, object] = {
    "relative_value_rate": RATE_OF_VALUES, "relative_word_rate": 0.012, "form": "anchored", "difference_cap": 0.5,
}  # fmt: skip
# The word's rate is the published one, .006, which is .41 of CLIP-L's .0145.  Keys are locked, as everything published
# on real checkpoints is, but so that the lock can be opened again.
OF_CHECKPOINTS: dict[str, object] = {
    "relative_value_rate": RATE_OF_VALUES, "relative_word_rate": 0.41, "form": "lockable",
}  # fmt: skip

# What a preset may set besides the settings of the training.
GRADIENT_CHECKPOINTING, WHOLE_PICTURES, BIAS_IN_USE = "gradient_checkpointing", "whole_pictures", "bias_in_use"
BESIDES = (GRADIENT_CHECKPOINTING, WHOLE_PICTURES, BIAS_IN_USE)

PRESETS: dict[str, dict[str, object]] = {
    "Quick": {"steps": 150, "batch_size": 4},
    "Standard": {},
    "Quality": {"steps": 600},
    "Paper": {  # all of it, also what the defaults share today: they follow what is measured, and this must not
        "steps": 400,
        "batch_size": 4,
        "accumulation": 4,
        # As published, for SD1.5's layers of about 1 and CLIP-L's vectors of .0145; what counts are the relative ones.
        "value_learning_rate": 0.03,
        "word_learning_rate": 0.006,
        "relative_value_rate": 0.03,
        "relative_word_rate": 0.41,
        "target_input_decay": 0.99,
        "bias": 0.75,
        "temperature": 0.10,
        "normalise_gate": False,
        "form": "paper",
        "lock": None,
        "noise_alone": 0.0,
        "word_first": False,
        "pooled_lock": False,
        "difference_decay": None,
        "difference_cap": None,
        "attention_weight": None,
        "relative_offset_rate": None,
    },
    # As many pictures as Standard, in as many steps, with the least memory however much is free.
    "Low memory": {"batch_size": 1, "accumulation": 8, GRADIENT_CHECKPOINTING: True},
    # A manner is in all of a picture, and acts behind the thing only where its gate opens at other words too.
    "Style": {"form": "unlocked", "difference_cap": None, WHOLE_PICTURES: True, BIAS_IN_USE: BIAS_OF_A_STYLE},
}
CUSTOM = "Custom"
# The form with which Custom starts as Standard does on the model at hand, also in the rates and the cap that are 0.
AS_STANDARD = "as Standard"

LOCKED_VALUE_RATE = PRESETS["Paper"]["value_learning_rate"]

# What each is and how alike it was measured to be: web/docs/PerfusionTrainConcept.md and benchmarks/presets.md.
PRESET_TOOLTIP = (
    "Start with Standard, which takes the memory that is free; Quick is a first look, Quality twice as long, Paper the "
    "published recipe, Low memory the least, Style a manner, Custom the advanced inputs. See the help page."
)

# Inputs of the preset Custom by name, and the setting that each one is.
SETTING_OF = {
    "steps": "steps",
    "batch_size": "batch_size",
    "accumulation": "accumulation",
    "value_learning_rate": "value_learning_rate",
    "word_learning_rate": "word_learning_rate",
    "form": "form",
    "training_bias": "bias",
    "training_temperature": "temperature",
}
# Each absolute rate, and what counts in its place where it is given.
COUNTS_INSTEAD = {"value_learning_rate": "relative_value_rate", "word_learning_rate": "relative_word_rate"}
# Those that came later: 0, which they have in a workflow from before, asks for nothing.
CAME_LATER = (
    "relative_value_rate",
    "relative_word_rate",
    "difference_decay",
    "difference_cap",
    "attention_weight",
    "relative_offset_rate",
)


def training_settings(
    preset: str, seed: int, flip: bool, validate_every: int, custom: dict[str, object], family: str = DEMO
) -> TrainingSettings:
    """The settings of a preset; for Custom those of the advanced inputs, by the names of the inputs.

    family: of the model, see `model_family`."""
    standard = OF_DEMO if family == DEMO else OF_CHECKPOINTS
    if preset in PRESETS:
        chosen = {**standard, **PRESETS[preset]}
    else:
        chosen = {SETTING_OF[name]: value for name, value in custom.items() if name in SETTING_OF}
        later = {name: custom[name] for name in CAME_LATER if custom.get(name)}
        chosen |= {**standard, **later} if custom.get("form", AS_STANDARD) == AS_STANDARD else later
        chosen["normalise_gate"] = chosen["word_first"] = chosen["form"] != "paper"
    chosen = {name: value for name, value in chosen.items() if name not in BESIDES}
    return TrainingSettings(**{**chosen, "seed": seed, "flip": flip, "validate_every": validate_every})


def uses_checkpointing(preset: str, asked_for: bool = False) -> bool:
    """Whether a training takes gradient checkpointing whatever room there is: where preset or input say so."""
    return asked_for or bool(PRESETS.get(preset, {}).get(GRADIENT_CHECKPOINTING, False))


def learns_whole_pictures(preset: str) -> bool:
    """Whether a training looks for no mask where none is given."""
    return bool(PRESETS.get(preset, {}).get(WHOLE_PICTURES, False))


def bias_in_use(preset: str) -> float | None:
    """The bias that the concept's file recommends; None where that is the usual one."""
    return cast("float | None", PRESETS.get(preset, {}).get(BIAS_IN_USE))


def length_text(settings: TrainingSettings) -> str:
    """How much is trained: "300 steps of 8", or "300 steps of 4 x 2" where gradients are accumulated."""
    size = f"{settings.batch_size}" + (f" x {settings.accumulation}" if settings.accumulation > 1 else "")
    return f"{settings.steps} steps of {size}"


def settings_text(preset: str, settings: TrainingSettings, pictures: int) -> str:
    """The settings in words, for the report."""
    (values, word), offset = settings.rates, settings.offset_rate
    aim = settings.attention_weight
    rates = f"{values.text()} (values), {word.text()} (word)"
    rates += f", {offset.text()} (offset of its encoding)" if offset.relative else ""
    return (
        f"preset {preset}: {length_text(settings)} out of {pictures} pictures;"
        f" learning rates {rates};"
        f" {form_text(settings.form)}; gate while training: bias {settings.bias:g}, temperature"
        f" {settings.temperature:g}; flip {'on' if settings.flip else 'off'}; seed {settings.seed}"
        + (f"; {settings.noise_alone:.0%} of the samples from noise alone" if settings.noise_alone else "")
        + ("; pooled vectors of the superclass" if settings.pooled_lock else "")
        + (f"; differences lose {settings.difference_decay:g} a step" if settings.difference_decay else "")
        + (f"; differences up to {settings.difference_cap:g} of the values" if settings.difference_cap else "")
        + (f"; attention drawn into the mask, weight {aim:g}" if aim else "")
    )


def custom_inputs() -> list[io.Input]:
    """The advanced inputs of the preset Custom."""

    def number(kind: type, name: str, low: float, high: float, tooltip: str, **more: object) -> io.Input:
        default = getattr(DEFAULTS, SETTING_OF[name])
        tooltip = f"Custom preset: {tooltip}"
        return kind(name, default=default, min=low, max=high, optional=True, **ADVANCED, tooltip=tooltip, **more)

    whole, real, rate = io.Int.Input, io.Float.Input, {"step": 1e-4, "round": False}
    return [
        number(
            whole,
            "steps",
            1,
            10_000,
            f"optimiser steps. Start with {DEFAULTS.steps}; too few are not yet like the thing, too many are stiff and "
            "ignore the prompt.",
        ),
        number(
            whole,
            "batch_size",
            1,
            64,
            f"pictures per step. Start with {DEFAULTS.batch_size}; 1 learns unsteadily, more take longer; "
            "free memory decides how many go through the model at once.",
        ),
        number(
            whole,
            "accumulation",
            1,
            64,
            f"batches for each step. Start with {DEFAULTS.accumulation}; too low with a small batch learns unsteadily, "
            "higher makes each step take that much longer.",
        ),
        number(
            real,
            "value_learning_rate",
            1e-5,
            1.0,
            f"learning rate of the values; counts only where relative_value_rate is 0 and form not {AS_STANDARD}. "
            f"Start with {DEFAULTS.value_learning_rate:g}, or {LOCKED_VALUE_RATE:g} where keys are locked; too low "
            "stays the superclass, too high falls into blobs.",
            **rate,
        ),
        number(
            real,
            "word_learning_rate",
            0.0,
            1.0,
            f"learning rate of the word; counts only where relative_word_rate is 0 and form not {AS_STANDARD}. "
            f"Start with {DEFAULTS.word_learning_rate:g}; 0 keeps it at its superclass, too high drifts away until the "
            "gate does not know it.",
            **rate,
        ),
        choice(
            "form",
            options=[AS_STANDARD, *FORMS],
            default=AS_STANDARD,
            optional=True,
            **ADVANCED,
            tooltip=f"Custom preset: the keys. Start with {AS_STANDARD}, which also stands for relative rates and cap "
            "of 0; unlocked has own keys, lockable any lock, gated and paper locked ones, anchored and residual values "
            "near the word's.",
        ),
        number(
            real,
            "training_bias",
            -1.0,
            2.0,
            f"the gate's bias while training. Start with {DEFAULTS.bias:g}; near 0 the concept goes into other words "
            "too, near 1 and above little is learned.",
            step=0.01,
        ),
        number(
            real,
            "training_temperature",
            0.01,
            1.0,
            f"the gate's temperature while training. Start with {DEFAULTS.temperature:g}; near 0 it is a switch that "
            "gives the word no gradient, higher opens it for more words.",
            step=0.01,
        ),
    ]


def _later(name: str, most: float, step: float, tooltip: str) -> io.Input:
    """An input of Custom that came later: 0 asks for nothing."""
    return io.Float.Input(
        name, default=0.0, min=0.0, max=most, step=step, round=False, optional=True, **ADVANCED, tooltip=tooltip
    )


def relative_rate_inputs() -> list[io.Input]:
    """The relative rates of Custom, which came later: behind older inputs, for the sake of saved workflows."""
    return [
        _later(
            "relative_value_rate",
            10.0,
            1e-3,
            "Custom preset: the values' rate in units of their size in each layer. Start with 0: "
            f"{RATE_OF_VALUES:g} where form is {AS_STANDARD}, else value_learning_rate counts; too low stays the "
            "superclass, too high falls into blobs.",
        ),
        _later(
            "relative_word_rate",
            10.0,
            1e-3,
            "Custom preset: the word's rate in units of its size. Start with 0: "
            f"{OF_CHECKPOINTS['relative_word_rate']:g} (demo {OF_DEMO['relative_word_rate']:g}) where form is "
            f"{AS_STANDARD}, else word_learning_rate counts; too low hardly moves, too high drifts away.",
        ),
    ]


def held_inputs() -> list[io.Input]:
    """The inputs of Custom that hold what is learned: the difference of anchored and residual, and the attention."""
    return [
        _later(
            "difference_decay",
            0.5,
            0.01,
            "Custom preset, anchored and residual: the share of the learned difference that each step takes away. "
            "Start with 0; 0.01 holds it small, higher leaves nothing but the word.",
        ),
        _later(
            "difference_cap",
            10.0,
            0.01,
            "Custom preset, anchored and residual: the most that the learned difference may be, in units of the "
            "values. Start with 0, Standard's or no bound; 0.5 holds, much lower leaves the word alone, above 2 is too "
            "high to bind.",
        ),
        _later(
            "attention_weight",
            10.0,
            0.01,
            "Custom preset: weight of a loss that draws the word's attention into the mask of the thing. Start with 0, "
            "without; 0.1 is a gentle pull, above 1 is too high and outweighs the likeness.",
        ),
    ]


def offset_input() -> io.Input:
    """The input of Custom that asks for an offset of the word's encoding."""
    return _later(
        "relative_offset_rate",
        10.0,
        1e-3,
        "Custom preset: rate of a second vector, added to the word's encoding behind the text encoder, in units of its "
        "superclass' encoding. Start with 0, without one, or try 0.01; too low hardly moves, too high drifts away.",
    )
