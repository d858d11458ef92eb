"""How the pictures that explain something are drawn: themes, letters, cells.

A node shows a picture about half as wide as it is drawn, so the smallest letters are twice the size of readable ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

WIDTH = 760  # of a picture that a node of the usual size shows whole
MARGIN = 20
LARGE, MEDIUM, SMALL = 26, 22, 19  # heights of letters
_ROUND = 4

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Theme(NamedTuple):
    """paper: behind all.  panel, warm: of an empty cell and of a full one.  ink, faint, accent: of letters."""

    paper: Colour
    panel: Colour
    ink: Colour
    faint: Colour
    warm: Colour
    accent: Colour


THEMES = {
    "dark": Theme((30, 32, 37), (50, 54, 62), (240, 241, 243), (160, 166, 176), (255, 178, 56), (255, 186, 80)),
    "light": Theme((250, 250, 248), (229, 231, 234), (28, 29, 34), (98, 103, 112), (245, 158, 22), (160, 84, 0)),
}
_DARK_INK, _LIGHT_INK = (22, 22, 26), (250, 250, 250)


@functools.cache
def font(size: int) -> Font:
    """The letters of all pictures, so many pixels high; they come with Pillow."""
    return ImageFont.load_default(size)


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """The colour that is this share, 0 to 1, of the other one."""
    share = min(1.0, max(0.0, share))
    return (
        round(one[0] + share * (other[0] - one[0])),
        round(one[1] + share * (other[1] - one[1])),
        round(one[2] + share * (other[2] - one[2])),
    )


def ink_on(ground: Colour) -> Colour:
    """Dark or light letters, whichever are read better on this ground."""
    red, green, blue = ((level / 255) ** 2.2 for level in ground)
    return _DARK_INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else _LIGHT_INK


def shortened(text: str, width: float, size: int) -> str:
    """The text, cut so that it is no wider than this."""
    letters = font(size)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def wrapped(text: str, width: float, size: int) -> list[str]:
    """The text in lines no wider than this; a word that alone is wider is cut."""
    letters, lines = font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and letters.getlength(longer) > width:
            lines.append(shortened(word, width, size))
        else:
            lines[-1] = shortened(longer, width, size)
    return lines


def rows_of(widths: Sequence[float], room: float) -> list[list[int]]:
    """Things of these widths in as many lines as they need, as their numbers."""
    lines: list[list[int]] = []
    used = room + 1
    for number, width in enumerate(widths):
        if used + width > room or not lines:
            lines.append([])
            used = 0.0
        lines[-1].append(number)
        used += width
    return lines


class Sheet:
    """A picture that grows downwards while it is drawn."""

    def __init__(self, theme: str, width: int = WIDTH) -> None:
        self.theme = THEMES[theme]
        self.width = width
        self.top = MARGIN
        self._image = Image.new("RGB", (width, 2 * MARGIN), self.theme.paper)

    def room(self, height: int) -> ImageDraw.ImageDraw:
        """What to draw with; from `top` on there is room for so much."""
        needed = self.top + height + MARGIN
        if needed > self._image.height:
            higher = Image.new("RGB", (self.width, needed), self.theme.paper)
            higher.paste(self._image, (0, 0))
            self._image = higher
        return ImageDraw.Draw(self._image)

    def text(self, text: str, size: int = MEDIUM, colour: Colour | None = None, indent: int = 0) -> None:
        """Lines of text under what is there."""
        line = round(size * 1.35)
        lines = wrapped(text, self.width - 2 * MARGIN - indent, size)
        draw = self.room(line * len(lines))
        for number, one in enumerate(lines):
            at = (MARGIN + indent, self.top + number * line)
            draw.text(at, one, fill=colour or self.theme.ink, font=font(size))
        self.top += line * len(lines)

    def paste(self, picture: Image.Image, left: int, top: int) -> None:
        """A picture at this place, for which there is room."""
        self._image.paste(picture, (left, top))

    def finished(self) -> Image.Image:
        """The picture, as high as what is drawn on it."""
        return self._image.crop((0, 0, self.width, self.top + MARGIN))


def cell(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    theme: Theme,
    share: float,
    number: str,
    below: str = "",
) -> None:
    """A box filled by a share from 0 to 1, with a number and a smaller one below it."""
    ground = blend(theme.panel, theme.warm, share)
    draw.rounded_rectangle(box, _ROUND, fill=ground)
    ink = ink_on(ground)
    middle, height = (box[0] + box[2]) / 2, box[3] - box[1]
    at = height * (0.36 if below else 0.5)
    quiet = blend(ground, ink, 0.75)
    draw.text((middle, box[1] + at), number, fill=ink if share > 0.02 else quiet, font=font(LARGE), anchor="mm")
    if below:
        draw.text((middle, box[1] + height * 0.76), below, fill=quiet, font=font(SMALL), anchor="mm")
