"""Drawing one object with its accessory on a transparent square canvas."""

from __future__ import annotations

from PIL import Image, ImageChops, ImageDraw

from . import colours
from .looks import Look
from .shapes import Part, shape

REACH = 1.55  # the canvas covers -REACH..REACH in the object's coordinates
PIXELS_PER_UNIT = 90
SIZE = round(2 * REACH * PIXELS_PER_UNIT)
OUTLINE = 5  # canvas pixels
MARK = 0.30  # width of stripes and checks in the object's units: about 10 picture pixels
HAT, HAT_BAND = (34, 36, 66), (250, 196, 40)
SCARF, SCARF_EDGE = (0, 164, 160), (0, 104, 112)

ACCESSORIES = ("none", "hat", "scarf")


def draw_object(category: str, look: Look, accessory: str = "none") -> tuple[Image.Image, Image.Image]:
    """An RGBA canvas with the object and its accessory, and an L mask of the object alone where nothing covers it."""
    outline = colours.mixed(look.primary, (18, 16, 30), 0.72)
    canvas = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    silhouette = Image.new("L", (SIZE, SIZE), 0)
    shape_of_category = shape(category, look.ears, look.odd)
    texture = _texture(look)
    flat = {
        "secondary": look.secondary,
        "twin": look.secondary,
        "accent": look.accent,
        "dark": (26, 24, 32),
        "white": (250, 250, 250),
        "glass": (176, 216, 240),
        "bark": (112, 72, 44),
    }
    for part in shape_of_category.parts:
        area = _area(part)
        if part.outlined:
            canvas.paste(outline, mask=_area(part, grow=OUTLINE))
        textured = part.fill == "body" or (part.fill == "twin" and look.scheme == "solid")
        canvas.paste(texture if textured else flat[part.fill], mask=area)
        silhouette = ImageChops.lighter(silhouette, area)
    if accessory != "none":
        cover = _draw_accessory(canvas, accessory, shape_of_category.hat, shape_of_category.scarf)
        silhouette = ImageChops.subtract(silhouette, cover)
    return canvas, silhouette


def _texture(look: Look) -> Image.Image:
    texture = Image.new("RGB", (SIZE, SIZE), look.primary)
    draw = ImageDraw.Draw(texture)
    centre = SIZE / 2
    if look.scheme == "split":
        draw.rectangle((centre, 0, SIZE, SIZE), fill=look.secondary)
    elif look.scheme == "banded":
        draw.rectangle((0, _pixel(0.10), SIZE, _pixel(0.52)), fill=look.secondary)
    mark, step = colours.mark_colour(look.primary), MARK * PIXELS_PER_UNIT
    cells = range(-8, 9)
    if look.pattern == "striped":
        for i in cells:
            draw.rectangle((centre + (2 * i - 0.5) * step, 0, centre + (2 * i + 0.5) * step, SIZE), fill=mark)
    elif look.pattern == "checkered":
        for i in cells:
            for j in cells:
                if (i + j) % 2:
                    x, y = centre + i * step * 1.15, centre + j * step * 1.15
                    draw.rectangle((x, y, x + step * 1.15, y + step * 1.15), fill=mark)
    elif look.pattern == "dotted":
        for i in cells:
            for j in cells:
                x, y = centre + (i + 0.5 * (j % 2)) * step * 1.75, centre + j * step * 1.55
                draw.ellipse((x - step * 0.56, y - step * 0.56, x + step * 0.56, y + step * 0.56), fill=mark)
    if look.scheme == "patched":
        x, y = (_pixel(value) for value in look.patch)
        radius = 0.34 * PIXELS_PER_UNIT
        draw.ellipse((x - radius, y - radius * 1.1, x + radius, y + radius * 1.1), fill=look.secondary)
        draw.ellipse((x - radius, y - radius * 2.9, x + radius, y - radius * 1.3), fill=look.secondary)
    return texture


def _pixel(value: float) -> float:
    return (value + REACH) * PIXELS_PER_UNIT


def _area(part: Part, grow: float = 0) -> Image.Image:
    """The part as an L mask, `grow` canvas pixels larger on every side."""
    mask = Image.new("L", (SIZE, SIZE), 0)
    draw = ImageDraw.Draw(mask)
    if part.kind == "polygon":
        corners = [(_pixel(x), _pixel(y)) for x, y in zip(part.numbers[::2], part.numbers[1::2], strict=True)]
        draw.polygon(corners, fill=255)
        if grow:
            draw.line(corners + corners[:2], fill=255, width=round(2 * grow), joint="curve")
        return mask
    if part.kind == "box":
        x0, y0, x1, y1, radius = part.numbers
        draw.rounded_rectangle(
            (_pixel(x0) - grow, _pixel(y0) - grow, _pixel(x1) + grow, _pixel(y1) + grow),
            radius=radius * PIXELS_PER_UNIT + grow,
            fill=255,
        )
        return mask
    x, y, rx, ry = (
        _pixel(part.numbers[0]),
        _pixel(part.numbers[1]),
        part.numbers[2] * PIXELS_PER_UNIT + grow,
        part.numbers[3] * PIXELS_PER_UNIT + grow,
    )
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)
    if part.kind == "ring":
        inner = part.numbers[4] * PIXELS_PER_UNIT + 2 * grow
        draw.ellipse((x - rx + inner, y - ry + inner, x + rx - inner, y + ry - inner), fill=0)
    return mask


def _draw_accessory(
    canvas: Image.Image, accessory: str, hat: tuple[float, float, float], scarf: tuple[float, float]
) -> Image.Image:
    if accessory == "hat":
        x, y, half = hat
        pieces = [
            (Part("box", (x - half, y - 0.10, x + half, y + 0.10, 0.10), ""), HAT),
            (Part("box", (x - half * 0.64, y - 0.72, x + half * 0.64, y, 0.06), ""), HAT),
            (Part("box", (x - half * 0.64, y - 0.26, x + half * 0.64, y - 0.06, 0), ""), HAT_BAND),
        ]
    else:
        y, half = scarf
        pieces = [
            (Part("box", (half * 0.22, y, half * 0.22 + 0.34, y + 0.74, 0.06), ""), SCARF_EDGE),
            (Part("box", (-half - 0.06, y - 0.15, half + 0.06, y + 0.17, 0.12), ""), SCARF),
        ]
    cover = Image.new("L", (SIZE, SIZE), 0)
    for piece, colour in pieces:
        area = _area(piece)
        canvas.paste(colour, mask=area)
        cover = ImageChops.lighter(cover, area)
    return cover
