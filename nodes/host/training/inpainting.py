"""What an inpainting model sees beside the noisy latent: where it has to paint, and the picture without that place.

As the host's InpaintModelConditioning node makes them.  Without a mask the host shows such a model a place as large as
the picture, and so does a training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch.nn import functional

from ....perfusion_core.training_pictures import PerPicture, TrainingPictures, per_picture
from .latents import encoded_pictures

GREY = 0.5  # what the host puts in the place of what is cut out


@dataclass(frozen=True)
class Holes:
    """By picture, the place that is painted, [1, h, w] of 0 and 1, and the latent [C, h, w] of the picture with grey in
    it, as the VAE gives it.  mirrored_latents: of the mirrored pictures, for batches that have some."""

    masks: PerPicture
    latents: PerPicture
    mirrored_latents: PerPicture | None


def paints_into_pictures(model: ModelPatcher) -> bool:
    """Whether the model is an inpainting model, which asks for a mask and the picture without what it hides."""
    return "masked_image" in getattr(model.model, "concat_keys", ())


def cut_out(pictures: TrainingPictures, vae: VAE, weights: PerPicture, mirrored: bool) -> Holes:
    """Holes where the weights of the loss, [1, h, w] by picture in 0..1 at the latents' size, are a half or more.

    mirrored: whether mirrored pictures are needed too."""
    masks = [(weight >= 0.5).float() for weight in weights]
    shown = []
    for picture, mask in zip(pictures.pictures, masks, strict=True):
        hole = functional.interpolate(mask[None].to(picture), size=picture.shape[:2], mode="nearest")[0, 0, ..., None]
        shown.append(torch.where(hole > 0, torch.full_like(picture, GREY), picture))
    without = replace(pictures, pictures=tuple(shown))
    with torch.inference_mode():  # as the host's nodes run, also where a training has begun
        turned = encoded_pictures(without, vae, mirrored=True) if mirrored else None
        return Holes(per_picture(masks), encoded_pictures(without, vae), turned)
