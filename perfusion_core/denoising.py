"""What the training loop asks of the model under training, and nothing of how a host runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .attention_aim import AttentionAim
from .edit import EditedEncoding
from .training_batch import Batch


class DenoisingTask(Protocol):
    """The model under training, as the loop sees it.

    bucket_of: the number of each picture's bucket; the pictures of a batch have one size, so they are of one bucket.
    gradient_checkpointing: whether it takes less memory for one more forward pass; may be set between two steps.
    """

    picture_count: int
    bucket_of: Sequence[int]
    gradient_checkpointing: bool

    def encode(self, word_vectors: Mapping[str, Tensor], templates: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encodings [T, N, d] of the templates with the word in them, differentiable in its vectors; and a boolean
        mask [T, N] of the positions at which the word's vectors stand."""
        ...

    def value_outputs(self, encoding: Tensor) -> dict[str, Tensor]:
        """W_V e for every cross-attention layer: encoding [d] -> {layer name: [d_out]}, float32."""
        ...

    def with_noise(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with noise, and noise levels where it has none, from the generator, as often as it may be split."""
        ...

    def loss(
        self,
        batch: Batch,
        edited: EditedEncoding,
        value_targets: Mapping[str, Tensor],
        generator: torch.Generator,
        aim: AttentionAim | None = None,
    ) -> Tensor:
        """Denoising error, a scalar, of the batch under the edit; noise that it has not comes from the generator.  aim:
        what is asked of the attention besides.

        The batch's templates, each once and in the order of their numbers, are those of the last `encode`."""
        ...

    def lower_gradient_scale(self) -> bool:
        """Halve the factor by which gradients are scaled up inside the model; False where they are not any more."""
        ...
