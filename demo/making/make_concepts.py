"""Trains the concepts that ship with the demo model, with the trainer's own function and the Standard preset.

    python demo/making/run.py make_concepts

Writes demo/concepts/demo_hugsy.safetensors, demo_sippy.safetensors and demo_bruno.safetensors.  demo_inky, which is a
manner, is written by `python benchmarks/style.py --output demo/concepts/demo_inky.safetensors`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from ..world.things import THINGS
from .candidates import thing_tensors
from .host import use_comfyui

CONCEPTS = Path(__file__).resolve().parents[1] / "concepts"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", default=["hugsy", "sippy", "bruno"])
    arguments = parser.parse_args()
    use_comfyui()
    from ...nodes.host.text.statistics import measure_statistics
    from ...nodes.host.training.job import TrainingJob
    from ...nodes.host.training.request import TrainingRequest
    from ...nodes.pictures import thumbnail
    from ...nodes.training_settings import training_settings
    from ...perfusion_core.concept_file import save_concept
    from ..load import load_demo_model, world_captions

    CONCEPTS.mkdir(exist_ok=True)
    settings = training_settings("Standard", seed=0, flip=True, validate_every=25, custom={})
    with torch.inference_mode():
        model, clip, vae = load_demo_model()
        statistics = measure_statistics(clip, world_captions(), lambda done, total: None)
        for thing in arguments.things:
            pictures, masks = thing_tensors(thing)
            pictures = pictures.movedim(1, -1)
            request = TrainingRequest(
                model=model, clip=clip, vae=vae, images=pictures, masks=masks, word=f"<{thing}>",
                superclass=THINGS[thing].category, settings=settings, statistics=statistics,
            )  # fmt: skip
            result = TrainingJob(request).train()
            path = CONCEPTS / f"demo_{thing}.safetensors"
            save_concept(path, dataclasses.replace(result.concept, picture=thumbnail(pictures[1])))
            print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB, {result.seconds:.0f} s", flush=True)
