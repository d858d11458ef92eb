"""Where the words of concepts stand in an encoding as it arrives: for the gate, which is measured against them, and for
the offsets of their encodings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....perfusion_core.concept import ConceptStack
from ....perfusion_core.edit import ConceptEdit, similarity, working_dtype
from ....perfusion_core.encoding_offset import offset_at
from ....perfusion_core.word_in_prompt import WordsInPrompt
from ..text.own_tokens import Marks, find_tokens


def words_in_prompt(
    encoding: Tensor, stack: ConceptStack, edits: Sequence[ConceptEdit], marks: Marks
) -> WordsInPrompt | None:
    """Return the places of the words of these concepts in an encoding, [..., N, d]; None where no mark is of them.

    edits: of the stack, with their tensors on the encoding's device.  marks: of the conditioning that it came from.
    """
    nowhere = encoding.new_zeros(encoding.shape[:-1], dtype=torch.bool)
    zeros = encoding.new_zeros(encoding.shape[:-1], dtype=working_dtype(encoding))
    found: list[tuple[Tensor, Tensor]] = []
    for gated, edit in zip(stack, edits, strict=True):
        marked = marks.get(gated.concept.word_hash)
        if marked is None or marked.tokens.shape[-1] != encoding.shape[-1]:
            found.append((nowhere, zeros))
            continue
        at, own = find_tokens(encoding, marked.tokens)
        words = marked.words.to(zeros)
        if (offset := gated.concept.encoding_offset) is not None:
            words = words + gated.strength * offset.mean(dim=0).to(zeros)
        found.append((own, similarity(words, edit.target_input, edit.inverse_target_input)[at]))
    if all(own is nowhere for own, _ in found):
        return None
    return WordsInPrompt(*(torch.stack(columns, dim=-1) for columns in zip(*found, strict=True)))


def with_offsets(encoding: Tensor, stack: ConceptStack, marks: Marks) -> Tensor:
    """Return an encoding, [..., N, d], with what these concepts add to that of their words in it; itself where none
    adds anything.  See `encoding_offset`.

    marks: of the conditioning that it came from.  A word that no mark knows, as in a mean of two prompts, stays as it
    is.
    """
    spoken = encoding
    for gated in stack:
        offset, marked = gated.concept.encoding_offset, marks.get(gated.concept.word_hash)
        if offset is None or marked is None or marked.tokens.shape[-1] != encoding.shape[-1]:
            continue
        at, own = find_tokens(encoding, marked.tokens)
        rows = gated.strength * marked.weights.cpu()[:, None] * offset_at(offset, marked.places.cpu())
        moved = encoding.to(working_dtype(encoding)) + rows.to(encoding.device)[at]
        spoken = torch.where(own[..., None], moved.to(encoding.dtype), spoken)
    return spoken
