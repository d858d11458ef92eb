"""Methods that change no weight: the superclass word alone, and textual inversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..workbench import Lesson, Workbench
from .gradient import DEFAULTS, learn, with_learned_words
from .protocol import Artefact, TensorMethod


class SuperclassWord(TensorMethod):
    """No method at all: the yardstick of obedience."""

    name = training = "superclass word"

    def train(self, bench: Workbench, lesson: Lesson, settings: Mapping[str, Any], seed: int) -> Artefact:
        return Artefact(lesson.word, lesson.superclass, {"nothing": torch.zeros(1)})

    def apply(self, bench: Workbench, artefacts: Sequence[Artefact], knob: float) -> tuple[Any, Any]:
        return bench.painter, bench.clip

    def phrase(self, artefact: Artefact, knob: float) -> str:
        return artefact.superclass


class TextualInversion(TensorMethod):
    """The word's vectors alone are learned (Gal et al. 2022).  The knob is the word's weight in the prompt."""

    name = training = "textual inversion"
    defaults = DEFAULTS

    def train(self, bench: Workbench, lesson: Lesson, settings: Mapping[str, Any], seed: int) -> Artefact:
        learned = learn(
            bench, lesson, self.complete(settings), seed, phrase="{}", chosen=lambda name: False, learn_word=True
        )
        return Artefact(lesson.word, lesson.superclass, learned)

    def apply(self, bench: Workbench, artefacts: Sequence[Artefact], knob: float) -> tuple[Any, Any]:
        return bench.painter, with_learned_words(bench.clip, artefacts)

    def phrase(self, artefact: Artefact, knob: float) -> str:
        return artefact.word if knob == 1 else f"({artefact.word}:{knob:g})"
