"""Plots drawn with Pillow, which the host brings along: likeness over obedience, and bars side by side."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .measures import Interval

SIZE, MARGIN, LEGEND = (1000, 720), 80, 250
BARS_SIZE, HIGHEST, BESIDE = (1000, 420), 1.0, 30  # of the plot of bars, of a share, between groups
FIRST = (31, 119, 180)
COLOURS = (
    FIRST, (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (90, 90, 90), (188, 189, 34), (23, 190, 207), (20, 20, 120),
)  # fmt: skip
GREYS = ((96, 104, 112), (134, 141, 148), (168, 174, 180), (200, 204, 208))


class Dot(NamedTuple):
    """A place on the plot, and what is written beside it."""

    x: float
    y: float
    text: str = ""


def draw(
    path: Path, lines: Mapping[str, Sequence[Dot]], title: str, x_label: str, y_label: str, hollow: str = ""
) -> None:
    """Write the plot of the named lines, each through its dots in their order, as a PNG file.

    hollow: a line whose name ends so has the colour of the one without it, and open dots."""
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
    colours = _colours(lines, hollow)
    for index, (label, line) in enumerate(lines.items()):
        colour, inside = colours[label], "white" if hollow and label.endswith(hollow) else colours[label]
        places = [place(dot.x, dot.y) for dot in line]
        if len(places) > 1:
            canvas.line(places, fill=colour, width=3 if inside == colour else 1)
        for (x, y), dot in zip(places, line, strict=True):
            canvas.ellipse((x - 5, y - 5, x + 5, y + 5), inside, colour, 2)
            canvas.text((x + 7, y - 7), dot.text, colour, ImageFont.load_default(11), anchor="ls")
        y = MARGIN + 24 * index
        canvas.rectangle((SIZE[0] - LEGEND + 16, y - 6, SIZE[0] - LEGEND + 34, y + 6), inside, colour, 2)
        canvas.text((SIZE[0] - LEGEND + 42, y), label, "black", font, anchor="lm")
    middle = (SIZE[0] - LEGEND + MARGIN) / 2
    canvas.text((middle, 30), title, "black", ImageFont.load_default(18), anchor="mm")
    canvas.text((middle, SIZE[1] - 22), x_label, "black", font, anchor="mm")
    canvas.text((MARGIN, MARGIN - 10), y_label, "black", font, anchor="ls")
    picture.save(path)


def _colours(labels: Collection[str], hollow: str) -> dict[str, tuple[int, int, int]]:
    bare = {label: label.removesuffix(hollow) for label in labels}
    order = list(dict.fromkeys(bare.values()))
    return {label: COLOURS[order.index(name) % len(COLOURS)] for label, name in bare.items()}


def bars(path: Path, groups: Mapping[str, Mapping[str, Interval]], title: str) -> None:
    """Write groups of bars of shares, 0..1, with their intervals, as a PNG file; the first of each group stands out.

    groups: by name, the shares by name; a group may lack some."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    fills = {name: FIRST if index == 0 else GREYS[(index - 1) % len(GREYS)] for index, name in enumerate(names)}
    picture = Image.new("RGB", BARS_SIZE, "white")
    canvas, font, small = ImageDraw.Draw(picture), ImageFont.load_default(15), ImageFont.load_default(13)
    left, right, top, bottom = 44, BARS_SIZE[0] - 12, 84, BARS_SIZE[1] - 36

    def height(share: float) -> float:
        return bottom - min(max(share, 0.0), HIGHEST) / HIGHEST * (bottom - top)

    for tenth in range(0, 11, 2):
        canvas.line((left, height(tenth / 10), right, height(tenth / 10)), fill=(228, 228, 228))
        canvas.text((left - 6, height(tenth / 10)), f"{tenth / 10:g}", "black", small, anchor="rm")
    width = (right - left) / len(groups)
    each = (width - BESIDE) / len(names)
    for number, (group, shares) in enumerate(groups.items()):
        start = left + number * width + BESIDE / 2
        for name, share in shares.items():
            x = start + names.index(name) * each
            canvas.rectangle((x + 1, height(share.value), x + each - 2, bottom), fills[name])
            middle, ink = x + each / 2, "white" if sum(fills[name]) < 480 else "black"
            canvas.line((middle, height(share.low), middle, height(share.high)), fill=(30, 30, 30))
            canvas.text((middle, bottom - 4), f"{share.value:.2f}".lstrip("0"), ink, small, anchor="mb")
        canvas.text((start + (width - BESIDE) / 2, bottom + 8), group, "black", font, anchor="mt")
    canvas.line((left, bottom, right, bottom), fill="black")
    canvas.text((left, 20), title, "black", ImageFont.load_default(18), anchor="lm")
    x = float(left)
    for name in names:
        canvas.rectangle((x, 46, x + 16, 62), fills[name])
        canvas.text((x + 22, 54), name, "black", font, anchor="lm")
        x += 22 + font.getlength(name) + 24
    picture.save(path)


def ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, evenly spaced, that enclose the values: at least two, about six."""
    low, high = min(values), max(values)
    span = max(high - low, 0.01 * abs(high), 1e-6)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 7)
    first, last = math.floor(low / step - 0.1), math.ceil(high / step + 0.1)
    return [round(index * step, 9) for index in range(first, last + 1)]
