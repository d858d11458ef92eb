"""Bringing pictures of any size to sizes that a model can be trained on: scaled, not stretched, and cut little.

A model is trained at one area, its resolution squared, and at sides that are multiples of a step. Each picture takes
the size of that kind that cuts least of it; pictures that take the same one share a bucket and can share a batch.

A model that knows one square alone has a step as large as its resolution. There a cut would take away half of a thing
and show the rest too large, so the whole picture is shown, and its edges go on to the sides of the square.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from .errors import PerfusionError

# How far a bucket's area may lie above the resolution's, so that a ratio between two steps need not be cut much.
MOST_AREA = 1.1


@dataclass(frozen=True)
class Fit:
    """How a picture comes to its bucket; all sizes are (width, height) in pixels.

    original: as it was given.  scaled: of the whole picture before the cut.  left, top: of the cut in it, below 0 where
    the picture does not fill its bucket.  size: of the bucket.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    left: int
    top: int
    size: tuple[int, int]

    @property
    def enlargement(self) -> float:
        """By how much the picture is scaled; above 1 it is made larger than it was."""
        return max(self.scaled[0] / self.original[0], self.scaled[1] / self.original[1])


def whole_picture(width: int, height: int) -> Fit:
    """Of a picture that is trained on as it is."""
    return Fit((width, height), (width, height), 0, 0, (width, height))


def bucket_size(width: int, height: int, resolution: int, step: int) -> tuple[int, int]:
    """The (width, height), multiples of `step`, of about `resolution` squared pixels, that cuts least of a picture.

    Raises PerfusionError where the resolution is no multiple of the step, or the picture has no area.
    """
    if resolution < step or resolution % step:
        raise PerfusionError(
            f"The setting resolution must be a multiple of {step} from {step} on, but it is {resolution}; "
            f"use {max(step, round(resolution / step) * step)}."
        )
    if min(width, height) < 1:
        raise PerfusionError(f"A picture has {width} x {height} pixels and nothing can be learned from it; remove it.")
    ratio = width / height
    ideal = resolution * math.sqrt(ratio), resolution / math.sqrt(ratio)
    sides = [sorted({max(step, rounded(side / step) * step) for rounded in (math.floor, math.ceil)}) for side in ideal]
    sizes = [(w, h) for w in sides[0] for h in sides[1] if w * h <= MOST_AREA * resolution**2]
    # A ratio so long that one side is a single step: the other is as long as the area allows.
    longest = resolution**2 // step // step * step
    sizes = [(min(w, longest), min(h, longest)) for w, h in sizes or [(w, h) for w in sides[0] for h in sides[1]]]
    return min(sizes, key=lambda size: (_cut(ratio, size), abs(size[0] * size[1] - resolution**2)))


def _cut(ratio: float, size: tuple[int, int]) -> float:
    """The share of a picture of this ratio that filling `size` cuts off; to a millionth, so that ties are ties."""
    other = size[0] / size[1]
    return round(1 - min(ratio, other) / max(ratio, other), 6)


def fit_picture(width: int, height: int, resolution: int, step: int, mask: Tensor | None = None) -> Fit:
    """How a picture of this size comes to its bucket. The cut keeps the middle, or goes towards the mask's centre.

    mask: [height, width] in 0..1, white where the thing is.
    """
    size = bucket_size(width, height, resolution, step)
    if step == resolution:
        return _whole_in(width, height, size)
    scale = max(size[0] / width, size[1] / height)
    scaled = max(size[0], round(width * scale)), max(size[1], round(height * scale))
    centre = (0.5, 0.5) if mask is None else _centre(mask)
    left, top = (
        min(max(round(part * whole - kept / 2), 0), whole - kept)
        for part, whole, kept in zip(centre, scaled, size, strict=True)
    )
    return Fit((width, height), scaled, left, top, size)


def _whole_in(width: int, height: int, size: tuple[int, int]) -> Fit:
    """The whole picture as large as the bucket allows, in its middle."""
    scale = min(size[0] / width, size[1] / height)
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    return Fit((width, height), scaled, (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2, size)


def _centre(mask: Tensor) -> tuple[float, float]:
    """Where the middle of the mask's bounding box is, as shares of width and height; an empty mask has the middle."""
    seen = mask > 0.5
    if not seen.any():
        return 0.5, 0.5
    places = []
    for axis in (0, 1):
        found = seen.any(dim=axis).nonzero().flatten()
        places.append((found[0].item() + found[-1].item() + 1) / 2 / seen.shape[1 - axis])
    return places[0], places[1]


def fitted(picture: Tensor, fit: Fit, beyond: str = "replicate") -> Tensor:
    """The picture, or mask, [h, w, C] at its fit's size, [H, W, C] in 0..1, float32; one that fits is left as it is.

    beyond: what is beyond the edges of a picture that does not fill its bucket, a mode of torch's `pad`.
    """
    width, height = fit.size
    if fit.scaled == fit.original == fit.size:
        return picture.float()
    channels_first = picture.float().movedim(-1, 0)[None]
    if fit.scaled != fit.original:
        # Antialiasing: a photo of many megapixels would otherwise be sampled, not scaled.
        size = fit.scaled[1], fit.scaled[0]
        channels_first = F.interpolate(channels_first, size=size, mode="bicubic", antialias=True)
    left, top = max(0, fit.left), max(0, fit.top)
    cut = channels_first[..., top : top + height, left : left + width]
    missing_width, missing_height = width - cut.shape[-1], height - cut.shape[-2]
    margins = (-min(0, fit.left), missing_width + min(0, fit.left), -min(0, fit.top), missing_height + min(0, fit.top))
    return F.pad(cut, margins, beyond)[0].movedim(0, -1).clamp(0, 1).contiguous()


def buckets(fits: Sequence[Fit]) -> Mapping[tuple[int, int], tuple[int, ...]]:
    """The numbers of the pictures of each size, in the order in which the sizes first come up."""
    found: dict[tuple[int, int], list[int]] = {}
    for number, fit in enumerate(fits):
        found.setdefault(fit.size, []).append(number)
    return {size: tuple(numbers) for size, numbers in found.items()}


def described(fits: Sequence[Fit]) -> str:
    """The sizes in a few words, such as "3 at 576 x 448, 2 at 512 x 512; 1 enlarged from 300 x 300"."""
    text = ", ".join(f"{len(numbers)} at {w} x {h}" for (w, h), numbers in buckets(fits).items())
    small = [f"{fit.original[0]} x {fit.original[1]}" for fit in fits if fit.enlargement > 1]
    if small:
        text += f"; {len(small)} enlarged, from {', '.join(dict.fromkeys(small))}"
    return text
