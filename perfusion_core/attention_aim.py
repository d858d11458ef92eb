"""A loss that draws the word's attention into the mask of the thing, beside the denoising error.

The masked denoising error does not see what the word does to the rest of the picture, so its attention may spread
there.  For each image position a cross-attention layer gives the word a share A of its attention; the loss is the part
of all this attention that lies outside of the mask M,

    1 - sum(M A) / sum(A)

per picture and layer, and then the mean.  It does not ask for more or less attention, only for where it is.  After the
token alignment of TARA (arXiv 2508.08812), which aligns the maps of a LoRA's rare token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from .attention_maps import map_size


class AttentionAim(NamedTuple):
    """What is asked of the attention: positions of the word's tokens by sample, bool [B, N], and the loss' weight."""

    positions: Tensor
    weight: float


def share_outside(queries: Tensor, keys: Tensor, heads: int, positions: Tensor, masks: Tensor) -> Tensor | None:
    """Return the mean part of the word's attention that lies outside of the masks, a scalar in 0..1; None for a layer
    whose positions are not those of the picture.

    queries [B, L, heads * D] and keys [B, N, heads * D], as a cross-attention layer compares them.  positions: bool
    [B, N].  masks: [B, 1, h, w] in 0..1.  Differentiable in queries and keys.
    """
    size = map_size(queries.shape[1], (masks.shape[-2], masks.shape[-1]))
    if size is None:
        return None
    split = [t.float().unflatten(-1, (heads, -1)).transpose(1, 2) for t in (queries, keys)]  # [B, heads, L or N, D]
    weights = (split[0] @ split[1].transpose(-1, -2) * split[0].shape[-1] ** -0.5).softmax(dim=-1)
    attention = (weights * positions[:, None, None]).sum(dim=-1).mean(dim=1)  # [B, L]
    inside = adaptive_avg_pool2d(masks.float(), size).flatten(1)
    total = attention.sum(dim=1).clamp(min=torch.finfo(attention.dtype).tiny)
    return (1 - (inside * attention).sum(dim=1) / total).mean()
