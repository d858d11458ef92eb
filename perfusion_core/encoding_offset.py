"""A second learned vector of a word, behind the text encoder and behind whatever a model makes of its text.

The word's vectors enter the encoder, and reach the layers as far as it lets them: in Anima through two networks.  The
offset is added to what comes out, before similarity, gate, keys and values; to all of them it is part of the word's
encoding.  With the offset o of the word's k-th position, the weight a of its token in the prompt and the strength w:

    e <- e + w a o_k        at the word's own positions, and nowhere else

Weights act on encodings, so that the weighted word is the word with its offset, weighted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import PerfusionError

OFFSET = "encoding_offset"  # the tensor's name, in states of trainings and in files


def with_offset(encodings: Tensor, positions: Tensor, offset: Tensor | None) -> Tensor:
    """Return the encodings with the offset at a word of weight 1; themselves where there is none.

    encodings: [T, N, d].  positions: of the word, which may stand several times in a prompt, bool [T, N].
    offset: [p, d].  Differentiable in encodings and offset; the encodings' dtype is kept.
    """
    if offset is None:
        return encodings
    places = (positions.long().cumsum(dim=-1) - 1).clamp(min=0)
    added = offset_at(offset, places).to(encodings.dtype)
    return torch.where(positions[..., None], encodings + added, encodings)


def offset_at(offset: Tensor, places: Tensor) -> Tensor:
    """The offset of a word's k-th positions, counted through all of its occurrences: int64 [...] -> [..., d]."""
    return offset[places % len(offset)]


def check_offset_rate(offset: float | None, word: float) -> None:
    """Raise PerfusionError for a training of an offset in which the word's vectors stand still.

    offset, word: rates of both, in any unit.  The encoder would make the same of both words, so that no mark could tell
    the word from its superclass, nor from another such word.
    """
    if offset and not word:
        raise PerfusionError(
            "The training setting relative_offset_rate needs a word whose vectors differ from its superclass', by which"
            " prompts tell the two apart, but the word's rate is 0; set relative_word_rate to 0.0001 or more."
        )
