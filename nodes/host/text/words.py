"""Teaching a CLIP the words of concepts, so that every stock text-encode node understands "<hugsy>".

CLIP.clone keeps the reference to the tokenizer and nothing else that could carry a word, and the tokenizer is shared
with the original. The clone therefore gets a shallow copy of the tokenizer whose encoders' tokenizers are wrapped. The
wrapper lets the host tokenize the prompt with a sign in the concept's place and the learned vectors where its tokenizer
meets that sign: weights, long prompts and `embedding:` words stay the host's business.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from comfy.sd import CLIP
from torch import Tensor

from ....perfusion_core.concept import Concept, ConceptStack, check_stack, normalise_word
from ....perfusion_core.errors import PerfusionError
from .clip_layer import warn_of_other_layer
from .encoder_patch import encode_through
from .encoders import (
    ANY_LAYER,
    IDENTITY,
    LAYER,
    POOLED_LOCK,
    SUPERCLASS,
    WORD,
    PlacedToken,
    TextEncoder,
    text_encoders,
    tokenizers_alone,
)
from .encoding_memory import remembered, share_memory
from .inserted_words import inserting, tokens_in_a_text, unused_signs
from .known_prompts import remember_prompts
from .own_tokens import mark_own_tokens
from .pooled_lock import lock_pooled
from .superclass_encoding import encode_superclass_too
from .whole_words import keeping_together

logger = logging.getLogger(__name__)


PromptListener = Callable[[str, Sequence[str]], None]


class ConceptWord(NamedTuple):
    """A word with its vectors by embedding key, each [n, width], and those of its superclass, each [m, width].

    The vectors may be under training: the encoding is differentiable in them.
    superclass: the plain word, for tokenizers without an encoder.  clip_layer: as in `Concept`, or ANY_LAYER.
    base_model: family that the concept was made for, "" for the CLIP's own.
    identity: `Concept.word_hash`, by which its tokens are marked; "" marks none.  pooled_lock: as in `Concept`.
    """

    word: str
    vectors: Mapping[str, Tensor]
    superclass_vectors: Mapping[str, Tensor]
    clip_layer: int | None = ANY_LAYER
    base_model: str = ""
    identity: str = ""
    pooled_lock: bool = False
    superclass: str = ""

    @classmethod
    def of(cls, concept: Concept) -> ConceptWord:
        vectors = concept.word_vectors, concept.superclass_vectors
        origin = concept.clip_layer, concept.base_model, concept.word_hash
        return cls(concept.word, *vectors, *origin, concept.pooled_lock, concept.superclass)


def add_words(clip: CLIP, stack: ConceptStack, key_lock: str = "local") -> CLIP:
    """Return a clone of the CLIP that knows the concepts' words; the original stays as it is.

    stack: the concepts, also those of strength 0, whose words would otherwise fall apart into letters.
    key_lock: "global" encodes every prompt that has a concept's word a second time, with the superclass in its place.
    Encoding on another layer than a concept's warns, also where a later node sets it.
    Raises PerfusionError for a word that the CLIP knows already or that occurs twice, and for vectors that do not fit.
    """
    check_stack(stack)
    if stack:
        share_memory(clip)
    clone = with_words(clip, [ConceptWord.of(gated.concept) for gated in stack], key_lock)
    if stack:
        encode_through(clone, warn_of_other_layer)
    return clone


def with_words(clip: CLIP, words: Sequence[ConceptWord], key_lock: str = "local") -> CLIP:
    """Return a clone of the CLIP that knows these words; see `add_words`, which takes whole concepts."""
    clone = clip.clone()
    if not words:
        return clone
    encoders = text_encoders(clip)
    known = known_words(clip)
    for word in words:
        if word.word in known:
            raise PerfusionError(
                f"The CLIP already knows the word {word.word}; connect the CLIP from before the node that added it, or"
                " write another word into the input word of Load Perfusion Concept."
            )
        _check_vectors(word, encoders)

    tokenizer = copy.copy(clip.tokenizer)
    with_encoder = [(key, encoder.attribute, encoder.tokenizer) for key, encoder in encoders.items()]
    without = [(None, attribute, alone) for attribute, alone in tokenizers_alone(clip).items()]
    for key, attribute, inner in (*with_encoder, *without):
        earlier, listeners = (), ()
        if isinstance(inner, WordTokenizer):
            inner, earlier, listeners = inner._host_tokenizer, inner._words, inner._listeners
        setattr(tokenizer, attribute, WordTokenizer(inner, key, (*earlier, *words), listeners))
    clone.tokenizer = tokenizer
    encode_through(clone, remembered)  # first, so that what the others ask for is remembered too
    mark_own_tokens(clone)
    remember_prompts(clone, clip)
    if any(word.pooled_lock for word in words):
        lock_pooled(clone)
    if key_lock == "global":
        encode_superclass_too(clone)
    return clone


def known_words(clip: CLIP) -> set[str]:
    """Return the words that were added to the CLIP."""
    tokenizers = [t for t in vars(clip.tokenizer).values() if isinstance(t, WordTokenizer)]
    return {word.word for tokenizer in tokenizers for word in tokenizer._words}


def listen_to_prompts(clip: CLIP, hear: PromptListener) -> None:
    """Let `hear` be told of every prompt that this CLIP, a clone of the caller's with words, or a clone of it takes
    apart into tokens, with the words that it knows."""
    for tokenizer in vars(clip.tokenizer).values():
        if isinstance(tokenizer, WordTokenizer):
            vars(tokenizer).update(_listeners=(*tokenizer._listeners, hear))


def warn_of_ordinary_word(clip: CLIP, text: str, superclass: str) -> None:
    """Warn of a concept's word that was typed without brackets and that prompts use anyway, such as dog.

    It becomes <dog>, so nothing clashes; but who types dog may expect to write dog in prompts.
    """
    bare = text.strip()
    if "<" in bare or not (bare.lower() == superclass.strip().lower() or _is_one_token(clip, bare)):
        return
    word = normalise_word(bare)
    logger.warning(
        "The concept is called %s, since %s is an ordinary word that prompts go on to use for any such thing; write %s"
        " in prompts, with its brackets, or train under a word that does not exist.",
        word,
        bare,
        word,
    )


def _is_one_token(clip: CLIP, text: str) -> bool:
    """Whether the text is a whole word of a tokenizer's vocabulary."""
    return any(len(tokens_in_a_text(encoder.tokenizer, text)) == 1 for encoder in text_encoders(clip).values())


class WordTokenizer:
    """The tokenizer of one encoder, which puts the vectors of concept words into the token lists.

    key: of the encoder's vectors; None for a tokenizer without an encoder, whose lists get the superclass' tokens.
    Everything else is that of the host's tokenizer inside, also when it is written to, since other packs read and set
    its attributes; so all that this one adds has a name of its own.
    """

    def __init__(
        self, tokenizer: Any, key: str | None, words: Sequence[ConceptWord], listeners: Sequence[PromptListener] = ()
    ) -> None:
        # "embedding:<hugsy>" is what users of embedding files would write; the host cuts such a name at the "<".
        # A group for each word: which one it is, is up to re alone, to which more letters are equal than to lower().
        groups = "|".join(f"({re.escape(word.word)})" for word in words)
        pattern = re.compile(f"(?:embedding:)?(?:{groups})", re.IGNORECASE)
        vars(self).update(_host_tokenizer=tokenizer, _embedding_key=key, _words=tuple(words), _word_pattern=pattern)
        vars(self).update(_listeners=tuple(listeners))

    def __getattr__(self, name: str) -> Any:
        if name == "_host_tokenizer" or name.startswith("__"):  # asked for by copies, before there is anything inside
            raise AttributeError(name)
        return getattr(self._host_tokenizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            setattr(self._host_tokenizer, name, value)

    def clone(self) -> WordTokenizer:
        """Return a copy around a copy of the tokenizer inside, for hosts that clone tokenizers."""
        inner = self._host_tokenizer
        inner = inner.clone() if hasattr(inner, "clone") else inner
        return WordTokenizer(inner, self._embedding_key, self._words, self._listeners)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> list[list[tuple]]:
        """Return the host's token lists with (vector, weight, ...) entries where a concept's word stands."""
        for hear in self._listeners:
            hear(text, [word.word for word in self._words])
        tokenizer = self._host_tokenizer
        used = {_group(match) for match in self._word_pattern.finditer(text)}
        if not used:
            return tokenizer.tokenize_with_weights(text, return_word_ids, **kwargs)
        entries = {index: self._entries(self._words[index]) for index in sorted(used)}
        together = {self._words[index].word: rows for index, rows in entries.items() if len(rows) > 1}
        tokenizer = keeping_together(tokenizer, together) if self._embedding_key is not None else tokenizer
        apart = [index for index, rows in entries.items() if tokenizer is self._host_tokenizer or len(rows) == 1]
        signs = dict(zip(apart, unused_signs(text, len(apart)), strict=True))
        tokenizer = inserting(tokenizer, {sign: entries[index] for index, sign in signs.items()})

        def replacement(match: re.Match) -> str:
            index = _group(match)
            if index in signs:
                return f" {signs[index]} "
            return f" {tokenizer.embedding_identifier}{self._words[index].word} "

        return tokenizer.tokenize_with_weights(self._word_pattern.sub(replacement, text), return_word_ids, **kwargs)

    def _entries(self, word: ConceptWord) -> list[Any]:
        """What stands in the token list in a word's place."""
        if self._embedding_key is not None:
            return self._with_marks(word, self._embedding_key)
        placed = [PlacedToken(token) for token in tokens_in_a_text(self._host_tokenizer, word.superclass)]
        for token in placed:
            setattr(token, WORD, word.word)
            setattr(token, IDENTITY, word.identity)
        return placed

    @staticmethod
    def _with_marks(word: ConceptWord, key: str) -> list[Tensor]:
        """Return the word's n vectors, each [width].

        Each carries its word, and the vector to stand in its place in the superclass encoding. That encoding must have
        the same tokens at the same places; so a superclass of another number of tokens is represented by its mean.
        """
        vectors, superclass = word.vectors[key], word.superclass_vectors[key]
        if len(superclass) != len(vectors):
            superclass = superclass.mean(dim=0, keepdim=True).expand(len(vectors), -1)
        marked = []
        for index in range(len(vectors)):
            vector = vectors[index]
            setattr(vector, WORD, word.word)
            setattr(vector, SUPERCLASS, superclass[index])
            setattr(vector, LAYER, word.clip_layer)
            if word.identity:
                setattr(vector, IDENTITY, word.identity)
            if word.pooled_lock:
                setattr(vector, POOLED_LOCK, True)
            marked.append(vector)
        return marked


def _group(match: re.Match) -> int:
    """Which word was found, from 0 on; every match has a group."""
    return (match.lastindex or 0) - 1


def _check_vectors(word: ConceptWord, encoders: Mapping[str, TextEncoder]) -> None:
    loaded = " and ".join(sorted(encoders))
    made_for = f", made for {word.base_model} models," if word.base_model else ""
    remedy = f"load a CLIP of the family {word.base_model} or" if word.base_model else "use"
    for key, encoder in encoders.items():
        for name, vectors in (("word", word.vectors), ("superclass", word.superclass_vectors)):
            others = " and ".join(sorted(vectors)) or "none"
            found = f"width {vectors[key].shape[-1]}" if key in vectors else f"only {others}"
            if found != f"width {encoder.width}":
                raise PerfusionError(
                    f"The loaded CLIP (text encoders: {loaded}) does not fit: its {key} needs {name} vectors of width"
                    f" {encoder.width} for {word.word}, but the concept{made_for} has {found}; {remedy} a concept that"
                    " was trained for this kind of model."
                )
        if not hasattr(encoder.tokenizer, "tokenizer_adds_end_token"):
            raise PerfusionError(
                f"The CLIP's text encoder {key} needs a tokenizer of ComfyUI's own kind, but"
                f" {type(encoder.tokenizer).__name__} is another one; load the CLIP with one of ComfyUI's loaders."
            )
