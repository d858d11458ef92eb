"""The edit where it is known which prompt has which concept's word: in a prompt without it a concept takes no part.

What is left alone is left alone bit for bit, whatever bias is in use and however many concepts are loaded; and a prompt
is edited as if only the concepts of its own words were there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .edit import ConceptEdit, EditedEncoding, edit_encoding
from .word_in_prompt import WordsInPrompt


def edit_present(
    encoding: Tensor, edits: Sequence[ConceptEdit], words: WordsInPrompt | None, present: Tensor
) -> EditedEncoding:
    """`edit.edit_encoding` with each prompt edited by some of the concepts.

    encoding: [..., N, d].  present: whether a prompt may have the word of a concept, bool [..., J].  Where it does not,
    its similarity is that by itself, and its gate is 0.  Locks are one number for all prompts.
    """
    wanted = [tuple(row) for row in present.flatten(0, -2).tolist()] if present.dim() > 1 else [tuple(present.tolist())]
    if all(all(row) for row in wanted):
        return edit_encoding(encoding, edits, words)
    shape = encoding.shape
    rows = encoding.reshape(len(wanted), *shape[-2:])
    whole = edit_encoding(rows, [_absent(edit) for edit in edits])
    edited = {name: getattr(whole, name) for name in vars(whole)}
    edited["gates"] = torch.zeros_like(whole.gates)
    for pattern in dict.fromkeys(row for row in wanted if any(row)):
        at = torch.tensor([index for index, row in enumerate(wanted) if row == pattern], device=rows.device)
        columns = torch.tensor([j for j, here in enumerate(pattern) if here], device=rows.device)
        part = edit_encoding(rows[at], [edits[j] for j in columns.tolist()], _some(words, at, columns, shape))
        for name in ("key_context", "value_context"):
            edited[name] = edited[name].index_copy(0, at, getattr(part, name))
        for name in ("value_gates", "similarities", "gates"):
            of_rows = edited[name][at].index_copy(-1, columns, getattr(part, name))
            edited[name] = edited[name].index_copy(0, at, of_rows)
    return EditedEncoding(**{name: tensor.reshape(*shape[:-1], tensor.shape[-1]) for name, tensor in edited.items()})


def _absent(edit: ConceptEdit) -> ConceptEdit:
    return ConceptEdit(**{**vars(edit), "strength": 0.0})


def _some(words: WordsInPrompt | None, rows: Tensor, concepts: Tensor, shape: Sequence[int]) -> WordsInPrompt | None:
    """Where words stand in some of the prompts, of some of the concepts."""
    if words is None:
        return None
    own, similarities = (t.reshape(-1, shape[-2], t.shape[-1])[rows] for t in (words.own, words.similarities))
    return WordsInPrompt(own, similarities).of(concepts)
