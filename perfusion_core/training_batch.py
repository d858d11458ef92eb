"""The samples of one forward pass of a training, and the mean of their errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
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
    noise: Tensor | None = None  # [B, ...] as the task draws it; None: not drawn yet

    def split(self, size: int) -> Iterator[Batch]:
        """The same samples in parts of at most `size`."""
        return (self._chosen(part) for part in torch.arange(len(self.pictures)).split(size))

    def by_bucket(self, bucket_of: Sequence[int]) -> Iterator[Batch]:
        """The same samples in parts whose pictures have one size.

        bucket_of: the number of each picture's bucket.  Where there is one bucket, or one in the batch, it stays whole.
        """
        found: dict[int, list[int]] = {}
        for sample, picture in enumerate(self.pictures.tolist()):
            found.setdefault(bucket_of[picture], []).append(sample)
        return (self._chosen(torch.tensor(samples)) for samples in found.values())

    def _chosen(self, samples: Tensor) -> Batch:
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return Batch(**{name: getattr(self, name)[samples] for name in names})


def masked_mean(errors: Tensor, masks: Tensor | None) -> Tensor:
    """Mean of errors [B, C, H, W], weighted by masks [B, 1, H, W] if there are any.

    Each picture counts the same however small its mask is: sum(mask * error) / sum(mask), per picture, then the mean
    (benchmarks/choices.md compares the plain mean of mask * error, in which big things count more).
    """
    if masks is None:
        return errors.mean()
    weighted = (errors * masks).sum(dim=(1, 2, 3)) / (masks.sum(dim=(1, 2, 3)) * errors.shape[1])
    return weighted.mean()
