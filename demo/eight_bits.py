"""Weights in eight bits: whole numbers from -127 to 127, and a scale for each output channel.

A matrix or a kernel W of m output channels is stored under its name as round(W / s), with the scales s [m] beside it,
s being the largest of the channel's numbers / 127.  Norms, biases and other small tensors, the first and last
convolutions among them, stay in half precision: they weigh little and errors in them reach the whole picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

SCALE = ":scale"  # behind the name of the weight that it belongs to
LARGEST = 127
FEW = 10_000  # numbers; a tensor of fewer stays in half precision


def reduced(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as they are stored: int8 with float16 scales, or float16."""
    stored: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() < 2 or weight.numel() < FEW:
            stored[name] = weight.half()
            continue
        rows = weight.float().flatten(1)
        # No scale is 0, which a channel of nothing but zeros would have.
        scales = (rows.abs().amax(dim=1) / LARGEST).half().clamp(min=torch.finfo(torch.float16).tiny)
        whole = (rows / scales.float()[:, None]).round().clamp(-LARGEST, LARGEST)
        stored[name], stored[name + SCALE] = whole.to(torch.int8).view_as(weight), scales
    return stored


def expanded(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32 under their names and in their shapes, of `reduced` ones or of any without scales."""
    weights: dict[str, Tensor] = {}
    for name, weight in stored.items():
        if name.endswith(SCALE):
            continue
        scales = stored.get(name + SCALE)
        weights[name] = weight.float()
        if scales is not None:
            weights[name] *= scales.float().view(-1, *[1] * (weight.dim() - 1))
    return weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a safetensors file in float32, expanded where they are stored in eight bits.

    Raises FileNotFoundError where there is no such file."""
    return expanded(load_file(path))
