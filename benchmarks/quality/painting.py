"""Prompts through the host's sampler in few large batches: latents in half precision, as the cache keeps them.

The latents are kept and not the pictures, so that a better recogniser can read old paintings again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.sample
import torch
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from safetensors.torch import load_file, save_file
from torch import Tensor

from .workbench import Workbench

LATENT = (4, 16, 16)


@torch.inference_mode()
def paint(bench: Workbench, model: Any, clip: Any, prompts: Sequence[str], seed: int = 0) -> Tensor:
    """Latents [prompts, 4, 16, 16], float16.  Every method starts from the same noises."""
    positive, nothing = encode(clip, prompts), encode(clip, [""])
    noises = torch.stack([noise(seed, index) for index in range(len(prompts))])
    parts = []
    for rows in torch.arange(len(prompts)).split(bench.batch):
        parts.append(
            comfy.sample.sample(
                model, noises[rows], bench.sampling_steps, bench.cfg, bench.sampler, "normal",
                _rows(positive, rows.tolist()), _rows(nothing, [0] * len(rows)), torch.zeros(len(rows), *LATENT),
                disable_pbar=True, seed=0,
            )
        )  # fmt: skip
    return torch.cat(parts).half().cpu()


def noise(seed: int, prompt: int) -> Tensor:
    """The noise of one picture, which depends on nothing else."""
    return torch.randn(LATENT, generator=torch.Generator().manual_seed(1000 * seed + prompt))


def encode(clip: Any, prompts: Sequence[str]) -> list:
    """The prompts as one conditioning batch, with the second encoding that the global key lock needs, if any."""
    encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0] for prompt in prompts]
    options = {}
    if any(CONDITIONING_KEY in extra for _, extra in encoded):
        # A prompt without a concept's word has none; its own encoding in that place changes nothing.
        options[CONDITIONING_KEY] = torch.cat([extra.get(CONDITIONING_KEY, encoding) for encoding, extra in encoded])
    return [[torch.cat([encoding for encoding, _ in encoded]), options]]


def _rows(conditioning: list, rows: list[int]) -> list:
    encoding, options = conditioning[0]
    return [[encoding[rows], {name: tensor[rows] for name, tensor in options.items()}]]


def save_latents(path: Path, latents: Tensor) -> None:
    """Write latents to a file of their own."""
    save_file({"latents": latents.contiguous()}, path)


def load_latents(path: Path) -> Tensor:
    """The latents in the file."""
    return load_file(path)["latents"]
