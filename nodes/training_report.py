"""The trainer's report: one picture that tells a whole training."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.nn import functional

from ..perfusion_core.step_choice import Validation
from ..perfusion_core.training_pictures import PerPicture
from .host.training.job import TrainingResult
from .host.training.request import TrainingRequest
from .pictures import to_image
from .training_settings import settings_text

CELL, PLOT_HEIGHT = 160, 150
MIN_COLUMNS, MAX_COLUMNS = 5, 8
MARGIN, CAPTION, LINE = 8, 18, 17
INK, PAPER, FAINT = (30, 30, 36), (250, 250, 248), (205, 205, 205)
CURVE, CHOSEN = (44, 92, 214), (200, 60, 40)

ERROR = "validation error (held-out templates, fixed noise)"
LIKENESS = "1 - harmonic mean of image and text similarity (CLIP, fixed seeds)"

# Where the weights of the loss are from, as the report says it.
MASK_SOURCES = {
    "given": "the masks input",
    "attention": "automatic",
    "given and attention": "the masks input, others automatic",
    "none": "",
}

Captioned = tuple[str, Image.Image]


@dataclass(frozen=True)
class TrainingReport:
    """What a report shows, from top to bottom.

    title: one line.  settings: text, wrapped.  pictures: of the training.  masked: the same under their masks, empty
    without masks.  mask_source: where the masks are from.  losses: of every step.  validations, chosen_step: of the
    choice of the best step.  samples: rows of captioned pictures, one row for each step at which some were painted.
    measure: what the validations measured, in words.
    """

    title: str
    settings: str
    pictures: Sequence[Image.Image]
    losses: Sequence[float]
    masked: Sequence[Image.Image] = ()
    mask_source: str = ""
    validations: Sequence[Validation] = ()
    chosen_step: int = 0
    samples: Sequence[Sequence[Captioned]] = field(default_factory=list)
    measure: str = ERROR

    @classmethod
    def of(
        cls, preset: str, request: TrainingRequest, result: TrainingResult, samples: Sequence[Sequence[Captioned]]
    ) -> TrainingReport:
        """The report of a training that is over.  samples: the rows that were painted."""
        pictures = request.pictures
        settings = settings_text(preset, request.settings, len(pictures))
        settings += f"; {result.memory_plan.text()}" if result.memory_plan else ""
        settings += f"; pictures {pictures.described()}"
        captions = sum(template is not None for template in request.caption_templates)
        settings += f"; {captions} with captions" if captions else ""
        settings += f"; samples at CFG {request.sample_cfg:g}"
        return cls(
            title=title_of(result),
            settings=f"{settings}; text statistics: {request.measured_statistics.summary()}",
            pictures=[to_image(picture) for picture in pictures.pictures],
            losses=result.losses,
            masked=[] if result.masks is None else under_masks(pictures.pictures, result.masks),
            mask_source=MASK_SOURCES[request.mask_source],
            validations=result.validations,
            chosen_step=result.chosen_step,
            samples=samples,
            measure=ERROR if request.clip_vision is None else LIKENESS,
        )

    def draw(self) -> Image.Image:
        """The report as a picture."""
        widest = max([len(self.pictures), *map(len, self.samples)])
        columns = max(MIN_COLUMNS, min(MAX_COLUMNS, widest))
        width = columns * (CELL + MARGIN) + MARGIN
        captions = ["training pictures", *[""] * columns]
        blocks = [_text([self.title], width, 13), _text(textwrap.wrap(self.settings, width // 6), width, 11)]
        blocks.append(_row(list(zip(captions, self.pictures, strict=False))[:columns], width))
        if self.masked:
            captions[0] = f"masks: {self.mask_source}"
            blocks.append(_row(list(zip(captions, self.masked, strict=False))[:columns], width))
        blocks.append(_plot_of_losses(self.losses, self.chosen_step, width))
        measured = [v for v in self.validations if v.step > 0]
        if len(measured) > 1:
            blocks.append(_plot_of_validations(measured, self.measure, self.chosen_step, len(self.losses), width))
        for row in self.samples:
            blocks += [_row(row[start : start + columns], width) for start in range(0, len(row), columns)]
        sheet = Image.new("RGB", (width, sum(block.height for block in blocks) + MARGIN), PAPER)
        top = MARGIN
        for block in blocks:
            sheet.paste(block, (0, top))
            top += block.height
        return sheet


def title_of(result: TrainingResult) -> str:
    """A training in one line."""
    concept, path = result.concept, result.path
    kept = "" if path is None else f"{path.name}, {path.stat().st_size / 1000:.1f} kB, "
    return (
        f"{concept.word}, a {concept.superclass}: step {result.chosen_step} of {len(result.losses)},"
        f" {result.seconds:.0f} s, {kept}effect {result.effect:.0%}"
    )


def under_masks(pictures: Sequence[Tensor], masks: PerPicture) -> list[Image.Image]:
    """Pictures [H, W, 3] as a training weighted them: dark where their masks [1, h, w] in 0..1 are low."""
    return [under_mask(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]


def under_mask(picture: Tensor, mask: Tensor | None) -> Image.Image:
    """One of them, or the picture as it is where it has no mask."""
    if mask is None:
        return to_image(picture)
    size = tuple(picture.shape[:2])
    enlarged = functional.interpolate(mask[None].float(), size=size, mode="bilinear", align_corners=False)
    weights = 0.15 + 0.85 * enlarged[0].movedim(0, -1).to(picture)
    return to_image(picture[..., :3] * weights)


def smoothed(losses: Sequence[float]) -> tuple[list[float], int]:
    """The running mean of the losses, and over how many steps it is taken."""
    window = max(1, len(losses) // 15)
    return [float(np.mean(losses[max(0, i + 1 - window) : i + 1])) for i in range(len(losses))], window


def _text(lines: Sequence[str], width: int, size: int) -> Image.Image:
    block = Image.new("RGB", (width, LINE * len(lines) + 4), PAPER)
    draw = ImageDraw.Draw(block)
    for index, line in enumerate(lines):
        draw.text((MARGIN, LINE * index), line, fill=INK, font=_font(size))
    return block


def _row(captioned: Sequence[Captioned], width: int) -> Image.Image:
    row = Image.new("RGB", (width, CELL + CAPTION + MARGIN), PAPER)
    draw = ImageDraw.Draw(row)
    for index, (caption, image) in enumerate(captioned):
        left = MARGIN + index * (CELL + MARGIN)
        row.paste(ImageOps.pad(image.convert("RGB"), (CELL, CELL), color=PAPER), (left, 0))
        draw.text((left, CELL + 1), _shortened(caption, CELL), fill=INK, font=_font(11))
    return row


def _plot_of_losses(losses: Sequence[float], chosen_step: int, width: int) -> Image.Image:
    mean, window = smoothed(losses)
    steps = list(range(1, len(losses) + 1))
    caption = f"loss, {len(losses)} steps (faint: each step; line: mean of {window}; red: the step that was taken)"
    return _plot([(steps, losses, FAINT, 1), (steps, mean, CURVE, 2)], len(losses), chosen_step, caption, width)


def _plot_of_validations(
    found: Sequence[Validation], measure: str, chosen_step: int, steps: int, width: int
) -> Image.Image:
    caption = f"{measure}, lowest is best; taken: step {chosen_step}"
    series = ([v.step for v in found], [v.error for v in found], CURVE, 2)
    return _plot([series], steps, chosen_step, caption, width)


def _plot(
    series: Sequence[tuple[Sequence[int], Sequence[float], tuple[int, int, int], int]],
    steps: int,
    marked_step: int,
    caption: str,
    width: int,
) -> Image.Image:
    """Curves (steps, values, colour, thickness) over one axis of steps, with one step marked."""
    plot = Image.new("RGB", (width, PLOT_HEIGHT), PAPER)
    draw = ImageDraw.Draw(plot)
    left, right, top, bottom = MARGIN + 52, width - MARGIN, MARGIN, PLOT_HEIGHT - CAPTION
    low = min(min(values) for _, values, _, _ in series)
    high = max(max(values) for _, values, _, _ in series)
    span = (high - low) or 1.0

    def across(step: int) -> float:
        return left + (right - left) * (step - 1) / max(1, steps - 1)

    draw.rectangle((left, top, right, bottom), outline=FAINT)
    for at, values, colour, thickness in series:
        points = [(across(s), bottom - (bottom - top) * (v - low) / span) for s, v in zip(at, values, strict=True)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=thickness)
    if marked_step:
        draw.line([(across(marked_step), top), (across(marked_step), bottom)], fill=CHOSEN)
    for value, height in ((high, top - 4), (low, bottom - 10)):
        draw.text((MARGIN, height), f"{value:.4f}", fill=INK, font=_font(11))
    draw.text((left, bottom + 2), caption, fill=INK, font=_font(11))
    return plot


def _shortened(text: str, width: int) -> str:
    font = _font(11)
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip() + "…" if not text.endswith("…") else text[:-3].rstrip() + "…"
    return text


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
