"""What the files of all the peers say of a concept, and the checks of their parts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import PerfusionError


@dataclass(frozen=True, eq=False)
class PeerConcept:
    """A concept as another program has it; the names are those of `Concept`.

    key_targets: o_K by layer, [d_out], where ours has e_super.  superclass: None where the file does not say.
    notes: sentences for the user.
    """

    program: str
    target_input: Tensor
    inverse_target_input: Tensor
    key_targets: Mapping[str, Tensor]
    value_targets: Mapping[str, Tensor]
    word_vectors: Tensor
    superclass: str | None
    statistics_hash: str
    training: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)


def damaged(path: str | os.PathLike[str], program: str, problem: str) -> PerfusionError:
    """Return the error for a file that is nearly one of the program's."""
    return PerfusionError(f"{path} looks like a concept of {program}, but {problem}; get the file again.")


def checked_tensor(value: Any, shape: tuple[int | None, ...], what: str, path: Any, program: str) -> Tensor:
    """Return the value as float32 [shape], where None stands for any size above 0.

    Raises PerfusionError for a value that is no tensor, has another shape, or holds infinite numbers.
    """
    wanted = "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_complex():
        raise damaged(path, program, f"{what} is {type(value).__name__} instead of numbers {wanted}")
    fits = value.dim() == len(shape) and all(n > 0 and s in (None, n) for n, s in zip(value.shape, shape, strict=True))
    if not fits:
        raise damaged(path, program, f"{what} has the shape {list(value.shape)[:8]} instead of {wanted}")
    numbers = value.detach().float().contiguous()
    if not torch.isfinite(numbers).all():
        raise damaged(path, program, f"{what} holds infinite numbers or such as are none")
    return numbers


def hash_of_statistics(inverse: Tensor) -> str:
    """Return 16 hexadecimal digits that concepts with the same C^-1 share."""
    return hashlib.sha256(b"imported " + inverse.numpy().tobytes()).hexdigest()[:16]
