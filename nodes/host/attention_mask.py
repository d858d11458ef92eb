"""Soft masks of the training pictures from the base model's own cross-attention to the superclass word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...perfusion_core.attention_mask import AttentionMaps, word_attention
from .attention_capture import captured_attention
from .denoising_task import HostDenoisingTask

TEMPLATE = "a photo of a {}"

# As shares of the schedule, from clean to noise.  On the demo model the masks get worse above the middle, where the
# thing is hidden in noise (table of benchmarks/attention_mask.py).
NOISE_LEVELS = (0.1, 0.3, 0.5)

SEED = 0  # of the noise, so that equal pictures get equal masks


def attention_masks(
    task: HostDenoisingTask,
    superclass_vectors: Mapping[str, Tensor],
    levels: Sequence[float] = NOISE_LEVELS,
    at_once: int = 4,
    layers: Sequence[str] | None = None,
) -> Tensor:
    """Soft masks [P, 1, h, w] of the task's pictures in 0..1, on the task's device; see `AttentionMaps.masks`.

    superclass_vectors: by embedding key, on the task's device.  levels: in 0..1.  at_once: pictures in a call of the
    model.  layers: names of those to use, None for all.  Raises PerfusionError where the attention tells nothing.
    """
    generator = torch.Generator().manual_seed(SEED)
    names = task.layers if layers is None else layers
    chosen = {name: task.layers[name] for name in names}
    maps = AttentionMaps(task.picture_count, tuple(task.latents.shape[-2:]), task.device)
    with torch.no_grad():
        encoding, positions = task.encode(superclass_vectors, [TEMPLATE])
        for level in levels:
            noise = torch.randn(task.latents.shape, generator=generator).to(task.device)
            for start in range(0, task.picture_count, at_once):
                part = slice(start, start + at_once)

                def add(_name: str, queries: Tensor, keys: Tensor, heads: int, part: slice = part) -> None:
                    maps.add(word_attention(queries, keys, heads, positions[0]), part)

                clean = task.latents[part]
                sigma = task.sigmas_at(torch.full((len(clean),), level))
                with captured_attention(chosen, add):
                    task.predict(task.noised(clean, noise[part], sigma), sigma, encoding.expand(len(clean), -1, -1))
    return maps.masks()
