"""Measures concepts on the demo model: is it the thing, and is it in the scene that was asked for?

    python demo/making/run.py measure_concepts --things hugsy sippy zippy finny --biases 0.7 0.85 1
    python demo/making/run.py measure_concepts --preset Quality --biases 0.85
    python demo/making/run.py measure_concepts --rough-words    (no training: the model alone, from a description)

Trains each thing with the trainer's own function, in one of its presets, on true masks and statistics of the world's
own captions, paints it in new scenes at every bias with the host's sampler, and reads the pictures with the recogniser.
"Thing right": the picture's look is nearer to the thing than to each of the other things and to every look that words
describe.  All that it is compared with passes through the autoencoder first, since no picture of the model can be
sharper than that.  "First of 200": nearer to it than to each of 200 others of its own kind, "alike too": and no
farther from it than look-alikes are (`instrument`), each beside what real pictures of the things reach in it, and how
far the colours of its parts are off, in RGB (0..441).  "Scene right": everything that the scene asks for is there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..world.captions import rough_words
from ..world.things import THINGS
from .candidates import candidate_pictures, thing_tensors
from .host import use_comfyui
from .instrument import load_instrument
from .part_colours import PARTS
from .recogniser import Reading

# Scenes that the training pictures do not show, and what must be read in them.
SCENES: dict[str, Callable[[Reading], bool]] = {
    "a photo of a {} on the beach": lambda r: r.background == "beach" and r.second == "none",
    "a photo of a {} in the snow": lambda r: r.background == "snow" and r.second == "none",
    "a photo of a {} with a hat on the grass": lambda r: (r.background, r.accessory) == ("grass", "hat"),
    "a photo of a {} with a scarf in a grey studio": lambda r: (r.background, r.accessory) == ("studio", "scarf"),
    "a photo of a {} beside a red {other} in a pink room": lambda r: (r.background, r.second_colour) == ("room", "red"),
    "a photo of a {} at night": lambda r: r.background == "night",
}


def other_category(category: str) -> str:
    """A second object for the scene that has one: a cup, or a ball beside a cup."""
    return "ball" if category == "cup" else "cup"


def painted_scenes(
    models: tuple[Any, Any, Any], name: str, category: str, count: int, cfg: float
) -> Iterator[tuple[str, Callable[[Reading], bool], Tensor]]:
    """Each of SCENES, what must be read in it, and `count` pictures of it, [count, H, W, 3] in 0..1.

    models: MODEL, CLIP and VAE.  name: of the object in the prompts.  category: of the object."""
    from ...nodes.host.training.sampling import sample_pictures

    for scene, asked in SCENES.items():
        prompts = [scene.format(name, other=other_category(category))] * count
        yield scene, asked, sample_pictures(*models, prompts, (4, 16, 16), seed=100, cfg=cfg).float().cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", default=["hugsy", "sippy", "zippy", "finny"])
    parser.add_argument("--biases", type=float, nargs="+", default=[0.7, 0.85, 1.0])
    parser.add_argument("--temperature", type=float, default=0.15)
    parser.add_argument("--seeds", type=int, default=3, help="pictures of each thing in each scene at each bias")
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--pictures", type=int, default=5, help="training pictures of each thing")
    parser.add_argument("--rough-words", action="store_true", help="paint from a description, without a concept")
    parser.add_argument("--sheet", type=Path, help="draw all pictures into this file")
    parser.add_argument("--preset", default="Standard", help="of the trainer node, as it is written there")
    parser.add_argument(
        "--setting", nargs="*", default=[], help="training settings that differ from the preset's, as name=value"
    )
    arguments = parser.parse_args()
    use_comfyui()
    from ...nodes.host.gate.patch import apply_concepts
    from ...nodes.host.text.statistics import measure_statistics
    from ...nodes.host.text.words import add_words
    from ...nodes.host.training.job import TrainingJob
    from ...nodes.host.training.request import TrainingRequest
    from ...nodes.training_settings import PRESETS, settings_text, training_settings, uses_checkpointing
    from ...perfusion_core.concept import GatedConcept
    from ..load import load_demo_model, world_captions

    preset = arguments.preset
    if preset not in PRESETS:
        raise SystemExit(f"The trainer has no preset {preset!r}: choose one of {', '.join(PRESETS)}.")
    settings = training_settings(preset, seed=0, flip=True, validate_every=25, custom={})
    settings = replace(settings, **dict(_setting(text, settings) for text in arguments.setting))
    if not arguments.rough_words:
        print(settings_text(preset, settings, arguments.pictures), flush=True)
    instrument = load_instrument()
    recogniser = instrument.recogniser
    with torch.inference_mode():
        model, clip, vae = load_demo_model()
        candidates = recogniser.candidates(
            {name: reconstruct(vae, pictures) for name, pictures in candidate_pictures().items()}
        )
        statistics = measure_statistics(clip, world_captions(), lambda done, total: None)
    rows: list[dict[str, Any]] = []
    strips: list[tuple[str, list[Image.Image]]] = []
    for thing in arguments.things:
        pictures, masks = thing_tensors(thing, arguments.pictures)
        references = reconstruct(vae, pictures)
        if not arguments.rough_words:
            started = time.monotonic()
            with torch.inference_mode():
                request = TrainingRequest(
                    model=model, clip=clip, vae=vae, images=pictures.movedim(1, -1), masks=masks, word=f"<{thing}>",
                    superclass=THINGS[thing].category, settings=settings, statistics=statistics,
                    gradient_checkpointing=uses_checkpointing(preset),
                )  # fmt: skip
                result = TrainingJob(request).train()
            seconds = time.monotonic() - started
            print(f"trained {thing} in {seconds:.0f} s, loss {np.mean(result.losses[:30]):.4f} to "
                  f"{np.mean(result.losses[-30:]):.4f}", flush=True)  # fmt: skip
        for bias in arguments.biases:
            patched, knowing, name = model, clip, rough_words(THINGS[thing].placed())
            if not arguments.rough_words:
                stack = (GatedConcept(result.concept, bias, arguments.temperature),)
                patched, knowing, name = apply_concepts(model, stack), add_words(clip, stack), f"<{thing}>"
            strip: list[Image.Image] = []
            scenes = painted_scenes(
                (patched, knowing, vae), name, THINGS[thing].category, arguments.seeds, arguments.cfg
            )
            for scene, asked, painted in scenes:
                readings = recogniser.read(painted)
                like = recogniser.likeness(painted, references, masks)
                nearest = recogniser.nearest(painted, candidates)
                strict, real = instrument.judge(painted, thing), instrument.ceiling(thing)
                for i, reading in enumerate(readings):
                    rows.append({
                        "thing": thing, "bias": bias, "scene": scene, "right": nearest[i] == thing,
                        "category": reading.category == THINGS[thing].category, "asked": asked(reading),
                        "look": float(like.look[i]), "colours": float(like.colours[i]),
                        "rank": int(strict.ranks[i]), "ceiling": real.first, "alike": bool(strict.right[i]),
                        "alike ceiling": float(real.right.float().mean()), "errors": strict.errors[i].tolist(),
                    })  # fmt: skip
                strip += [Image.fromarray((p.numpy() * 255).round().astype(np.uint8)) for p in painted]
            strips.append((f"{thing}, bias {bias:g}", strip))
    print(table(rows, arguments.biases))
    if arguments.sheet:
        sheet(strips).save(arguments.sheet)
        print(arguments.sheet)


@torch.inference_mode()
def reconstruct(vae: Any, pictures: Tensor) -> Tensor:
    """What the autoencoder makes of pictures [B, 3, H, W] in 0..1."""
    return vae.decode(vae.encode(pictures.movedim(1, -1))).float().cpu().clamp(0, 1).movedim(-1, 1).clone()


def table(rows: list[dict[str, Any]], biases: list[float]) -> str:
    """Shares for every thing and bias, as Markdown."""
    off = (f"{part} off" for part in PARTS)
    heads = ("thing right", "first of 200 (real)", "alike too (real)", "median rank", *off, "scene right",
             "category right", "look (cosine)", "colours (match)")  # fmt: skip
    lines = ["| thing | bias | pictures | " + " | ".join(heads) + " |", "|---" * (len(heads) + 3) + "|"]
    things = list(dict.fromkeys(row["thing"] for row in rows))
    for bias in biases:
        for thing in [*things, "all"]:
            chosen = [row for row in rows if row["bias"] == bias and thing in (row["thing"], "all")]
            lines.append(f"| {thing} | {bias:g} | {len(chosen)} | {cells(chosen)} |")
    for scene in SCENES:
        if chosen := [row for row in rows if row["scene"] == scene]:
            lines.append(f"| {scene} | all | {len(chosen)} | {cells(chosen)} |")
    return "\n".join(lines)


def cells(rows: list[dict[str, Any]]) -> str:
    """What was found in some of the pictures, as the cells of a line."""

    def mean(column: str) -> str:
        return f"{np.mean([row[column] for row in rows]):.2f}"

    ranks = np.array([row["rank"] for row in rows])
    off = [errors[~np.isnan(errors)] for errors in np.array([row["errors"] for row in rows]).T]
    return " | ".join((
        mean("right"), f"{np.mean(ranks == 0):.2f} ({mean('ceiling')})", f"{mean('alike')} ({mean('alike ceiling')})",
        f"{np.median(ranks):g}",
        *(f"{errors.mean():.0f}" if len(errors) else "" for errors in off),
        mean("asked"), mean("category"), mean("look"), mean("colours"),
    ))  # fmt: skip


def sheet(strips: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """One row of pictures for every thing and bias."""
    width = max(len(strip) for _, strip in strips)
    drawn = Image.new("RGB", (width * 130, len(strips) * 146), "white")
    for row, (heading, strip) in enumerate(strips):
        ImageDraw.Draw(drawn).text((4, row * 146 + 2), heading, fill="black")
        for column, picture in enumerate(strip):
            drawn.paste(picture, (column * 130, row * 146 + 16))
    return drawn


def _setting(text: str, defaults: Any) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    kind = type(getattr(defaults, name))
    return name, value == "True" if kind is bool else kind(value)
