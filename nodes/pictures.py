"""Pictures as the nodes need them: thumbnails for files, rows and curves for reports."""

from __future__ import annotations

import io as bytes_io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

THUMBNAIL = 160
MAX_THUMBNAIL_BYTES = 8192
_MARGIN, _CAPTION = 8, 18
_INK, _PAPER, _FAINT, _CURVE = (30, 30, 36), (250, 250, 248), (200, 200, 200), (44, 92, 214)


def to_image(picture: Tensor) -> Image.Image:
    """A picture of the host, [H, W, 3] in 0..1, as a Pillow image."""
    return Image.fromarray((picture[..., :3].clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy())


def to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image as a batch of one picture of the host, [1, H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255)[None]


def thumbnail(picture: Tensor) -> bytes:
    """A small JPEG of a picture [H, W, 3], of at most MAX_THUMBNAIL_BYTES, for the header of a concept file."""
    image = to_image(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    for quality in range(90, 9, -10):
        buffer = bytes_io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= MAX_THUMBNAIL_BYTES:
            break
    return buffer.getvalue()


def training_report(
    pictures: Sequence[Image.Image],
    samples: Sequence[tuple[str, Image.Image]],
    losses: Sequence[float],
    title: str,
    cell: int = 160,
) -> Image.Image:
    """One picture that tells a training: the training pictures, the loss, samples with their prompts, and a title
    line.
    """
    columns = max(4, min(8, max(len(pictures), len(samples))))
    width = columns * (cell + _MARGIN) + _MARGIN
    blocks = [_row([("", p) for p in pictures[:columns]], width, cell), _curve(losses, width, cell)]
    for start in range(0, len(samples), columns):
        blocks.append(_row(samples[start : start + columns], width, cell))
    sheet = Image.new("RGB", (width, sum(block.height for block in blocks) + _CAPTION + 2 * _MARGIN), _PAPER)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN), title, fill=_INK, font=_font(13))
    top = _CAPTION + _MARGIN
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _row(captioned: Sequence[tuple[str, Image.Image]], width: int, cell: int) -> Image.Image:
    row = Image.new("RGB", (width, cell + _CAPTION + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(row)
    for index, (caption, image) in enumerate(captioned):
        left = _MARGIN + index * (cell + _MARGIN)
        fitted = image.convert("RGB").resize((cell, round(cell * image.height / image.width)))
        row.paste(fitted.crop((0, 0, cell, cell)), (left, 0))
        draw.text((left, cell + 1), _shortened(caption, cell), fill=_INK, font=_font(11))
    return row


def _curve(losses: Sequence[float], width: int, height: int) -> Image.Image:
    """The loss of every step, faint, and its running mean."""
    plot = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(plot)
    left, right, top, bottom = _MARGIN + 46, width - _MARGIN, _MARGIN, height - _CAPTION
    window = max(1, len(losses) // 15)
    smooth = [float(np.mean(losses[max(0, i + 1 - window) : i + 1])) for i in range(len(losses))]
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0

    def points(values: Sequence[float]) -> list[tuple[float, float]]:
        across = max(1, len(values) - 1)
        return [
            (left + (right - left) * i / across, bottom - (bottom - top) * (value - low) / span)
            for i, value in enumerate(values)
        ]

    draw.rectangle((left, top, right, bottom), outline=_FAINT)
    if len(losses) > 1:
        draw.line(points(losses), fill=_FAINT)
        draw.line(points(smooth), fill=_CURVE, width=2)
    draw.text((_MARGIN, top - 4), f"{high:.3f}", fill=_INK, font=_font(11))
    draw.text((_MARGIN, bottom - 10), f"{low:.3f}", fill=_INK, font=_font(11))
    draw.text(
        (left, bottom + 2),
        f"loss, {len(losses)} steps (faint: each step; line: mean of {window})",
        fill=_INK,
        font=_font(11),
    )
    return plot


def _shortened(text: str, width: int) -> str:
    font = _font(11)
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip() + "…" if not text.endswith("…") else text[:-3].rstrip() + "…"
    return text


def _font(size: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(size)
