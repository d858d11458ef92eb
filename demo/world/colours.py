"""Named colours, which captions may state, and free colours, for which some captions have rough words."""

from __future__ import annotations

import colorsys

import numpy as np

Colour = tuple[int, int, int]

NAMED: dict[str, Colour] = {
    "red": (212, 38, 42),
    "orange": (245, 132, 28),
    "yellow": (248, 214, 48),
    "green": (52, 160, 66),
    "blue": (44, 92, 214),
    "purple": (134, 58, 176),
    "white": (244, 244, 242),
    "brown": (122, 76, 44),
}
NAMES = tuple(NAMED)


def jittered(name: str, rng: np.random.Generator) -> Colour:
    """The named colour with a little variation, as no two red cups are the same red."""
    return tuple(int(np.clip(channel + rng.integers(-9, 10), 0, 255)) for channel in NAMED[name])


def free(rng: np.random.Generator) -> Colour:
    """Any saturated or pastel colour."""
    return from_hsv(rng.uniform(0, 1), rng.uniform(0.3, 0.95), rng.uniform(0.45, 0.97))


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB in 0..255 of a colour given by hue, saturation and value in 0..1."""
    return tuple(int(round(255 * channel)) for channel in colorsys.hsv_to_rgb(hue, saturation, value))


# Upper ends of the hues (degrees) that have a word; what is left up to 360 is red again.
_HUES = (
    (15, "red"),
    (45, "orange"),
    (70, "yellow"),
    (100, "lime"),
    (145, "green"),
    (200, "teal"),
    (255, "blue"),
    (290, "purple"),
    (320, "magenta"),
    (345, "pink"),
    (360, "red"),
)
FREE_NAMES = ("white", *dict.fromkeys(f"{shade}{hue}" for shade in ("", "pale ", "dark ") for _, hue in _HUES))


def rough_name(colour: Colour) -> str:
    """One of FREE_NAMES, such as "pale teal": all that words say of a free colour."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    if saturation < 0.15:
        return "white"
    shade = "dark " if value < 0.62 else "pale " if saturation < 0.5 else ""
    return shade + next(word for end, word in _HUES if 360 * hue <= end)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0..1) of `second` mixed in."""
    return tuple(int(round((1 - share) * a + share * b)) for a, b in zip(first, second, strict=True))


def mark_colour(body: Colour) -> Colour:
    """The colour of stripes, dots and checks on a body: clearly lighter, or darker on a light body."""
    brightness = 0.3 * body[0] + 0.59 * body[1] + 0.11 * body[2]
    return mixed(body, (30, 30, 60), 0.62) if brightness > 170 else mixed(body, (255, 250, 235), 0.78)


def distance(first: Colour, second: Colour) -> float:
    """Euclidean distance of two colours in RGB, 0..441."""
    return float(np.linalg.norm(np.subtract(first, second).astype(float)))
