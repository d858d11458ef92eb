"""The host's text encoders add residuals in place, over tensors that layer normalisation keeps for backward.

"One of the variables needed for gradient computation has been modified by an inplace operation": while the block is
open, every layer normalisation works on a copy of its input.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_NORMALISATIONS = ("layer_norm1", "layer_norm2", "layer_norm")


@contextmanager
def differentiable_text_encoder(encoder: nn.Module) -> Iterator[None]:
    """Let gradients pass through the text encoder while the block is open; nothing stays behind."""

    def copy_input(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0].clone(), *inputs[1:])

    handles = [
        module.register_forward_pre_hook(copy_input)
        for name, module in encoder.named_modules()
        if name.rpartition(".")[2] in _NORMALISATIONS
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
