"""The trainer's presets and its advanced inputs, which make the preset Custom."""

from __future__ import annotations

from comfy_api.latest import io

from ..perfusion_core.edit import FORMS
from ..perfusion_core.training import TrainingSettings

DEFAULTS = TrainingSettings()

PRESETS: dict[str, dict[str, object]] = {
    "Quick": {"steps": 150, "batch_size": 4},
    "Standard": {},
    "Paper": {"steps": 400, "batch_size": 4, "accumulation": 4, "value_learning_rate": 0.03, "form": "paper"},
}
CUSTOM = "Custom"

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


def training_settings(preset: str, seed: int, flip: bool, custom: dict[str, object]) -> TrainingSettings:
    """The settings of a preset; for Custom those of the advanced inputs, by the names of the inputs."""
    chosen = PRESETS.get(preset)
    if chosen is None:
        chosen = {_SETTING_OF[name]: value for name, value in custom.items()}
    return TrainingSettings(**{**chosen, "seed": seed, "flip": flip})


def custom_inputs() -> list[io.Input]:
    """The advanced inputs of the preset Custom."""

    def number(kind: type, name: str, low: float, high: float, tooltip: str, **more: object) -> io.Input:
        default = getattr(DEFAULTS, _SETTING_OF[name])
        tooltip = f"Custom preset: {tooltip}"
        return kind(name, default=default, min=low, max=high, optional=True, advanced=True, tooltip=tooltip, **more)

    whole, real, rate = io.Int.Input, io.Float.Input, {"step": 1e-4, "round": False}
    return [
        number(whole, "steps", 1, 10_000, "200 to 400. Fewer: not yet alike. More: stiff, ignores the prompt."),
        number(whole, "batch_size", 1, 64, "pictures at once. Out of memory? Lower it and raise accumulation."),
        number(whole, "accumulation", 1, 64, "batches for each step; 4 of batch 4 is the paper's 16."),
        number(
            real,
            "value_learning_rate",
            1e-5,
            1.0,
            "for the values; 0.03 in the paper. Too high falls into blobs, too low stays the plain kind.",
            **rate,
        ),
        number(
            real,
            "word_learning_rate",
            0.0,
            1.0,
            "for the word; 0.006 in the paper. Too high and it drifts from its kind; 0 keeps it there.",
            **rate,
        ),
        io.Combo.Input(
            "form",
            options=list(FORMS),
            default=DEFAULTS.form,
            optional=True,
            advanced=True,
            tooltip="Custom preset: gated leaves words with a closed gate alone; paper takes the concept out of all.",
        ),
        number(
            real,
            "training_bias",
            -1.0,
            2.0,
            "the gate's bias while training; 0.75 in the paper. Lower lets the concept into other words.",
            step=0.01,
        ),
        number(
            real,
            "training_temperature",
            0.01,
            1.0,
            "the gate's temperature while training; 0.1 in the paper. Higher opens it for more words.",
            step=0.01,
        ),
    ]
