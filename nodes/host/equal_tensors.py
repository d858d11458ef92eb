"""Whether two tensors are one and the same to whoever computes with them."""

from __future__ import annotations

import torch
from torch import Tensor


def equal_tensors(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors are the same in device, dtype, shape and every number; None is the same as None alone."""
    if one is None or other is None:
        return one is other
    if one is other:
        return True
    return (
        one.device == other.device and one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    )
