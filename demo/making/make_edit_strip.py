"""Makes demo/pictures/edits.jpg, the README's row of edits: what the template *Edit a picture* paints, under its words.

    python demo/making/run.py make_edit_strip --server http://127.0.0.1:8188

The concept files of the demo must be in the loader's list.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from . import prompts
from .queue_client import QueueClient

STRIP = Path(__file__).resolve().parents[1] / "pictures" / "edits.jpg"
CELL, GAP, HEADING = 192, 6, 27
PAPER = (250, 250, 248)
EDITS = ("teddy -> <hugsy>", "teddy -> cup")


async def make(server: str) -> None:
    """Write the strip."""
    async with QueueClient(server) as client:
        pictures = (await client.run(prompts.edit_prompt(edit=EDITS[0], other_edit=EDITS[1]), "edits"))["picture"]
    strip(pictures, ("teddy", *EDITS)).save(STRIP, quality=88)
    print(STRIP)


def strip(pictures: Sequence[Image.Image], headings: Sequence[str]) -> Image.Image:
    """The pictures side by side; the headings come again and again."""
    row = Image.new("RGB", (len(pictures) * (CELL + GAP) - GAP, HEADING + CELL), PAPER)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(15)
    for number, picture in enumerate(pictures):
        left, heading = number * (CELL + GAP), headings[number % len(headings)]
        row.paste(picture.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS), (left, HEADING))
        draw.text((left + (CELL - draw.textlength(heading, font=font)) / 2, 5), heading, fill="black", font=font)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    asyncio.run(make(parser.parse_args().server))
