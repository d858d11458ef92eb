"""The pictures of a training with their masks, at the sizes that they are trained at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .errors import PerfusionError
from .picture_fitting import Fit, described, fit_picture, fitted
from .picture_inputs import masks_in, masks_of, pictures_in

# One tensor for each picture: a batch [P, ...] where all have one size, otherwise a list.  Both are indexed by picture.
PerPicture = Tensor | list[Tensor]

LEAST_SIDE = 64  # of a picture that is not brought to a resolution: eight latents


@dataclass(frozen=True, eq=False)
class TrainingPictures:
    """P pictures that a training learns from.

    pictures: [H, W, 3] in 0..1, float32, each of its bucket's size.  masks: [h, w] in 0..1 of the same view, or None
    where a picture has none.  fits: how each came to its size.
    """

    pictures: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    fits: tuple[Fit, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def commonest_size(self) -> tuple[int, int]:
        """The (width, height) of most pictures, the first of equals."""
        sizes = [fit.size for fit in self.fits]
        return max(dict.fromkeys(sizes), key=sizes.count)

    def described(self) -> str:
        """Their sizes in words."""
        return described(self.fits)


def training_pictures(
    images: object, masks: object = None, resolution: int | None = None, step: int = 8
) -> TrainingPictures:
    """Pictures and masks, connected in any of the ways of `picture_inputs`, as a training takes them.

    resolution: the area they are brought to is its square, and their sides become multiples of `step`; None leaves them
    at their own size, cut around the middle to multiples of `step`.  Raises PerfusionError for what does not fit.
    """
    shown = pictures_in(images)
    weights = masks_of(shown, masks_in(masks))
    empty = [number for number, mask in enumerate(weights, start=1) if mask is not None and not (mask > 0).any()]
    if empty:
        raise empty_mask(empty)
    fits = []
    for picture, mask in zip(shown, weights, strict=True):
        height, width = picture.shape[:2]
        own = resolution is None
        fits.append(_own_size(width, height, step) if own else fit_picture(width, height, resolution, step, mask))
    return TrainingPictures(
        tuple(fitted(picture[..., :3], fit) for picture, fit in zip(shown, fits, strict=True)),
        tuple(None if mask is None else _fitted_mask(mask, fit) for mask, fit in zip(weights, fits, strict=True)),
        tuple(fits),
    )


def empty_mask(numbers: Sequence[int]) -> PerfusionError:
    """The error of masks, by picture from 1 on, that mark nothing."""
    return PerfusionError(
        f"The mask of picture {', '.join(map(str, numbers))} is empty where it should mark the thing; paint it or leave"
        " the masks input open."
    )


def _own_size(width: int, height: int, step: int) -> Fit:
    size = width // step * step, height // step * step
    if min(size) < LEAST_SIDE:
        raise PerfusionError(
            f"The pictures must have at least {LEAST_SIDE} pixels on each side, but they have {width} x {height}; use"
            " larger ones."
        )
    return Fit((width, height), (width, height), (width - size[0]) // 2, (height - size[1]) // 2, size)


def _fitted_mask(mask: Tensor, fit: Fit) -> Tensor:
    """The same view of a mask; where the whole picture is seen it keeps its own size."""
    width, height = fit.original
    if fit.scaled == fit.size:
        return mask.float()
    if mask.shape != (height, width):
        mask = functional.interpolate(mask[None, None].float(), size=(height, width), mode="bilinear")[0, 0]
    return fitted(mask[..., None], fit, "constant")[..., 0]


def per_picture(tensors: Sequence[Tensor]) -> PerPicture:
    """One tensor [P, ...] of tensors of one shape, a list of tensors of several."""
    return torch.stack(list(tensors)) if len({tensor.shape for tensor in tensors}) == 1 else list(tensors)
