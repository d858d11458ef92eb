"""The words of a prompt as people wrote them, and where each of them lies in its encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from comfy.sd import CLIP

from .encoders import WORD, list_name, text_encoders, tokenizers_alone

_END_OF_WORD = "</w>"  # of CLIP's pieces
_STARTS_OF_WORD = ("\u2581", "\u0120")  # of those of T5 and of Qwen, which mark no end


class PromptWord(NamedTuple):
    """One word of a prompt.

    text: as it was written, in lower case; a concept's word in its brackets.  positions: of its tokens in the encoding.
    """

    text: str
    positions: tuple[int, ...]


def words_of_prompt(clip: CLIP, tokens: Mapping[str, Any]) -> list[PromptWord]:
    """The words of what `clip.tokenize` returned, in their order.

    Start, end and padding are no words.  With two encoders (SDXL) the words are those of the first list.
    """
    return words_of_tokens(first_tokenizer(clip), tokens)


def words_at_layers(clip: CLIP, tokens: Mapping[str, Any]) -> list[PromptWord]:
    """The same in what a model makes of the encoding: at the places of a tokenizer without an encoder, if there is one
    (Anima)."""
    for attribute, tokenizer in tokenizers_alone(clip).items():
        return words_of_tokens(tokenizer, {attribute: tokens[list_name(attribute)]})
    return words_of_prompt(clip, tokens)


def first_tokenizer(clip: CLIP) -> Any:
    """The tokenizer of one of the CLIP's encoders; all of a family know the same words."""
    return next(iter(text_encoders(clip).values())).tokenizer


def words_of_tokens(tokenizer: Any, tokens: Mapping[str, Any]) -> list[PromptWord]:
    """See `words_of_prompt`."""
    words: list[PromptWord] = []
    pieces: list[tuple[str, int]] = []  # of the word that has begun
    vectors: set[int] = set()  # of the concept's word that was met last

    def finish() -> None:
        if pieces:
            text = _text_of([piece for piece, _ in pieces], tokenizer)
            words.append(PromptWord(text, tuple(position for _, position in pieces)))
            pieces.clear()

    for token, position in _content(tokenizer, next(iter(tokens.values()))):
        if isinstance(token, int) and not hasattr(token, WORD):  # a number in a concept's place is that concept's
            piece = tokenizer.inv_vocab.get(token, "?")
            if piece.startswith(_STARTS_OF_WORD):
                finish()
            pieces.append((piece, position))
            if piece.endswith(_END_OF_WORD):
                finish()
            continue
        finish()
        name = getattr(token, WORD, "embedding")
        # Vectors of one word stand side by side; where its first one comes again, the word stands there again.
        goes_on = words and words[-1] == (name, (*words[-1].positions[:-1], position - 1)) and id(token) not in vectors
        if goes_on:
            words[-1] = PromptWord(name, (*words[-1].positions, position))
        else:
            words.append(PromptWord(name, (position,)))
            vectors.clear()
        vectors.add(id(token))
    finish()
    return words


def _content(tokenizer: Any, batches: Sequence[Sequence[tuple]]) -> list[tuple[Any, int]]:
    """The tokens between start and end of every chunk, with their positions in the encoding."""
    start, end = getattr(tokenizer, "start_token", None), getattr(tokenizer, "end_token", None)
    found, first = [], 0
    for batch in batches:
        for index, entry in enumerate(batch):
            token = entry[0]
            if isinstance(token, int) and token == end:
                break
            if not (index == 0 and isinstance(token, int) and token == start):
                found.append((token, first + index))
        first += len(batch)
    return found


def _text_of(pieces: Sequence[str], tokenizer: Any) -> str:
    """The text of pieces of the vocabulary, which writes each byte of other scripts as a letter of its own."""
    decode = getattr(getattr(tokenizer, "tokenizer", None), "convert_tokens_to_string", None)
    text = decode([*pieces]) if decode is not None else "".join(pieces)
    return text.replace(_END_OF_WORD, "").replace(_STARTS_OF_WORD[0], " ").strip() or "?"
