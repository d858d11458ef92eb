"""Contact sheets: one row for each method at its best knob, the same prompts and seeds in every row."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE, LABEL, HEAD = 128, 150, 46


def sheet(path: Path, rows: Mapping[str, Tensor], headings: Sequence[str]) -> None:
    """Write the rows of pictures [P, 3, 128, 128], in 0..1, with a heading for each column."""
    picture = Image.new("RGB", (LABEL + len(headings) * (SIDE + 4), HEAD + len(rows) * (SIDE + 4)), "white")
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for column, heading in enumerate(headings):
        text = "\n".join(textwrap.wrap(heading.removeprefix("a photo of "), 22)[:3])
        canvas.multiline_text((LABEL + column * (SIDE + 4), 2), text, "black", font)
    for row, (label, pictures) in enumerate(rows.items()):
        top = HEAD + row * (SIDE + 4)
        canvas.multiline_text((4, top + 8), "\n".join(textwrap.wrap(label, 20)), "black", font)
        for column, shown in enumerate(pictures[: len(headings)]):
            pixels = (shown.clamp(0, 1).movedim(0, -1).numpy() * 255).round().astype(np.uint8)
            picture.paste(Image.fromarray(pixels), (LABEL + column * (SIDE + 4), top))
    picture.save(path, quality=85)
