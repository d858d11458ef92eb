"""What `python dev.py demo` shows: two concepts are trained through a running ComfyUI, then used in new scenes.

    python demo/making/run.py tour --server http://127.0.0.1:8188 --output DIR [--quick]

Everything goes through the server as API prompts.  Ends with one labelled picture in DIR and the time of each part.
The quick tour paints with a concept that is shipped, trains one for a few steps only, and has the recogniser read what
was painted.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from . import prompts
from .queue_client import PromptError, QueueClient
from .tour_check import SCENES as CHECKED_SCENES
from .tour_check import WrongPicturesError, check

CELL, MARGIN, HEADING = 148, 8, 30
SCENES = {
    "hugsy": (
        "a photo of a {} on the beach",
        "a photo of a {} in the snow",
        "a photo of a {} with a hat on the grass",
        "a photo of a {} beside a red cup in a pink room",
    ),
    "sippy": ("a photo of a {} on the beach", "a photo of a {} with a hat on the grass"),
}
BIASES = (0.5, 0.7, 0.85, 1, 1.2)  # the similarity of a concept's own word is 1


Row = tuple[str, list[Image.Image]]


class Painter:
    """Queues prompts one after the other and keeps how long each took."""

    def __init__(self, client: QueueClient) -> None:
        self._client = client
        self.seconds: dict[str, float] = {}

    async def pictures(self, prompt: dict, label: str) -> list[Image.Image]:
        """All pictures that a prompt ends in; loaders show some too."""
        started = time.monotonic()
        outputs = await self._client.run(prompt, label)
        self.seconds[label] = time.monotonic() - started
        ends = [node for node in outputs if prompt[node]["class_type"] in ("SaveImage", "PreviewImage")]
        return [picture for node in ends for picture in outputs[node]]


async def full_tour(painter: Painter, run: str) -> list[Row]:
    """Two concepts are trained, each from five pictures, and painted alone, together, and with several biases."""
    names = {thing: f"tour-{run}-{thing}" for thing in SCENES}
    files = {thing: f"{name}.safetensors" for thing, name in names.items()}
    rows: list[Row] = []
    for thing in SCENES:
        shown = await painter.pictures(prompts.demo_pictures_prompt(thing), f"draw pictures of {thing}")
        rows.append((f"five training pictures of <{thing}>, a thing that words describe at best roughly", shown))
        await painter.pictures(prompts.train_prompt(thing, file_name=names[thing]), f"train <{thing}>")
    for thing, scenes in SCENES.items():
        for scene in scenes:
            text = scene.format(f"<{thing}>")
            prompt = prompts.sample_prompt(text, [(files[thing], prompts.BIAS)], seed=1, batch=5)
            rows.append((f"“{text}”", await painter.pictures(prompt, text)))
    text = "a photo of a <hugsy> beside a <sippy> on the grass"
    prompt = prompts.sample_prompt(text, [(file, prompts.BIAS) for file in files.values()], seed=1, batch=5)
    rows.append((f"two concepts, trained apart: “{text}”", await painter.pictures(prompt, text)))
    text = "a photo of a <hugsy> with a hat on the grass"
    swept = []
    for bias in BIASES:
        label = f"{text}, bias {bias}"
        swept += await painter.pictures(prompts.sample_prompt(text, [(files["hugsy"], bias)], seed=5, batch=1), label)
    rows.append((f"gate bias {', '.join(map(str, BIASES))}: “{text}”", swept))
    return rows


async def quick_tour(painter: Painter, run: str) -> list[Row]:
    """A shipped concept in three scenes, read by the recogniser, and a training of a few steps.

    Raises WrongPicturesError when the recogniser sees something else in them.
    """
    painted = {}
    for scene in CHECKED_SCENES:
        text = scene.format("<hugsy>")
        prompt = prompts.first_picture_prompt(text, seed=1, batch=1)
        (painted[scene],) = await painter.pictures(prompt, text)
    said = check("hugsy", painted)
    short = {"preset": "Custom", "steps": 4, "samples": 1, "preview_every": 0}
    prompt = prompts.train_prompt("hugsy", file_name=f"quick-{run}", **short)
    await painter.pictures(prompt, "train <hugsy> for 4 steps")
    return [(said, list(painted.values()))]


async def tour(server: str, output: Path, quick: bool) -> Path:
    """Make all pictures and return the path of the one that shows them."""
    run = time.strftime("%Y%m%d-%H%M%S")
    async with QueueClient(server) as client:
        painter = Painter(client)
        rows = await (quick_tour if quick else full_tour)(painter, run)
    path = output / f"{'quick' if quick else 'tour'}-{run}.png"
    _sheet(rows).save(path)
    for label, spent in painter.seconds.items():
        print(f"{spent:7.1f} s  {label}")
    return path


def _sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    columns = max(len(pictures) for _, pictures in rows)
    sheet = Image.new(
        "RGB", (columns * (CELL + MARGIN) + MARGIN, len(rows) * (CELL + MARGIN + HEADING) + MARGIN), (250, 250, 248)
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (heading, pictures) in enumerate(rows):
        top = MARGIN + index * (CELL + MARGIN + HEADING)
        draw.text((MARGIN, top + 6), heading, fill=(30, 30, 36), font=font)
        for column, picture in enumerate(pictures):
            sheet.paste(
                picture.resize((CELL, CELL), Image.Resampling.LANCZOS),
                (MARGIN + column * (CELL + MARGIN), top + HEADING),
            )
    return sheet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="the small tour, whose pictures are read and checked")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        print(f"\n{asyncio.run(tour(arguments.server, arguments.output, arguments.quick))}")
    except (PromptError, WrongPicturesError) as error:
        print(f"\n{error}")
        return 1
    return 0
