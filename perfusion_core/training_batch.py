"""The samples of one forward pass of a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What one forward pass is made of: a picture, its mirroring, and a template for each of B samples."""

    pictures: Tensor  # indices, int64 [B]
    mirrored: Tensor  # bool [B]
    templates: Tensor  # indices into a list of templates, int64 [B]
    levels: Tensor | None = None  # noise levels as shares of the schedule, 0..1, [B]; None draws them

    def split(self, size: int) -> Iterator[Batch]:
        """The same samples in parts of at most `size`."""
        parts = [self.pictures.split(size), self.mirrored.split(size), self.templates.split(size)]
        if self.levels is not None:
            parts.append(self.levels.split(size))
        return (Batch(*part) for part in zip(*parts, strict=True))
