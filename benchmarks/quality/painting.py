"""Prompts through the host's sampler in few large batches.

The latents are kept and not the pictures, so that a better recogniser can read old paintings again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.sample
import torch
from perfusion_pack.nodes.host.text import known_prompts, own_tokens, superclass_encoding
from safetensors.torch import load_file, save_file
from torch import Tensor

from .workbench import Workbench

LATENT = (4, 16, 16)


@torch.inference_mode()
def paint(bench: Workbench, model: Any, clip: Any, prompts: Sequence[str], seed: int = 0) -> Tensor:
    """Latents [prompts, 4, 16, 16].  Every method starts from the same noises."""
    parts = []
    for start in range(0, len(prompts), bench.batch):
        # Encoded by batches: a memory of prompts does not hold all of many.
        texts = prompts[start : start + bench.batch]
        noises = torch.stack([noise(seed, start + index) for index in range(len(texts))])
        parts.append(
            comfy.sample.sample(
                model, noises, bench.sampling_steps, bench.cfg, bench.sampler, "normal",
                encode(clip, texts), encode(clip, [""] * len(texts)), torch.zeros(len(texts), *LATENT),
                disable_pbar=True, seed=0,
            )
        )  # fmt: skip
    return torch.cat(parts).float().cpu()


def noise(seed: int, prompt: int) -> Tensor:
    """The noise of one picture, which depends on nothing else."""
    return torch.randn(LATENT, generator=torch.Generator().manual_seed(1000 * seed + prompt))


def encode(clip: Any, prompts: Sequence[str]) -> list:
    """The prompts as one conditioning batch, with all that the pack marks on them: the second encoding that the global
    key lock needs, whose tokens are whose, and what prompts are known."""
    distinct = dict.fromkeys(prompts)
    of = {prompt: clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0] for prompt in distinct}
    encoded = [of[prompt] for prompt in prompts]
    options: dict[str, Any] = {}
    locked = superclass_encoding.CONDITIONING_KEY
    if any(locked in extra for _, extra in encoded):
        # A prompt without a concept's word has none; its own encoding in that place changes nothing.
        options[locked] = torch.cat([extra.get(locked, encoding) for encoding, extra in encoded])
    marks = own_tokens.marks_of([{**extra, "cross_attn": encoding} for encoding, extra in of.values()])
    if marks:
        options[own_tokens.CONDITIONING_KEY] = marks
    memory = encoded[0][1].get(known_prompts.KEY)  # one for all clones of a CLIP
    if memory is not None:
        options[known_prompts.KEY] = memory
    return [[torch.cat([encoding for encoding, _ in encoded]), options]]


def save_latents(path: Path, latents: Tensor, dtype: torch.dtype = torch.float16) -> None:
    """Write latents to a file of their own."""
    save_file({"latents": latents.to(dtype).contiguous()}, path)


def load_latents(path: Path) -> Tensor:
    """The latents in the file."""
    return load_file(path)["latents"]
