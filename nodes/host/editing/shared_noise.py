"""The same noise for a source and its edits, also where a sampler draws more of it.

Samplers draw with torch.randn and torch.randn_like, and most cannot be given the noise. While one runs, a draw of the
latents' shape is made for the sources alone and repeated, so that a source gets the noise that it gets without edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode_temporarily


def shared(noise: Tensor, rows: int) -> Tensor:
    """Noise, [P * rows, ...], in which the rows of a picture have that of the first."""
    return noise[::rows].repeat_interleave(rows, 0)


class SharedNoise(TorchFunctionMode):
    """Inside the with block draws of this shape are shared; shape: of the latents, [P * rows, C, H, W]."""

    def __init__(self, shape: Sequence[int], rows: int) -> None:
        super().__init__()
        self.shape, self.rows = tuple(shape), rows

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.randn_like and tuple(args[0].shape) == self.shape:
            return function(args[0][:: self.rows], *args[1:], **kwargs).repeat_interleave(self.rows, 0)
        if function is torch.randn:
            size = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
            if tuple(size) == self.shape:
                few = (self.shape[0] // self.rows, *self.shape[1:])
                kwargs = {key: value for key, value in kwargs.items() if key != "size"}
                return function(few, **kwargs).repeat_interleave(self.rows, 0)
        return function(*args, **kwargs)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the model alone, which draws nothing, and which torch.compile would compile anew for each mode."""
        if _get_current_function_mode() is not self:  # somebody else's is above it
            yield
            return
        with _pop_mode_temporarily():
            yield
