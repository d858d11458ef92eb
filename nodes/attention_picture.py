"""Heat maps of words over the pictures that they were recorded with, and what lies at one point as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from .drawing import MARGIN, MEDIUM, SMALL, WIDTH, Sheet, font, shortened
from .pictures import to_image

MOST_WORDS = 24
_COLUMNS, _GAP, _LABEL = 3, 10, 34

# From little to much attention; light and dark enough to be told apart without colours too.
_HEAT = np.array([(36, 12, 84), (124, 30, 120), (214, 62, 78), (250, 144, 40), (252, 244, 150)], np.float32)
_QUIET = 0.55  # of the picture's own brightness that stays below the heat
_SHARE_LOW, _SHARE_HIGH = 0.10, 0.995  # of the places of all pictures, below and above which nothing more is told


class WordMaps(NamedTuple):
    """A word with its maps [P, h, w] of the share of attention, 0 to 1."""

    word: str
    maps: Tensor


def attention_picture(
    pictures: Tensor, words: Sequence[WordMaps], point: tuple[float, float], theme: str
) -> Image.Image:
    """Each picture [P, H, W, 3] beside heat maps of the words over it.  point: across and down, 0 to 1, is marked."""
    width = (WIDTH - 2 * MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
    height = round(width * pictures.shape[1] / pictures.shape[2])
    sheet = Sheet(theme)
    ranges = {one.word: _range_of(one.maps) for one in words}
    for number, picture in enumerate(pictures):
        plain = to_image(picture).resize((width, height), Image.Resampling.LANCZOS)
        title = f"picture {number + 1}" if len(pictures) > 1 else "picture"
        tiles = [(title, "", _marked(plain, point))]
        for one in words:
            peak = f"up to {one.maps[number].max().item():.0%}"
            tiles.append((one.word, peak, heated(plain, one.maps[number], *ranges[one.word])))
        for start in range(0, len(tiles), _COLUMNS):
            _draw_row(sheet, tiles[start : start + _COLUMNS], width, height)
        sheet.top += _GAP
    sheet.top -= 2 * _GAP
    return sheet.finished()


def _draw_row(sheet: Sheet, tiles: Sequence[tuple[str, str, Image.Image]], width: int, height: int) -> None:
    draw = sheet.room(_LABEL + height)
    for column, (label, peak, tile) in enumerate(tiles):
        left = MARGIN + column * (width + _GAP)
        room = width - font(SMALL).getlength(peak) - 8
        at = sheet.top + _LABEL / 2
        colour = sheet.theme.accent if label.startswith("<") else sheet.theme.ink
        draw.text((left, at), shortened(label, room, MEDIUM), fill=colour, font=font(MEDIUM), anchor="lm")
        draw.text((left + width, at), peak, fill=sheet.theme.faint, font=font(SMALL), anchor="rm")
        sheet.paste(tile, left, sheet.top + _LABEL)
    sheet.top += _LABEL + height + _GAP


def heated(picture: Image.Image, word_map: Tensor, low: float, high: float) -> Image.Image:
    """The picture in grey under the heat of a map [h, w]; low, high: the shares that are drawn cold and hot."""
    size = (picture.height, picture.width)
    smooth = functional.interpolate(word_map[None, None].float(), size=size, mode="bicubic", align_corners=False)[0, 0]
    heat = ((smooth - low) / max(high - low, 1e-9)).clamp(0, 1).cpu().numpy()
    steps = heat * (len(_HEAT) - 1)
    below = np.minimum(steps.astype(int), len(_HEAT) - 2)
    part = (steps - below)[..., None]
    colours = _HEAT[below] * (1 - part) + _HEAT[below + 1] * part
    grey = np.asarray(picture.convert("L"), np.float32)[..., None] * _QUIET
    covered = (0.25 + 0.6 * heat)[..., None]
    return Image.fromarray((grey * (1 - covered) + colours * covered).round().astype(np.uint8))


def _range_of(maps: Tensor) -> tuple[float, float]:
    """The same for all pictures of a word, so that they can be compared."""
    values = maps.flatten().float()
    return values.quantile(_SHARE_LOW).item(), values.quantile(_SHARE_HIGH).item()


def _marked(picture: Image.Image, point: tuple[float, float]) -> Image.Image:
    """A copy with a cross at the point."""
    marked = picture.copy()
    draw = ImageDraw.Draw(marked)
    across, down = point[0] * (picture.width - 1), point[1] * (picture.height - 1)
    for colour, thickness in (((0, 0, 0), 5), ((255, 255, 255), 2)):
        draw.line((across - 9, down, across + 9, down), fill=colour, width=thickness)
        draw.line((across, down - 9, across, down + 9), fill=colour, width=thickness)
    return marked


def at_point(maps: Tensor, point: tuple[float, float]) -> list[float]:
    """The share of attention at a point, across and down in 0 to 1, of each picture; maps [P, h, w]."""
    places = torch.tensor([[[2 * point[0] - 1, 2 * point[1] - 1]]]).expand(len(maps), 1, 1, 2)
    sampled = functional.grid_sample(
        maps[:, None].float(), places, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.flatten().tolist()


def attention_text(words: Sequence[WordMaps], point: tuple[float, float]) -> str:
    """For each picture the words ranked by their share of attention at the point; then where each word is strongest."""
    shares = {one.word: at_point(one.maps, point) for one in words}
    lines = []
    for number in range(len(words[0].maps)):
        ranked = sorted(shares, key=lambda word: -shares[word][number])
        told = ", ".join(f"{word} {shares[word][number]:.1%}" for word in ranked)
        lines.append(f"picture {number + 1}, at {point[0]:g} across and {point[1]:g} down: {told}")
    for one in words:
        _, rows, columns = one.maps.shape
        peak = int(one.maps.mean(dim=0).argmax())
        across, down = (peak % columns + 0.5) / columns, (peak // columns + 0.5) / rows
        most = f"most at {across:.2f} across and {down:.2f} down"
        lines.append(f"{one.word}: {one.maps.mean().item():.1%} on average, {most}")
    return "\n".join(lines)
