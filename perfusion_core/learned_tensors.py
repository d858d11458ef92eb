"""What a training has learned, in the units of its use.

The target input i is a moving average of the word's encoding, and lags behind it for as long as the word moves.  So the
word's own tokens have another similarity to i than 1, and one bias would open the gate differently for each concept.
i is scaled by that similarity, so that it is 1 and a bias means the same for every concept (benchmarks/choices.md).
Nothing but the gate changes: the part of an encoding along i, which is what the edit takes out, does not depend on the
length of i.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .concept import unit_energy
from .edit import similarity
from .encoding_offset import OFFSET


@dataclass(frozen=True)
class LearnedTensors:
    """A snapshot of what the training has learned; see `Concept` for the names."""

    target_input: Tensor
    inverse_target_input: Tensor
    superclass_encoding: Tensor
    word_vectors: dict[str, Tensor]
    value_targets: dict[str, Tensor]
    encoding_offset: Tensor | None = None


def learned_tensors(tensors: Mapping[str, Tensor], inverse: Tensor, word_encoding: Tensor | None) -> LearnedTensors:
    """Copies, float32 on the CPU, of a trainer's tensors.

    tensors: "target_input", "superclass_encoding", "word.KEY", "value.LAYER" and perhaps "encoding_offset".
    inverse: C^-1, [d, d].  word_encoding: the mean encoding of the word as it is now, [d], to which i is scaled; None
    leaves i as it is.
    """

    def copied(tensor: Tensor) -> Tensor:
        return tensor.detach().to("cpu", torch.float32, copy=True)

    def all_of(kind: str) -> dict[str, Tensor]:
        return {name.removeprefix(kind): copied(t) for name, t in tensors.items() if name.startswith(kind)}

    target_input = tensors["target_input"]
    inverse_target_input = inverse @ target_input  # of any length: `unit_energy` gives it its own
    if word_encoding is not None:
        own = similarity(word_encoding, target_input, inverse_target_input).item()
        # A word that has left its i altogether has no length to give it; the check of the effect speaks of it.
        if 0 < own < math.inf:
            target_input = own * target_input
    return LearnedTensors(
        copied(target_input),
        unit_energy(copied(target_input), copied(inverse_target_input)),
        copied(tensors["superclass_encoding"]),
        all_of("word."),
        all_of("value."),
        copied(tensors[OFFSET]) if OFFSET in tensors else None,
    )


def mean_encoding(encodings: Tensor, positions: Tensor) -> Tensor:
    """Mean encoding over all marked positions: [T, N, d], bool [T, N] -> [d], float32."""
    return encodings[positions].float().mean(dim=0)
