"""Makes workflows/*.jpg: runs what the templates show through a running ComfyUI that has this pack.

    python demo/making/run.py make_thumbnails --server http://127.0.0.1:8188

The two concept files of the demo must be in the loader's list. One concept is trained, in a minute or two.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from . import prompts
from .queue_client import QueueClient

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
SIDE, GAP = 400, 4
PAPER = (250, 250, 248)


async def make(server: str) -> None:
    """Write the thumbnails."""
    async with QueueClient(server) as client:
        first = (await client.run(prompts.first_picture_prompt(), "first picture"))["picture"]
        two = (await client.run(prompts.two_concepts_prompt(), "two concepts"))["picture"]
        swept = (await client.run(prompts.sweep_prompt(biases="0.5, 1"), "biases"))["picture"][0]
        edited = (await client.run(prompts.edit_prompt(), "edits"))["picture"]
        shown = (await client.run(prompts.demo_pictures_prompt("bruno", 2), "training pictures"))["shown"]
        text = "a photo of a <bruno> on the beach"
        new = (await client.run(prompts.train_prompt("bruno", text, batch=2, samples=0), "training"))["picture"]
        compared = (await client.run(prompts.compare_prompt(samples=0), "steps"))["picture"][0]
    # What goes into a training above what comes out of it.
    for name, pictures in (
        ("First picture", first),
        ("Train a concept", [*shown, *new]),
        ("Two concepts in one picture", two),
        ("Edit a picture", [edited[index] for index in (0, 1, 3, 4)]),  # two seeds: the source and its first edit
    ):
        save(name, mosaic(pictures))
    for name, grid in (("Sweep the bias", swept), ("Compare steps", compared)):
        save(name, ImageOps.pad(grid.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS, color=PAPER))


def save(name: str, thumbnail: Image.Image) -> None:
    """Write the thumbnail of a template."""
    path = WORKFLOWS / f"{name}.jpg"
    thumbnail.save(path, quality=90)
    print(path)


def mosaic(pictures: Sequence[Image.Image]) -> Image.Image:
    """Four pictures, two by two, as one square."""
    cell = (SIDE - GAP) // 2
    square = Image.new("RGB", (SIDE, SIDE), PAPER)
    for number, picture in enumerate(pictures[:4]):
        fitted = picture.resize((cell, cell), Image.Resampling.LANCZOS)
        square.paste(fitted, ((number % 2) * (cell + GAP), (number // 2) * (cell + GAP)))
    return square


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    asyncio.run(make(parser.parse_args().server))
