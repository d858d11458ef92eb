"""The pictures and masks of a training at the size that the model sees: latents, and weights of their places."""

from __future__ import annotations

import torch
from comfy.sd import VAE
from torch import Tensor
from torch.nn import functional

from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.out_of_memory import CLOSE_OTHERS, memory_for
from ....perfusion_core.picture_fitting import buckets
from ....perfusion_core.training_pictures import PerPicture, TrainingPictures, empty_mask, per_picture


def vae_step(vae: VAE) -> int:
    """The pixels of a side that make one latent."""
    ratio = vae.downscale_ratio
    if isinstance(ratio, tuple):  # frames, rows, columns
        ratio = ratio[-1]
    return ratio if isinstance(ratio, int) else 8


def encoded_pictures(pictures: TrainingPictures, vae: VAE, mirrored: bool = False) -> PerPicture:
    """Latents [C, h, w] of the pictures, as the VAE gives them; [C, 1, h, w] of a VAE for videos.

    mirrored: whether the pictures are mirrored first.  Mirrored latents are something else than the latents of mirrored
    pictures, and worse (benchmarks/choices.md).  Raises PerfusionError where memory runs out.
    """
    found: dict[int, Tensor] = {}
    with memory_for("the VAE encoded the pictures", f"train on smaller or fewer pictures, or {CLOSE_OTHERS}"):
        for numbers in buckets(pictures.fits).values():
            shown = torch.stack([pictures.pictures[number] for number in numbers])
            latents = _encoded(vae, shown.flip(2) if mirrored else shown)
            found |= dict(zip(numbers, latents, strict=True))
    return per_picture([found[number] for number in range(len(pictures))])


def _encoded(vae: VAE, pictures: Tensor) -> Tensor:
    """Latents of pictures [P, H, W, 3]; a VAE for videos takes a batch for the frames of one, so each goes alone."""
    if getattr(vae, "latent_dim", 2) < 3:
        return vae.encode(pictures)
    return torch.cat([vae.encode(one[None]) for one in pictures])


def picture_weights(pictures: TrainingPictures, latents: PerPicture) -> list[Tensor | None]:
    """The mask of each picture as weights of the loss, [1, h, w] at the size of its latents [C, h, w], or None."""
    weights: list[Tensor | None] = []
    for number, (mask, latent) in enumerate(zip(pictures.masks, latents, strict=True), start=1):
        try:
            weights.append(None if mask is None else latent_masks(mask.clone(), 1, tuple(latent.shape[-2:]))[0])
        except PerfusionError:
            raise empty_mask([number]) from None
    return weights


def latent_masks(masks: Tensor, pictures: int, latent_size: tuple[int, ...]) -> Tensor:
    """Masks [P, H, W] (or one for all) as weights of the loss, [P, 1, h, w]: scaled to the latents and divided each by
    its own maximum.  Raises PerfusionError for another number of masks and for an empty mask."""
    if masks.dim() == 2:
        masks = masks[None]
    if len(masks) not in (1, pictures):
        raise PerfusionError(
            f"The masks input needs one mask for each of the {pictures} pictures or one for all, but got {len(masks)};"
            " connect as many masks as pictures."
        )
    masks = masks.expand(pictures, -1, -1)
    scaled = functional.interpolate(masks[:, None].float(), size=latent_size, mode="area")
    highest = scaled.amax(dim=(1, 2, 3), keepdim=True)
    if not (highest > 0).all():
        raise empty_mask([i + 1 for i, value in enumerate(highest.flatten().tolist()) if value <= 0])
    return scaled / highest
