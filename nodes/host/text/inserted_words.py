"""Words that a tokenizer does not know, between what it makes of the text around them.

Any tokenizer will do: BPE of whole words (CLIP), of bytes (Qwen), SentencePiece (T5, UMT5).  What stands around a word
becomes the tokens that it would be around an ordinary word: each piece of text behind one is read behind an ordinary
word, whose tokens are then left out, since many tokenizers read the start of a text otherwise than its middle.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

# A word that is a token of its own in any vocabulary, and stays one whatever sign follows it.
_ORDINARY = "dog"

# Signs that no text has a meaning for (Unicode's private use area); one that the prompt has is not taken.
_PRIVATE = range(0xE000, 0xF900)


def unused_signs(text: str, count: int) -> list[str]:
    """Return so many signs that are not in the text, to mark places in it."""
    return list(islice((sign for sign in map(chr, _PRIVATE) if sign not in text), count))


def inserting(tokenizer: Any, insertions: Mapping[str, Sequence[Any]]) -> Any:
    """Return a copy of an encoder's tokenizer, of the host's kind, to which each of the signs is these entries.

    A blank on either side belongs to a sign.  The tokenizer itself is returned where there is none.
    """
    if not insertions:
        return tokenizer
    reader = copy.copy(tokenizer)
    reader.tokenizer = _Inserting(tokenizer, insertions)
    return reader


def tokens_in_a_text(tokenizer: Any, text: str) -> list[Any]:
    """Return what an encoder's tokenizer makes of a text that stands behind other text: "teddy" of "a teddy".

    Empty where it makes nothing of it.  Entries are numbers, or vectors where the text names an embedding.
    """

    def entries(of: str) -> list[Any]:
        # Word id 0 is the host's mark of start, end and padding.
        batches = tokenizer.tokenize_with_weights(of, return_word_ids=True)
        return [token for batch in batches for token, _, word_id in batch if word_id != 0]

    before, both = entries(_ORDINARY), entries(f"{_ORDINARY} {text}")
    return both[len(before) :] if both[: len(before)] == before else entries(text)


class _Inserting:
    """The tokenizer inside the host's, called with text that has signs in it; everything else is its own."""

    def __init__(self, tokenizer: Any, insertions: Mapping[str, Sequence[Any]]) -> None:
        self._inner, self._insertions = tokenizer.tokenizer, insertions
        self._has_end = bool(tokenizer.tokenizer_adds_end_token)

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # asked for by copies, before there is anything inside
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __call__(self, text: str, *args: Any, **kwargs: Any) -> Any:
        pieces = re.split(f" ?([{''.join(self._insertions)}]) ?", text)
        if len(pieces) == 1:
            return self._inner(text, *args, **kwargs)
        empty = self._ids("")
        at = len(empty) - self._has_end
        return {"input_ids": [*empty[:at], *self._tokens(pieces), *empty[at:]]}

    def _tokens(self, pieces: Sequence[str]) -> Iterator[Any]:
        """pieces: text, sign, text, ..., text."""
        last = len(pieces) - 1
        for index, piece in enumerate(pieces):
            if index % 2:
                yield from self._insertions[piece]
                continue
            # The blank before a word is the word's.
            text = piece if index == last else piece.removesuffix(" ")
            yield from self._between(text) if index == 0 else self._behind_a_word(text)

    def _behind_a_word(self, text: str) -> list[int]:
        if text[:1].isalnum():
            text = f" {text}"
        before, both = self._between(_ORDINARY), self._between(_ORDINARY + text)
        return both[len(before) :] if both[: len(before)] == before else self._between(text)

    def _between(self, text: str) -> list[int]:
        """The tokens of a text without those of start and end."""
        if not text:
            return []
        ids, empty = self._ids(text), self._ids("")
        return ids[len(empty) - self._has_end : len(ids) - self._has_end]

    def _ids(self, text: str) -> list[int]:
        return list(self._inner(text)["input_ids"])
