"""The pictures and masks of a training at the size that the model sees: latents, and weights of their places."""

from __future__ import annotations

from comfy.sd import VAE
from torch import Tensor
from torch.nn import functional

from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.out_of_memory import CLOSE_OTHERS, memory_for


def encoded_pictures(images: Tensor, vae: VAE, mirrored: bool = False) -> Tensor:
    """Latents [P, C, h, w] of pictures [P, H, W, 3] in 0..1, as the VAE gives them.

    mirrored: whether the pictures are mirrored first.  Mirrored latents are something else than the latents of mirrored
    pictures, and worse (benchmarks/choices.md).

    Raises PerfusionError for pictures that are too small, and where memory runs out.
    """
    with memory_for("the VAE encoded the pictures", f"train on smaller or fewer pictures, or {CLOSE_OTHERS}"):
        fitting = _fitting(images, vae)[:, :, :, :3]
        return vae.encode(fitting.flip(2) if mirrored else fitting)


def _fitting(images: Tensor, vae: VAE) -> Tensor:
    """The pictures cut, around their middle, to sides that the VAE can encode."""
    step = vae.downscale_ratio if isinstance(vae.downscale_ratio, int) else 8
    height, width = (side // step * step for side in images.shape[1:3])
    if min(height, width) < 8 * step:
        raise PerfusionError(
            f"The pictures must have at least {8 * step} pixels on each side, but they have {images.shape[2]} x"
            f" {images.shape[1]}; use larger ones."
        )
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width].clone()


def latent_masks(masks: Tensor, pictures: int, latent_size: tuple[int, ...]) -> Tensor:
    """Masks [P, H, W] (or one for all) as weights of the loss, [P, 1, h, w]: scaled to the latents and divided each by
    its own maximum.  Raises PerfusionError for another number of masks and for an empty mask."""
    if masks.dim() == 2:
        masks = masks[None]
    if len(masks) not in (1, pictures):
        raise PerfusionError(
            f"The mask input needs one mask for each of the {pictures} pictures or one for all, but got {len(masks)};"
            " connect as many masks as pictures."
        )
    masks = masks.expand(pictures, -1, -1)
    scaled = functional.interpolate(masks[:, None].float(), size=latent_size, mode="area")
    highest = scaled.amax(dim=(1, 2, 3), keepdim=True)
    if not (highest > 0).all():
        empty = ", ".join(str(i + 1) for i, value in enumerate(highest.flatten().tolist()) if value <= 0)
        raise PerfusionError(
            f"The mask of picture {empty} is empty where it should mark the thing; paint it or leave the mask input"
            " open."
        )
    return scaled / highest
