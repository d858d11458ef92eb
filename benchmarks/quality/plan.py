"""How large a run is, and which methods with which settings and knobs it compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Size:
    """How large a run is.

    prompts: for each thing.  seeds: of each prompt on the held-out things, tuning_seeds: on the others.  tune_rounds:
    on how many tuning things each round of the tuning tries settings; the first tries all, a later one the best
    tune_kept of each method.  overrides: of the settings of every training that knows them.
    """

    tuning: tuple[str, ...]
    held_out: tuple[str, ...]
    prompts: int = 24
    seeds: int = 4
    tuning_seeds: int = 1
    training_seeds: int = 1
    sampler: str = "euler"
    sampling_steps: int = 12
    precision: str = "bfloat16"
    tune_rounds: tuple[int, ...] = (1, 3)
    tune_kept: int = 2
    pair_things: tuple[str, ...] = ("hugsy", "sippy", "zippy", "finny", "cosy", "twinkle")
    pair_prompts: int = 6
    pair_seeds: int = 1
    triples: int = 4
    ablation_tuning: int = 4
    ablation_held_out: int = 0
    ablation_seeds: int = 2
    ablations: tuple[str, ...] | None = None  # by label; None = all
    harm_captions: int = 200
    harm_counts: tuple[int, ...] = (1, 4, 16)
    harm_curve_captions: int = 50
    harm_biases: tuple[float, ...] = (0.45, 0.55, 0.65, 0.75, 0.85, 0.9, 1.2)
    max_knobs: int = 9
    max_grid: int = 9
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def things(self) -> tuple[str, ...]:
        return self.tuning + self.held_out

    @property
    def groups(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Things and seeds of each prompt, by the name of the group."""
        groups = {"held out": (self.held_out, self.seeds), "tuning": (self.tuning, self.tuning_seeds)}
        return {name: group for name, group in groups.items() if group[0]}

    @property
    def ablation_things(self) -> tuple[str, ...]:
        return self.tuning[: self.ablation_tuning] + self.held_out[: self.ablation_held_out]

    @property
    def one_shot_things(self) -> tuple[str, ...]:
        return self.held_out or self.tuning


# Without those that measure the text statistics anew, which takes longer than a small training.
_FEW_ABLATIONS = (
    "paper form", "no mask", "keys learned", "gradient through i", "linear edit", "mask made by attention",
)  # fmt: skip
FULL = Size(
    tuning=("hugsy", "sippy", "zippy", "finny", "cosy", "twinkle", "bruno", "bouncy"),
    held_out=("mopsy", "moka", "rusty", "bubbles"),
)
QUICK = Size(
    tuning=("hugsy",), held_out=("moka",), prompts=8, seeds=1, tune_rounds=(1,), pair_things=("hugsy", "sippy"),
    pair_prompts=2, triples=0, ablation_seeds=1, harm_captions=12, harm_counts=(1,), harm_curve_captions=12,
    harm_biases=(0.45, 0.65, 0.9), max_knobs=3, max_grid=1, ablations=_FEW_ABLATIONS[:2],
    overrides={"steps": 80, "prior_pictures": 16},
)  # fmt: skip
SMALLEST = Size(
    tuning=("sippy",), held_out=(), prompts=2, seeds=1, sampling_steps=2, tune_rounds=(1,),
    pair_things=("sippy", "hugsy"), pair_prompts=1, triples=0, ablation_seeds=1, harm_captions=2, harm_counts=(1,),
    harm_curve_captions=2, harm_biases=(0.65,), max_knobs=1, max_grid=1, ablations=_FEW_ABLATIONS,
    overrides={"steps": 2, "batch_size": 2, "prior_pictures": 2},
)  # fmt: skip
SIZES = {"full": FULL, "quick": QUICK, "smallest": SMALLEST}


@dataclass(frozen=True, eq=False)
class Variant:
    """One row of the tables: a method with settings, used at the settings of its knob.

    tuned_as: whose tuned settings it starts from ("" = none).  pictures: of the thing that it learns from."""

    label: str
    method: str
    knobs: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuned_as: str = ""
    pictures: int = 5


# Up to where obedience is the superclass word's, and likeness goes.
BIASES = (0.65, 0.75, 0.45, 0.55, 0.85, 0.95, 1.1)
STRENGTHS = (1.0, 0.25, 0.5, 0.75, 1.25)
SUPERCLASS, PERFUSION, GLOBAL = "superclass word", "perfusion local", "perfusion global"
LOCKED = "perfusion local, keys locked"

# The knob's most telling values come first, since smaller runs take only the first ones.
METHODS = (
    Variant(SUPERCLASS, "superclass word", (0.0,)),
    Variant(PERFUSION, "perfusion local", BIASES, tuned_as=PERFUSION),
    Variant(GLOBAL, "perfusion global", (0.65, 0.75, 0.45, 0.55, 0.85), tuned_as=PERFUSION),
    # The paper's key lock, with settings that were tuned for it.
    Variant(LOCKED, "perfusion local", (0.65, 0.75, 0.85),
            {"form": "gated", "value_learning_rate": 0.03, "noise_alone": 0.25}),
    Variant("textual inversion", "textual inversion", (1.0, 0.8, 1.2), tuned_as="textual inversion"),
    Variant("host LoRA, rank 4", "host LoRA", STRENGTHS, {"rank": 4}, "host LoRA, rank 4"),
    Variant("host LoRA, rank 16", "host LoRA", STRENGTHS, {"rank": 16}, "host LoRA, rank 16"),
    Variant("custom diffusion", "custom diffusion", (1.0, 0.5, 0.75), tuned_as="custom diffusion"),
    Variant("full fine-tuning", "full fine-tuning", (1.0, 0.5, 0.75), tuned_as="full fine-tuning"),
)  # fmt: skip
# With several things in one picture, besides the knob at which a method is reported.
PAIR_KNOBS: dict[str, tuple[float, ...]] = {
    PERFUSION: (0.65, 0.75, 0.85), "host LoRA, rank 4": (0.75, 0.5), "textual inversion": (0.8,),
}  # fmt: skip
ABLATION_BIASES = (0.65, 0.75)
ABLATIONS = (
    Variant("paper form", "perfusion local", ABLATION_BIASES, {"form": "paper", "normalise_gate": False}, PERFUSION),
    Variant("no mask", "perfusion local", ABLATION_BIASES, {"mask": False}, PERFUSION),
    Variant("last step, not the best", "perfusion local", ABLATION_BIASES, {"validate_every": 0}, PERFUSION),
    Variant("mask made by attention", "perfusion local", ABLATION_BIASES, {"mask": "attention"}, PERFUSION),
    Variant("keys locked to the superclass", "perfusion local", ABLATION_BIASES, {"form": "gated"}, PERFUSION),
    Variant("keys learned", "perfusion, keys learned", ABLATION_BIASES, {"form": "gated"}, PERFUSION),
    # Without a sigmoid the length of i is a factor of the values, which were learned with i as it was.
    Variant("linear edit", "perfusion, linear edit", (0.65,), {"normalise_gate": False}, PERFUSION),
    Variant("gradient through i", "perfusion, gradient through i", ABLATION_BIASES, tuned_as=PERFUSION),
    Variant("C on 50 captions", "perfusion local", ABLATION_BIASES, {"captions": 50}, PERFUSION),
    Variant("C on 10000 captions", "perfusion local", ABLATION_BIASES, {"captions": 10_000}, PERFUSION),
    Variant("a quarter from noise alone", "perfusion local", ABLATION_BIASES, {"noise_alone": 0.25}, PERFUSION),
    Variant("C = I", "perfusion local", ABLATION_BIASES, {"captions": 0}, PERFUSION),
    Variant("gate not normalised", "perfusion local", (0.65, 0.95), {"normalise_gate": False}, PERFUSION),
    Variant("training bias .6", "perfusion local", ABLATION_BIASES, {"bias": 0.6}, PERFUSION),
)
ONE_SHOT = tuple(
    Variant(f"{label}, 1 picture", method, knobs, settings, label, pictures=1)
    for label, method, knobs, settings in (
        (PERFUSION, "perfusion local", BIASES[:3], {}),
        ("host LoRA, rank 4", "host LoRA", (1.0, 0.75, 0.5), {"rank": 4}),
        ("textual inversion", "textual inversion", (1.0,), {}),
    )
)

# What is tried on the tuning things. All see as many samples, 300 steps of 8 or the same in smaller steps, which other
# numbers of steps alone would not; the first is each one's default.
_MORE_STEPS = {"steps": 600, "batch_size": 4}
_LORA = ({"learning_rate": 5e-4}, {"learning_rate": 2e-4}, {"learning_rate": 2e-3}, _MORE_STEPS)
GRIDS: dict[str, tuple[Mapping[str, Any], ...]] = {
    PERFUSION: (
        *({"value_learning_rate": rate} for rate in (0.02, 0.03, 0.01)), {**_MORE_STEPS, "value_learning_rate": 0.01},
    ),
    "textual inversion": (*({"word_learning_rate": rate} for rate in (0.006, 0.02, 0.002)), _MORE_STEPS),
    "host LoRA, rank 4": _LORA,
    "host LoRA, rank 16": _LORA,
    "custom diffusion": (
        {"learning_rate": 1e-4}, {"learning_rate": 5e-4}, {"learning_rate": 1e-4, "mask": False}, _MORE_STEPS,
    ),
    "full fine-tuning": (
        {"learning_rate": 5e-5}, {"learning_rate": 2e-4}, {"learning_rate": 5e-5, "mask": False}, _MORE_STEPS,
    ),
}  # fmt: skip

# What the issue asks for and the demo world does not hold; printed with every result.
MISSING = (
    "three things in one picture (the demo world draws two at most): triples are loaded together, prompts name two",
)
