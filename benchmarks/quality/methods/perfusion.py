"""Perfusion as the pack ships it: its own training function, its own patch.  The knob is the gate's bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.perfusion_core.concept import Concept, GatedConcept
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.training import TrainingSettings

from ..workbench import Lesson, Workbench

TEMPERATURE = 0.15  # of the gate in use (docs/method.md, "Similarity and gate")
CAPTIONS = 1500  # on which C is measured, as the demo model's own statistics are


class Perfusion:
    """key_lock: "local" or "global", two uses of one training.  lock: of the keys in use, None as the concept
    recommends.

    Settings: those of TrainingSettings; mask: True for the true masks, "attention" for those that the trainer makes
    itself, False for none; captions: on which C is measured."""

    training = "perfusion"
    version = 2
    applied = 3

    def __init__(self, key_lock: str, lock: float | None = None) -> None:
        self.key_lock, self.lock = key_lock, lock
        self.name = f"perfusion {key_lock}" + ("" if lock is None else f", lock {lock:g}")

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        # As files record them: a setting that came later and asks for nothing must not make known cells unknown.
        known = {**TrainingSettings().recorded(), "mask": True, "captions": CAPTIONS, **settings}
        return {name: value for name, value in known.items() if name != "seed"}

    def train(self, bench: Workbench, lesson: Lesson, settings: Mapping[str, Any], seed: int) -> Concept:
        own = self.complete(settings)
        mask = own.pop("mask")
        statistics = bench.statistics(own.pop("captions"))
        with torch.inference_mode():
            request = TrainingRequest(
                model=bench.model, clip=bench.clip, vae=bench.vae, images=lesson.pictures.movedim(1, -1),
                masks=lesson.masks if mask is True else None, automatic_mask=mask == "attention", word=lesson.word,
                superclass=lesson.superclass, settings=TrainingSettings(**own, seed=seed), statistics=statistics,
            )  # fmt: skip
            return TrainingJob(request).train().concept

    def apply(self, bench: Workbench, artefacts: Sequence[Concept], knob: float) -> tuple[Any, Any]:
        stack = tuple(GatedConcept(concept, knob, TEMPERATURE, lock=self.lock) for concept in artefacts)
        return apply_concepts(bench.painter, stack, self.key_lock), add_words(bench.clip, stack, self.key_lock)

    def phrase(self, artefact: Concept, knob: float) -> str:
        return artefact.word

    def altered(self) -> AbstractContextManager:
        return nullcontext()

    def save(self, artefact: Concept, path: Path) -> None:
        save_concept(path, artefact)

    def load(self, path: Path) -> Concept:
        return load_concept(path)

    def renamed(self, artefact: Concept, word: str) -> Concept:
        return dataclasses.replace(artefact, word=word)
