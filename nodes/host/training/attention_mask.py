"""Soft masks of the training pictures from the base model's own cross-attention to the superclass word.

The host never has attention probabilities: its back ends are fused.  So queries and keys are taken where each
cross-attention layer projects them, for the length of one call of the model, and nothing stays behind.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import comfy.model_management
import torch
from torch import Tensor

from ....perfusion_core.attention_maps import AttentionMaps, word_attention
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.out_of_memory import is_out_of_memory
from ....perfusion_core.training_pictures import PerPicture, per_picture
from ..gate.cross_attention import CrossAttention
from .captured_attention import captured_attention
from .denoising_task import HostDenoisingTask

logger = logging.getLogger(__name__)

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
) -> PerPicture:
    """Soft masks [1, h, w] of the task's pictures in 0..1, on the task's device; see `AttentionMaps.masks`.

    superclass_vectors: by embedding key, on the task's device.  levels: in 0..1.  at_once: pictures in a call of the
    model, halved where memory runs out.  layers: names of those to use, None for all.  Raises PerfusionError where the
    attention tells nothing, and where memory runs out for one picture at a time.
    """
    names = task.layers if layers is None else layers
    chosen = {name: task.layers[name] for name in names}
    found: dict[int, Tensor] = {}
    for bucket in dict.fromkeys(task.bucket_of):
        numbers = [number for number, other in enumerate(task.bucket_of) if other == bucket]
        latents = torch.stack([task.latents[number] for number in numbers])
        masks = _masks_within_memory(task, latents, superclass_vectors, levels, at_once, chosen)
        found |= dict(zip(numbers, masks, strict=True))
    return per_picture([found[number] for number in range(task.picture_count)])


def _masks_within_memory(
    task: HostDenoisingTask,
    latents: Tensor,
    superclass_vectors: Mapping[str, Tensor],
    levels: Sequence[float],
    at_once: int,
    layers: Mapping[str, CrossAttention],
) -> Tensor:
    """Masks [P, 1, h, w] of pictures of one size, latents [P, C, h, w]; fewer at once where memory runs out."""
    at_once = max(1, min(at_once, len(latents)))
    while True:
        try:
            # From the start each time: maps are added up layer by layer, so a part of a failed pass would count twice.
            return _summed_maps(task, latents, superclass_vectors, levels, at_once, layers).masks()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if at_once == 1:
                raise PerfusionError(
                    "Memory ran out while the automatic mask was made from a single picture at a time, the least there"
                    " is; connect masks or turn automatic_mask off, train on smaller pictures, or close other programs"
                    " that use the device."
                ) from None
        # Here, not in the handler: while it lasts, the exception's frames hold the tensors of the failed pass.
        at_once = (at_once + 1) // 2
        comfy.model_management.soft_empty_cache()
        logger.warning("Memory ran out for the automatic mask; trying again with %d pictures at a time.", at_once)


def _summed_maps(
    task: HostDenoisingTask,
    latents: Tensor,
    superclass_vectors: Mapping[str, Tensor],
    levels: Sequence[float],
    at_once: int,
    layers: Mapping[str, CrossAttention],
) -> AttentionMaps:
    """The attention maps of all layers at all levels, in one pass over the pictures."""
    generator = torch.Generator().manual_seed(SEED)
    height, width = latents.shape[-2:]
    maps = AttentionMaps(len(latents), (height, width), task.device)
    with torch.no_grad():
        encoding, positions = task.encode(superclass_vectors, [TEMPLATE])
        for level in levels:
            noise = torch.randn(latents.shape, generator=generator).to(task.device)
            for start in range(0, len(latents), at_once):
                part = slice(start, start + at_once)

                def add(_name: str, queries: Tensor, keys: Tensor, heads: int, part: slice = part) -> None:
                    maps.add(word_attention(queries, keys, heads, positions[0]), part)

                clean = latents[part]
                sigma = task.sigmas_at(torch.full((len(clean),), level))
                with captured_attention(layers, add):
                    task.predict(task.noised(clean, noise[part], sigma), sigma, encoding.expand(len(clean), -1, -1))
    return maps
