"""Trainings of demo things in the preset Standard but for some settings; concepts and what was read of their pictures
are kept in a folder, so that a table can be had at any time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any


class DemoTrainings:
    """The demo model, the looks that `recogniser` compares pictures with, and the folder of what was trained.

    pictures: of a thing, on which it is trained."""

    def __init__(self, folder: Path, steps: int, recogniser: Any, pictures: int = 5) -> None:
        import torch
        from perfusion_pack.demo.load import load_demo_model, world_captions
        from perfusion_pack.demo.making.candidates import candidate_pictures
        from perfusion_pack.demo.making.measure_concepts import reconstruct
        from perfusion_pack.nodes.host.text.statistics import measure_statistics

        self.folder, self.steps, self.pictures = folder, steps, pictures
        with torch.inference_mode():
            self.model, self.clip, self.vae = load_demo_model()
            shown = {name: reconstruct(self.vae, pictures) for name, pictures in candidate_pictures().items()}
            self.candidates = recogniser.candidates(shown)
            self.statistics = measure_statistics(self.clip, world_captions(), lambda done, total: None)

    def concept(self, name: str, thing: str, seed: int, changes: dict[str, Any]) -> Any:
        """The concept of this name, trained on true masks with `changes` in the preset where it is not kept."""
        from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept

        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            save_concept(path, self.train(name, thing, seed, changes).concept)
        return load_concept(path)

    def train(self, name: str, thing: str, seed: int, changes: dict[str, Any]) -> Any:
        """The result of the training with `changes` in the preset, of which nothing is kept."""
        import torch
        from perfusion_pack.demo.making.candidates import thing_tensors
        from perfusion_pack.demo.world.things import THINGS
        from perfusion_pack.nodes.host.training.job import TrainingJob
        from perfusion_pack.nodes.host.training.request import TrainingRequest
        from perfusion_pack.nodes.training_settings import training_settings

        settings = training_settings("Standard", seed, flip=True, validate_every=25, custom={})
        pictures, masks = thing_tensors(thing, self.pictures)
        with torch.inference_mode():
            request = TrainingRequest(
                model=self.model, clip=self.clip, vae=self.vae, images=pictures.movedim(1, -1), masks=masks,
                word=f"<{thing}>", superclass=THINGS[thing].category, statistics=self.statistics,
                settings=dataclasses.replace(settings, steps=self.steps, **changes),
            )  # fmt: skip
            result = TrainingJob(request).train()
        print(f"trained {name} in {result.seconds:.0f} s, took step {result.chosen_step}", flush=True)
        return result


def readings(folder: Path, name: str) -> dict[str, Any]:
    """What was read so far of the pictures of the training of this name."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep_readings(folder: Path, name: str, read: dict[str, Any]) -> None:
    """Write it down."""
    (folder / f"{name}.json").write_text(json.dumps(read))
