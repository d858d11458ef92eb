"""Line plots, drawn with Pillow, which the host brings along: the Pareto plot, and the curve of the closing gate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIZE, MARGIN, LEGEND = (1000, 720), 80, 250
COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (90, 90, 90), (188, 189, 34), (23, 190, 207),
)  # fmt: skip


class Dot(NamedTuple):
    """A place on the plot, and what is written beside it."""

    x: float
    y: float
    text: str = ""


def draw(path: Path, lines: Mapping[str, Sequence[Dot]], title: str, x_label: str, y_label: str) -> None:
    """Write the plot of the named lines, each through its dots in their order, as a PNG file."""
    picture = Image.new("RGB", SIZE, "white")
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    dots = [dot for line in lines.values() for dot in line]
    x_ticks, y_ticks = ticks([dot.x for dot in dots]), ticks([dot.y for dot in dots])

    def place(x: float, y: float) -> tuple[float, float]:
        right = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (SIZE[0] - MARGIN - LEGEND)
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (SIZE[1] - 2 * MARGIN)
        return MARGIN + right, SIZE[1] - MARGIN - up

    for tick in x_ticks:
        canvas.line([place(tick, y_ticks[0]), place(tick, y_ticks[-1])], fill=(228, 228, 228))
        canvas.text((place(tick, 0)[0], SIZE[1] - MARGIN + 8), f"{tick:g}", "black", font, anchor="mt")
    for tick in y_ticks:
        canvas.line([place(x_ticks[0], tick), place(x_ticks[-1], tick)], fill=(228, 228, 228))
        canvas.text((MARGIN - 8, place(0, tick)[1]), f"{tick:g}", "black", font, anchor="rm")
    canvas.rectangle([place(x_ticks[0], y_ticks[-1]), place(x_ticks[-1], y_ticks[0])], outline="black")
    for index, (label, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [place(dot.x, dot.y) for dot in line]
        if len(places) > 1:
            canvas.line(places, fill=colour, width=3)
        for (x, y), dot in zip(places, line, strict=True):
            canvas.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
            canvas.text((x + 7, y - 7), dot.text, colour, ImageFont.load_default(11), anchor="ls")
        y = MARGIN + 24 * index
        canvas.rectangle((SIZE[0] - LEGEND + 16, y - 6, SIZE[0] - LEGEND + 34, y + 6), fill=colour)
        canvas.text((SIZE[0] - LEGEND + 42, y), label, "black", font, anchor="lm")
    middle = (SIZE[0] - LEGEND + MARGIN) / 2
    canvas.text((middle, 30), title, "black", ImageFont.load_default(18), anchor="mm")
    canvas.text((middle, SIZE[1] - 22), x_label, "black", font, anchor="mm")
    canvas.text((MARGIN, MARGIN - 10), y_label, "black", font, anchor="ls")
    picture.save(path)


def ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, evenly spaced, that enclose the values: at least two, about six."""
    low, high = min(values), max(values)
    span = max(high - low, 0.01 * abs(high), 1e-6)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 7)
    first, last = math.floor(low / step - 0.1), math.ceil(high / step + 0.1)
    return [round(index * step, 9) for index in range(first, last + 1)]
