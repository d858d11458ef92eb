"""The samples of one forward pass of a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What one forward pass is made of: a picture, its mirroring, and a template for each of B samples."""

    pictures: Tensor  # indices, int64 [B]
    mirrored: Tensor  # bool [B]
    templates: Tensor  # indices into a list of templates, int64 [B]
    levels: Tensor | None = None  # noise levels as shares of the schedule, 0..1, [B]; None draws them
    noise_alone: Tensor | None = None  # bool [B]: the latent is noise without a trace of the picture; None: nowhere
    locks: Tensor | None = None  # of the keys, float [B]; None: that of the form everywhere

    def split(self, size: int) -> Iterator[Batch]:
        """The same samples in parts of at most `size`."""
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        parts = zip(*(getattr(self, name).split(size) for name in names), strict=True)
        return (Batch(**dict(zip(names, part, strict=True))) for part in parts)
