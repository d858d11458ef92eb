"""Cuts the pictures of the README out of the sheet that `python dev.py demo` made.

    python demo/making/run.py readme_pictures --tour tour-DATE.png

What the tour painted is cut, not painted again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from .tour import CELL, HEADING, MARGIN

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
QUALITY = 88
ROW = CELL + MARGIN + HEADING
# The rows of the tour that each picture shows.
ROWS = {"first-picture": (1, 6, 7, 0, 2, 5), "two-concepts": (8,), "biases": (9,)}


def rows_of(sheet: Image.Image, rows: tuple[int, ...]) -> Image.Image:
    """These rows of the tour's sheet one below the other."""
    cut = Image.new("RGB", (sheet.width, len(rows) * ROW + MARGIN), sheet.getpixel((0, 0)))
    for place, row in enumerate(rows):
        strip = sheet.crop((0, MARGIN + row * ROW, sheet.width, MARGIN + (row + 1) * ROW))
        cut.paste(strip, (0, MARGIN + place * ROW))
    return cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tour", type=Path, required=True, help="the PNG that the tour made")
    sheet = Image.open(parser.parse_args().tour).convert("RGB")
    sheet.save(PICTURES / "tour.jpg", quality=QUALITY)
    for name, rows in ROWS.items():
        rows_of(sheet, rows).save(PICTURES / f"{name}.jpg", quality=QUALITY)
