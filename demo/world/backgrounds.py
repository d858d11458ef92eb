"""The six backgrounds, drawn from large smooth areas so that a small VAE keeps them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

# name -> (phrase in captions, top of the upper area, its bottom, top of the ground, its bottom)
_PALETTES = {
    "beach": ((92, 186, 236), (190, 230, 246), (244, 220, 160), (226, 192, 122)),
    "snow": ((150, 176, 206), (214, 226, 238), (250, 252, 255), (226, 236, 248)),
    "grass": ((120, 190, 240), (206, 234, 246), (122, 196, 88), (84, 158, 66)),
    "night": ((10, 14, 48), (34, 40, 92), (30, 50, 60), (20, 34, 44)),
    "room": ((246, 166, 194), (250, 190, 210), (176, 128, 96), (150, 104, 76)),
    "studio": ((132, 134, 138), (176, 178, 182), (150, 152, 156), (120, 122, 126)),
}
PHRASES = {
    "beach": "on the beach",
    "snow": "in the snow",
    "grass": "on the grass",
    "night": "at night",
    "room": "in a pink room",
    "studio": "in a grey studio",
}
BACKGROUNDS = tuple(_PALETTES)


def draw_background(name: str, size: int, rng: np.random.Generator) -> Image.Image:
    """A size x size RGB picture of the background, with its horizon and landmarks placed at random."""
    sky_top, sky_bottom, ground_top, ground_bottom = (
        np.clip(np.array(colour) + rng.integers(-7, 8), 0, 255) for colour in _PALETTES[name]
    )
    horizon = int(size * rng.uniform(0.52, 0.68))
    rows = np.empty((size, 3))
    rows[:horizon] = np.linspace(sky_top, sky_bottom, horizon)
    rows[horizon:] = np.linspace(ground_top, ground_bottom, size - horizon)
    picture = Image.fromarray(np.repeat(rows[:, None], size, axis=1).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    x = size * rng.uniform(0.12, 0.88)
    if name == "beach":
        draw.rectangle((0, horizon - size * 0.10, size, horizon), fill=(40, 132, 196))
        _disc(draw, x, size * 0.13, size * 0.075, (255, 238, 130))
    elif name == "snow":
        for peak in (x, (x + size * 0.55) % size):
            draw.polygon(
                (peak - size * 0.3, horizon, peak, horizon - size * 0.26, peak + size * 0.3, horizon),
                fill=(240, 246, 252),
            )
    elif name == "grass":
        _disc(draw, x, horizon + size * 0.16, size * 0.28, tuple(int(c) for c in ground_top))
    elif name == "night":
        _disc(draw, x, size * 0.15, size * 0.08, (246, 240, 200))
        for _ in range(5):
            _disc(draw, size * rng.uniform(0, 1), size * rng.uniform(0.03, 0.45), size * 0.014, (236, 236, 220))
    elif name == "room":
        draw.rectangle((0, horizon - size * 0.035, size, horizon), fill=(250, 244, 240))
    return picture


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
