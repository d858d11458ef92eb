"""Makes workflows/*.jpg: runs what the templates show through a running ComfyUI that has this pack.

    python demo/making/run.py make_thumbnails --server http://127.0.0.1:8188

The concept files of the demo must be in the loader's list. One concept is trained, in a minute or two.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from . import prompts, replacing_prompts
from .queue_client import QueueClient
from .template_layouts import TEMPLATES, file_name

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
SIDE, GAP = 400, 4
PAPER = (250, 250, 248)


async def _pictures(client: QueueClient, prompt: prompts.Prompt, node: str = "picture") -> list[Image.Image]:
    return (await client.run(prompt, "thumbnail"))[node]


async def _trained(client: QueueClient, prompt: prompts.Prompt, shown: str) -> list[Image.Image]:
    """What goes into a training above what comes out of it."""
    return [
        *(await _pictures(client, prompts.demo_pictures_prompt("bruno", 2), "shown")),
        *(await _pictures(client, prompt, shown)),
    ]


async def _inpainted(client: QueueClient) -> list[Image.Image]:
    """Two pictures above what becomes of them."""
    before = await _pictures(client, prompts.demo_pictures_prompt("sippy", 2), "shown")
    return [*before, *(await _pictures(client, prompts.inpaint_prompt(batch=2)))]


async def _with_and_without(client: QueueClient) -> list[Image.Image]:
    """Two pictures by day above the same with the LoRA."""
    return [
        one
        for strength in (0.0, 0.7)
        for one in await _pictures(client, prompts.lora_prompt(strength=strength, batch=2))
    ]


async def _edited(client: QueueClient) -> list[Image.Image]:
    """Two seeds: the source and its first edit."""
    pictures = await _pictures(client, prompts.edit_prompt())
    return [pictures[index] for index in (0, 1, 3, 4)]


async def _replaced(client: QueueClient) -> list[Image.Image]:
    """Two pictures above what becomes of them."""
    pictures = await _pictures(client, replacing_prompts.replace_prompt())
    return [pictures[index] for index in (0, 2, 1, 3)]


async def _with_and_without_style(client: QueueClient) -> list[Image.Image]:
    """Two pictures without the manner above the same in it."""
    plain = prompts.style_prompt("a picture of a house on the beach", batch=2)
    return [one for prompt in (plain, prompts.style_prompt(batch=2)) for one in await _pictures(client, prompt)]


async def _new_heads(client: QueueClient) -> list[Image.Image]:
    """Two pictures above what becomes of them."""
    before = await _pictures(client, prompts.demo_pictures_prompt("bruno", 2, 5), "shown")
    after = await _pictures(client, replacing_prompts.head_prompt(batch=2))
    return [*before[:2], *after[:2]]


async def _blended(client: QueueClient) -> list[Image.Image]:
    """One seed at four places of the slider."""
    return [
        (await _pictures(client, prompts.blend_prompt(share=share, batch=1)))[0] for share in (0.0, 1 / 3, 2 / 3, 1.0)
    ]


BRUNO = "a photo of a <bruno> on the beach"
# What each template shows: four pictures, or one.
SHOWN: dict[str, Callable[[QueueClient], Awaitable[list[Image.Image]]]] = {
    "First picture": lambda client: _pictures(client, prompts.first_picture_prompt()),
    "Train a concept": lambda client: _trained(
        client, prompts.train_prompt("bruno", BRUNO, batch=2, samples=0), "picture"
    ),
    "Train on your own photos": lambda client: _pictures(client, prompts.demo_pictures_prompt("bruno", 4), "shown"),
    "Two concepts in one picture": lambda client: _pictures(client, prompts.two_concepts_prompt()),
    "Sweep the bias": lambda client: _pictures(client, prompts.sweep_prompt(biases="0.5, 1")),
    "Choose the lock": lambda client: _pictures(client, prompts.lock_prompt(locks="0, 1")),
    "With a LoRA": _with_and_without,
    "Inpaint a concept": _inpainted,
    "Attention maps": lambda client: _pictures(client, prompts.maps_prompt(batch=1), "maps"),
    "Inspect the gate": lambda client: _pictures(client, prompts.inspect_prompt(), "inspect"),
    "Compare steps": lambda client: _pictures(client, prompts.compare_prompt(samples=0)),
    "Edit a picture": _edited,
    "Blend two concepts": _blended,
    "Replace a subject": _replaced,
    "Replace a face": _new_heads,
    "Paint in a style": _with_and_without_style,
}


async def make(server: str, names: Sequence[str]) -> None:
    """Write the thumbnails of these templates."""
    async with QueueClient(server) as client:
        for template in TEMPLATES:
            if template.name in names:
                pictures = await SHOWN[template.name](client)
                save(file_name(template), mosaic(pictures) if len(pictures) > 1 else padded(pictures[0]))


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


def padded(grid: Image.Image) -> Image.Image:
    """A picture of any shape within a square."""
    return ImageOps.pad(grid.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS, color=PAPER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--only", nargs="+", choices=list(SHOWN), default=list(SHOWN), help="names of templates")
    given = parser.parse_args()
    asyncio.run(make(given.server, given.only))
