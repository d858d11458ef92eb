"""What is noted of the prompts that a CLIP with concepts encodes, for what the gate node says of a run.

A sampler gets encodings and no texts.  One that this CLIP made is known by the last token of each of its chunks that is
not blanked out as padding, which depends on all the tokens before it; stock nodes join encodings and weigh them, and
leave that token as it is.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from .encoder_patch import Encode, encode_through
from .encoders import word_positions
from .prompt_words import first_tokenizer, words_of_tokens
from .words import listen_to_prompts

_NOTES = "perfusion_for_comfyui.prompt_notes"
_MOST = 64  # of the prompts encoded last; a graph has a handful
_CHUNK = 77
# Channels by which a token is known: two texts hardly agree in that many numbers.
_CHANNELS = 8

_BLANK = bytes(4 * _CHANNELS)

_BRACKETED = re.compile(r"<[\w-]+>")


class PromptNote(NamedTuple):
    """One prompt that was encoded.

    ends: the keys (see `token_keys`) of the last tokens of its chunks.  places: those of each concept word in it.
    unknown: words in angle brackets that are none of a concept.  bare: words of concepts without their brackets.
    words: all words of the prompt in their order, each with the keys of its tokens.
    """

    ends: frozenset[bytes]
    places: Mapping[str, frozenset[bytes]]
    unknown: tuple[str, ...]
    bare: tuple[str, ...]
    words: tuple[tuple[str, tuple[bytes, ...]], ...] = ()


class PromptNotes:
    """The prompts that were encoded last with the words of one gate node, as "<hugsy>"."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self.tokenizer: Any = None  # of the CLIP, which tells the words of a prompt by its tokens
        self._unknown: list[str] = []
        self._bare: list[str] = []
        self._notes: OrderedDict[frozenset[bytes], PromptNote] = OrderedDict()

    def hear(self, text: str, known: Sequence[str]) -> None:
        """A text is taken apart into tokens, to be encoded next.  known: all words that its CLIP has learned."""
        lowered = text.lower()
        self._unknown += [word for word in _BRACKETED.findall(lowered) if word not in known]
        for word in self.words:
            bare = re.escape(word.strip("<>"))
            if word not in lowered and re.search(rf"(?<![\w<-]){bare}(?![\w>-])", lowered):
                self._bare.append(word)

    def note(self, tokens: Mapping[str, Any], encoding: Tensor) -> None:
        """These tokens were encoded as [1, N, d]."""
        keys = token_keys(encoding)
        step = _CHUNK if len(keys) % _CHUNK == 0 else len(keys)
        ends = frozenset(_end(keys[start : start + step]) for start in range(0, len(keys), step))
        found = {word: word_positions(tokens, word) for word in self.words}
        places = {w: frozenset(keys[p] for p in at if p < len(keys)) for w, at in found.items() if at}
        written = words_of_tokens(self.tokenizer, tokens) if self.tokenizer is not None else []
        words = tuple((word.text, tuple(keys[p] for p in word.positions if p < len(keys))) for word in written)
        self._notes[ends] = PromptNote(
            ends, places, tuple(dict.fromkeys(self._unknown)), tuple(dict.fromkeys(self._bare)), words
        )
        self._notes.move_to_end(ends)
        self._unknown, self._bare = [], []
        while len(self._notes) > _MOST:
            self._notes.popitem(last=False)

    def of(self, keys: Sequence[bytes]) -> list[PromptNote]:
        """The prompts that an encoding with these tokens was made of; none where it came from elsewhere."""
        there = set(keys)
        return [note for note in self._notes.values() if note.ends <= there]


def take_notes(clip: CLIP, notes: PromptNotes) -> None:
    """Note the prompts that this CLIP, a clone of the caller's with the words, encodes from now on, as later clones."""
    notes.tokenizer = first_tokenizer(clip)
    pass_on_notes(clip.patcher, notes)
    listen_to_prompts(clip, notes.hear)
    encode_through(clip, _noted)


def pass_on_notes(patcher: ModelPatcher, notes: PromptNotes) -> None:
    """Let this patcher, a clone of the caller's, and its later clones know the notes of the prompts for it."""
    patcher.set_attachments(_NOTES, (*notes_of(patcher), notes))


def notes_of(patcher: ModelPatcher) -> tuple[PromptNotes, ...]:
    """The notes that were passed on to a patcher, of a CLIP or of a MODEL."""
    return patcher.get_attachment(_NOTES) or ()


def token_keys(encoding: Tensor) -> list[bytes]:
    """A key for every token of an encoding, [..., N, d]."""
    few = encoding.detach()[..., :_CHANNELS].reshape(-1, _CHANNELS).float().cpu().contiguous().numpy()
    return [row.tobytes() for row in few]


def _end(chunk: Sequence[bytes]) -> bytes:
    return next((key for key in reversed(chunk) if key != _BLANK), _BLANK)


def _noted(patcher: ModelPatcher, encode: Encode, tokens: Mapping[str, Any], *args: Any, **kwargs: Any) -> tuple:
    encoded = encode(tokens, *args, **kwargs)
    for notes in notes_of(patcher):
        notes.note(tokens, encoded[0])
    return encoded
