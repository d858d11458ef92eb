"""A concept's word of several vectors stays whole where a long prompt is cut into chunks.

The host cuts a prompt's text wherever a chunk is full, and would cut the word too, whose gate then opens for its first
half alone.  The vectors of embedding files it keeps in one chunk, where they are fewer than its longest word; so words
of several vectors are handed to it as embeddings that it need not look for on disk.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..old_hosts import embedding_lookup

_LOOKUP = "_try_get_embedding"

# Where the host has no folder of embeddings, "embedding:" is ordinary text to it and stays that.
_OWN_IDENTIFIER = "perfusion_word:"


class _Embedding:
    """What the host asks of an embedding: its shape, and its rows, [width] each, with the marks that they carry."""

    def __init__(self, rows: Sequence[Tensor]) -> None:
        self._rows = rows
        self.shape = (len(rows), len(rows[0]))

    def __getitem__(self, index: int) -> Tensor:
        return self._rows[index]


def keeping_together(tokenizer: Any, words: Mapping[str, Sequence[Tensor]]) -> Any:
    """Return a copy of an encoder's tokenizer to which `embedding_identifier` and a word are an embedding.

    words: their vectors, [width] each.  The tokenizer itself is returned where there is none, where it is not of the
    host's own kind, and where it cuts nothing into chunks.
    """
    if not words or not hasattr(type(tokenizer), _LOOKUP) or not tokenizer.pad_to_max_length:
        return tokenizer
    reader = copy.copy(tokenizer)
    if reader.embedding_directory is None:
        reader.embedding_directory, reader.embedding_identifier = [], _OWN_IDENTIFIER
    embeddings = {word: _Embedding(rows) for word, rows in words.items()}
    reader._try_get_embedding = embedding_lookup(getattr(tokenizer, _LOOKUP), embeddings)
    return reader
