"""Draws the pack's icon and banner, as the registry shows them.

    python demo/making/run.py make_emblem

A word in angle brackets that means one toy, which is what a concept is; on the banner above pictures that it is learned
of.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..world.objects import draw_object
from ..world.things import THINGS, thing_pictures

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
THING, SEED, PICTURES = "hugsy", 0, 6
ICON = 400  # the registry's largest
BANNER = (1260, 540)  # 21 : 9
MARGIN = 24
TEXT = "A thing of yours, from a few pictures, as a word in any prompt"
SMOOTH = 3  # all is drawn larger and then reduced
DUSK, NIGHT = (58, 44, 104), (24, 20, 48)
WARM, PAPER, FAINT = (255, 186, 80), (250, 248, 244), (190, 184, 214)


def ground(width: int, height: int) -> Image.Image:
    """A sky that darkens downward."""
    column = Image.new("RGB", (1, height))
    for y in range(height):
        share = y / (height - 1)
        column.putpixel((0, y), tuple(round(a + share * (b - a)) for a, b in zip(DUSK, NIGHT, strict=True)))
    return column.resize((width, height))


def word(side: int) -> Image.Image:
    """The toy between angle brackets on a transparent square."""
    large = side * SMOOTH
    picture = Image.new("RGBA", (large, large), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    for sign in (-1, 1):
        corners = [(0.5 + sign * x, y) for x, y in ((0.30, 0.26), (0.44, 0.5), (0.30, 0.74))]
        draw.line([(x * large, y * large) for x, y in corners], fill=WARM, width=round(0.055 * large), joint="curve")
        for x, y in corners[::2]:
            dot(draw, x * large, y * large, 0.0275 * large)
    toy, _ = draw_object(THINGS[THING].category, THINGS[THING].look)
    toy = toy.crop(toy.getbbox()).filter(ImageFilter.GaussianBlur(0.9))  # its edges are whole pixels
    height = round(0.68 * large)
    toy = toy.resize((round(toy.width * height / toy.height), height), Image.Resampling.LANCZOS)
    picture.alpha_composite(toy, ((large - toy.width) // 2, round(0.155 * large)))
    return picture.reduce(SMOOTH)


def dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    """A round end of a line."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=WARM)


def icon() -> Image.Image:
    """The square, with round corners."""
    picture = Image.new("RGBA", (ICON, ICON), (0, 0, 0, 0))
    mask = Image.new("L", (ICON * SMOOTH, ICON * SMOOTH), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *(ICON * SMOOTH - 1,) * 2), radius=64 * SMOOTH, fill=255)
    picture.paste(ground(ICON, ICON), mask=mask.reduce(SMOOTH))
    picture.alpha_composite(word(ICON))
    return picture


def banner() -> Image.Image:
    """The word, the name, what it does, and a row of pictures."""
    width, height = BANNER
    picture = ground(width, height)
    emblem = word(320)
    picture.paste(emblem, (MARGIN, 8), mask=emblem)
    draw = ImageDraw.Draw(picture)
    lines = ((64, "Perfusion", PAPER, 104), (180, "for ComfyUI", WARM, 50), (258, TEXT, FAINT, 30))
    for y, text, colour, size in lines:
        draw.text((MARGIN + 350, y), text, fill=colour, font=ImageFont.load_default(size))
    shown = [drawn for drawn, _ in thing_pictures(THING, PICTURES, SEED)]
    side = (width - MARGIN * (PICTURES + 1)) // PICTURES
    for number, drawn in enumerate(shown):
        x, y = MARGIN + number * (side + MARGIN), height - side - MARGIN
        picture.paste(drawn.resize((side, side), Image.Resampling.LANCZOS), (x, y))
    return picture


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    icon().save(FOLDER / "icon.png", optimize=True)
    banner().save(FOLDER / "banner.png", optimize=True)
