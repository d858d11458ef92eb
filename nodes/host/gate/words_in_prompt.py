"""Where the words of concepts stand in an encoding as it arrives, for the gate that is measured against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....perfusion_core.concept import ConceptStack
from ....perfusion_core.edit import ConceptEdit, similarity, working_dtype
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
        found.append((own, similarity(marked.words.to(zeros), edit.target_input, edit.inverse_target_input)[at]))
    if all(own is nowhere for own, _ in found):
        return None
    return WordsInPrompt(*(torch.stack(columns, dim=-1) for columns in zip(*found, strict=True)))
