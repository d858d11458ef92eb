"""Methods that learn weights of the diffusion model; the host adds the differences.  The knob is their strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..workbench import Lesson, Workbench
from .gradient import DEFAULTS, learn, with_learned_words
from .protocol import Artefact, TensorMethod


class WeightMethod(TensorMethod):
    """Learned differences of weights, put on the MODEL as the host's own weight patches."""

    def apply(self, bench: Workbench, artefacts: Sequence[Artefact], knob: float) -> tuple[Any, Any]:
        model = bench.painter.clone()
        for artefact in artefacts:
            patches = {
                f"diffusion_model.{name.removeprefix('weight.')}": ("diff", (difference.float(),))
                for name, difference in artefact.tensors.items()
                if name.startswith("weight.")
            }
            missing = set(patches) - set(model.add_patches(patches, knob))
            if missing:
                raise ValueError(f"The model has no weights {sorted(missing)[:3]} to which the artefact belongs.")
        return model, with_learned_words(bench.clip, artefacts)

    def phrase(self, artefact: Artefact, knob: float) -> str:
        return f"{artefact.word} {artefact.superclass}"


class CustomDiffusion(WeightMethod):
    """All K and V matrices of the cross-attention and the word before its superclass, with prior preservation
    (Kumari et al. 2023)."""

    name = training = "custom diffusion"
    defaults = {**DEFAULTS, "prior_weight": 1.0}

    def train(self, bench: Workbench, lesson: Lesson, settings: Mapping[str, Any], seed: int) -> Artefact:
        learned = learn(
            bench, lesson, self.complete(settings), seed, phrase="{} " + lesson.superclass,
            chosen=lambda name: name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")), learn_word=True,
        )  # fmt: skip
        return Artefact(lesson.word, lesson.superclass, learned)


class FineTuning(WeightMethod):
    """Every weight of the diffusion model, a rare word before the superclass, prior preservation (DreamBooth)."""

    name = training = "full fine-tuning"
    defaults = {**DEFAULTS, "prior_weight": 1.0, "learning_rate": 5e-5}

    def train(self, bench: Workbench, lesson: Lesson, settings: Mapping[str, Any], seed: int) -> Artefact:
        learned = learn(
            bench, lesson, self.complete(settings), seed, phrase="{} " + lesson.superclass,
            chosen=lambda name: True, learn_word=False,
        )  # fmt: skip
        return Artefact(lesson.word, lesson.superclass, learned)
