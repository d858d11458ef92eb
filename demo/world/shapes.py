"""The eight categories as lists of parts, in coordinates -1..1 with y pointing down."""

from __future__ import annotations

import math
from dataclasses import dataclass

CATEGORIES = ("teddy", "ball", "cup", "car", "tree", "house", "fish", "star")


@dataclass(frozen=True)
class Part:
    """One drawn shape: `kind` is ellipse (x, y, rx, ry), box (x0, y0, x1, y1, corner radius), ring (x, y, rx, ry,
    width) or
    polygon (x0, y0, x1, y1, ...).  `fill` is "body" (the look's texture), "twin" (the texture when the look is solid,
    else the
    secondary colour), or the name of a flat colour (see `objects`)."""

    kind: str
    numbers: tuple[float, ...]
    fill: str
    outlined: bool = True


@dataclass(frozen=True)
class Shape:
    """A category's parts, back to front, and where a hat (x, y, width) and a scarf (y, half width) sit on it."""

    parts: tuple[Part, ...]
    hat: tuple[float, float, float]
    scarf: tuple[float, float]


def shape(category: str, ears: str = "round", odd: bool = False) -> Shape:
    """The shape of `category`; `ears` and `odd` vary it as the look asks."""
    return _SHAPES[category](ears, "accent" if odd else "secondary")


def _ellipse(x: float, y: float, rx: float, ry: float, fill: str, outlined: bool = True) -> Part:
    return Part("ellipse", (x, y, rx, ry), fill, outlined)


def _eyes(x: float, y: float, spacing: float, size: float = 0.085) -> tuple[Part, ...]:
    return tuple(_ellipse(x + side * spacing, y, size, size, "dark", False) for side in (-1, 1))


def _teddy(ears: str, odd: str) -> Shape:
    left_and_right = {
        "round": [Part("ellipse", (side * 0.46, -0.76, 0.25, 0.24), "") for side in (-1, 1)],
        "long": [Part("ellipse", (side * 0.36, -0.95, 0.17, 0.42), "") for side in (-1, 1)],
        "pointed": [
            Part("polygon", (side * 0.08, -0.66, side * 0.56, -1.18, side * 0.60, -0.42), "") for side in (-1, 1)
        ],
    }[ears]
    ear_parts = tuple(Part(e.kind, e.numbers, fill) for e, fill in zip(left_and_right, ("secondary", odd), strict=True))
    limbs = tuple(_ellipse(side * 0.60, 0.30, 0.20, 0.30, "secondary") for side in (-1, 1))
    feet = tuple(_ellipse(side * 0.38, 0.86, 0.27, 0.19, "secondary") for side in (-1, 1))
    return Shape(
        ear_parts
        + limbs
        + (_ellipse(0, 0.42, 0.56, 0.52, "body"),)
        + feet
        + (
            _ellipse(0, 0.46, 0.28, 0.28, "accent", False),
            _ellipse(0, -0.38, 0.56, 0.48, "body"),
            _ellipse(0, -0.21, 0.25, 0.19, "accent", False),
            _ellipse(0, -0.28, 0.10, 0.075, "dark", False),
        )
        + _eyes(0, -0.50, 0.22),
        hat=(0, -0.74, 0.52),
        scarf=(0.04, 0.50),
    )


def _ball(ears: str, odd: str) -> Shape:
    return Shape(
        (_ellipse(0, 0.1, 0.86, 0.86, "body"), _ellipse(0, 0.1, 0.30, 0.30, "secondary", False)),
        hat=(0, -0.66, 0.52),
        scarf=(0.52, 0.72),
    )


def _cup(ears: str, odd: str) -> Shape:
    return Shape(
        (
            Part("ring", (0.66, 0.12, 0.36, 0.38, 0.17), "secondary"),
            Part("polygon", (-0.72, -0.58, 0.72, -0.58, 0.54, 0.92, -0.54, 0.92), "body"),
            _ellipse(0, -0.58, 0.72, 0.18, odd),
            _ellipse(0, -0.56, 0.56, 0.11, "dark", False),
        ),
        hat=(0, -0.60, 0.52),
        scarf=(0.42, 0.62),
    )


def _car(ears: str, odd: str) -> Shape:
    wheels = tuple(
        part
        for x in (-0.54, 0.54)
        for part in (_ellipse(x, 0.60, 0.27, 0.27, "dark"), _ellipse(x, 0.60, 0.12, 0.12, "accent", False))
    )
    return Shape(
        (
            Part("polygon", (-0.62, -0.02, -0.40, -0.62, 0.34, -0.62, 0.64, -0.02), "secondary"),
            Part("polygon", (-0.44, -0.06, -0.30, -0.46, 0.26, -0.46, 0.44, -0.06), "glass", False),
            Part("box", (-1.0, -0.10, 1.0, 0.58, 0.20), "body"),
            _ellipse(0.88, 0.14, 0.09, 0.10, odd, False),
        )
        + wheels,
        hat=(-0.02, -0.58, 0.50),
        scarf=(0.16, 0.86),
    )


def _tree(ears: str, odd: str) -> Shape:
    return Shape(
        (
            Part("box", (-0.15, 0.30, 0.15, 1.0, 0.04), "bark"),
            Part("polygon", (-0.82, 0.56, 0.82, 0.56, 0, -0.34), "body"),
            Part("polygon", (-0.66, 0.02, 0.66, 0.02, 0, -0.98), "twin"),
        ),
        hat=(0, -0.82, 0.46),
        scarf=(0.26, 0.50),
    )


def _house(ears: str, odd: str) -> Shape:
    return Shape(
        (
            Part("box", (-0.72, -0.22, 0.72, 0.94, 0.02), "body"),
            Part("polygon", (-0.98, -0.18, 0.98, -0.18, 0, -0.96), "secondary"),
            Part("box", (-0.16, 0.38, 0.22, 0.94, 0.02), "accent"),
            Part("box", (-0.56, 0.06, -0.26, 0.38, 0.02), "glass"),
            Part("box", (0.36, 0.06, 0.60, 0.38, 0.02), odd),
        ),
        hat=(0, -0.78, 0.46),
        scarf=(-0.02, 0.72),
    )


def _fish(ears: str, odd: str) -> Shape:
    return Shape(
        (
            Part("polygon", (0.42, 0.06, 1.06, -0.42, 0.94, 0.10, 1.06, 0.58), "secondary"),
            Part("polygon", (-0.22, -0.34, 0.34, -0.36, 0.30, -0.74), odd),
            _ellipse(-0.16, 0.08, 0.80, 0.54, "body"),
            Part("polygon", (-0.04, 0.10, 0.36, -0.06, 0.36, 0.30), "accent", False),
            _ellipse(-0.58, -0.04, 0.15, 0.15, "white", False),
            _ellipse(-0.60, -0.04, 0.085, 0.085, "dark", False),
        ),
        hat=(-0.30, -0.38, 0.50),
        scarf=(0.32, 0.66),
    )


def _star(ears: str, odd: str) -> Shape:
    corners: list[float] = []
    for corner in range(10):
        radius, angle = (1.08, 0.56)[corner % 2], math.pi * (corner / 5 - 0.5)
        corners += [radius * math.cos(angle), radius * math.sin(angle) + 0.08]
    return Shape(
        (Part("polygon", tuple(corners), "body"), _ellipse(0, 0.30, 0.24, 0.17, "secondary", False))
        + _eyes(0, -0.08, 0.20),
        hat=(0, -0.62, 0.46),
        scarf=(0.42, 0.52),
    )


_SHAPES = {
    "teddy": _teddy,
    "ball": _ball,
    "cup": _cup,
    "car": _car,
    "tree": _tree,
    "house": _house,
    "fish": _fish,
    "star": _star,
}
