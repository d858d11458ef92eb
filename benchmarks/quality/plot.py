"""The Pareto plot: obedience to the right, likeness upwards, one line for each method along its knob.

Drawn with Pillow, which the host brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .measures import Point

SIZE, MARGIN, LEGEND = (1000, 720), 70, 250
COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (90, 90, 90), (188, 189, 34), (23, 190, 207),
)  # fmt: skip


def draw(path: Path, curves: Mapping[str, Sequence[Point]], title: str) -> None:
    """Write the plot of the named curves as a PNG file."""
    picture = Image.new("RGB", SIZE, "white")
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    points = [point for curve in curves.values() for point in curve]
    left, right = _range([point.obedience for point in points])
    bottom, top = _range([point.likeness for point in points])

    def place(obedience: float, likeness: float) -> tuple[float, float]:
        x = MARGIN + (obedience - left) / (right - left) * (SIZE[0] - MARGIN - LEGEND)
        return x, SIZE[1] - MARGIN - (likeness - bottom) / (top - bottom) * (SIZE[1] - 2 * MARGIN)

    for tick in _ticks(left, right):
        canvas.line([place(tick, bottom), place(tick, top)], fill=(228, 228, 228))
        canvas.text((place(tick, bottom)[0], SIZE[1] - MARGIN + 8), f"{tick:.1f}", "black", font, anchor="mt")
    for tick in _ticks(bottom, top):
        canvas.line([place(left, tick), place(right, tick)], fill=(228, 228, 228))
        canvas.text((MARGIN - 8, place(left, tick)[1]), f"{tick:.1f}", "black", font, anchor="rm")
    canvas.rectangle([place(left, top), place(right, bottom)], outline="black")
    for index, (label, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        ordered = sorted(curve, key=lambda point: point.knob)
        places = [place(point.obedience, point.likeness) for point in ordered]
        if len(places) > 1:
            canvas.line(places, fill=colour, width=3)
        for (x, y), point in zip(places, ordered, strict=True):
            canvas.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
            canvas.text((x + 7, y - 7), f"{point.knob:g}", colour, ImageFont.load_default(11), anchor="ls")
        y = MARGIN + 24 * index
        canvas.rectangle((SIZE[0] - LEGEND + 16, y - 6, SIZE[0] - LEGEND + 34, y + 6), fill=colour)
        canvas.text((SIZE[0] - LEGEND + 42, y), label, "black", font, anchor="lm")
    middle = (SIZE[0] - LEGEND + MARGIN) / 2
    canvas.text((middle, 34), title, "black", ImageFont.load_default(18), anchor="mm")
    canvas.text((middle, SIZE[1] - 18), "obedience (superclass word = 1)", "black", font, anchor="mm")
    canvas.text((MARGIN, MARGIN - 10), "likeness (superclass word = 0, real pictures = 1)", "black", font, anchor="ls")
    picture.save(path)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis, at tenths, with room around the values."""
    return int(min(values) * 10 - 1) / 10, int(max(values) * 10 + 2) / 10


def _ticks(low: float, high: float) -> list[float]:
    step = 0.1 if high - low <= 1.2 else 0.2
    return [round(low + step * index, 6) for index in range(int((high - low) / step + 1e-9) + 1)]
