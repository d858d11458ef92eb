"""Samples for the trainer's report, made as the host's own KSampler makes pictures."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.sample
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor


def sample_pictures(
    model: ModelPatcher,
    clip: CLIP,
    vae: VAE,
    prompts: Sequence[str],
    latent_shape: tuple[int, ...],
    seed: int,
    steps: int = 20,
    cfg: float = 3.0,
) -> Tensor:
    """One picture for each prompt, [P, H, W, 3] in 0..1: Euler, normal schedule, empty negative prompt, seed + index.

    latent_shape: [C, h, w] of one latent, or [C, 1, h, w].
    """
    with torch.inference_mode():
        negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        pictures = []
        for index, prompt in enumerate(prompts):
            positive = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
            empty = torch.zeros(1, *latent_shape)
            noise = comfy.sample.prepare_noise(empty, seed + index)
            latent = comfy.sample.sample(
                model,
                noise,
                steps,
                cfg,
                "euler",
                "normal",
                positive,
                negative,
                empty,
                disable_pbar=True,
                seed=seed + index,
            )
            decoded = vae.decode(latent)
            pictures.append(decoded.flatten(0, -4))  # of a VAE for videos, [1, 1, H, W, 3]
        return torch.cat(pictures)
