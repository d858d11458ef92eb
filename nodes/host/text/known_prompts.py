"""What is known of prompts, so that it can also be known that one does not have a word.

Every prompt that a CLIP with concepts encodes is remembered with the words of concepts that are in it.  The memory
travels with the conditioning, under one key of its dict; the encoding itself says, as an attribute that lasts as long
as it is handed on and not computed with, which words it has.

A prompt that arrives is known by the numbers of its tokens, so it may have been joined, cut, reordered or put into a
batch.  One that was computed out of remembered prompts (Conditioning (Average), a prompt that changes over time) is a
sum of them; by solving for their weights it is known which words can be in it.  Of all others nothing is known: saved
ones, those of another CLIP, and those that another pack makes its own tokens for.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ..equal_tensors import equal_tensors
from .encoder_patch import Encode, encode_through
from .encoders import IDENTITY, WORD

KEY = "perfusion_known_prompts"
_ATTACHMENT = "perfusion_for_comfyui.known_prompts"

MOST_PROMPTS = 64  # forty megabytes for SDXL; an edit of many rows encodes two for each at once

# Channels by which candidates are found before all of them are compared.
_CHANNELS = 8
# A sum of prompts may be off by the rounding of its numbers, and a weight below this is none.
_ROUNDINGS, _LEAST_WEIGHT = 8, 1e-3
# Of prompts' products, below which two of them are one prompt.
_SAME_PROMPT = 1e-12


@dataclass(frozen=True, eq=False)
class KnownPrompt:
    """A prompt as it was encoded, [1, N, d], and the `Concept.word_hash` of every concept whose word it has."""

    encoding: Tensor
    words: tuple[str, ...]

    @functools.cached_property
    def keys(self) -> list[bytes]:
        """What tells each token from others, N.  Kept, since a memory of prompts is asked for them in every run."""
        return _keys(self.encoding.flatten(0, -2))


class PromptMemory:
    """The prompts that were encoded or used last by a CLIP and its clones."""

    def __init__(self) -> None:
        self.prompts: list[KnownPrompt] = []

    def note(self, prompt: KnownPrompt) -> None:
        """Remember a prompt in place of an equal one, or of the oldest."""
        others = [
            one for one in self.prompts if one.words != prompt.words or not equal_tensors(one.encoding, prompt.encoding)
        ]
        self.prompts = [*others[1 - MOST_PROMPTS :], prompt]

    def note_use(self, encodings: Sequence[Tensor]) -> None:
        """Forget the prompts that have these encodings last: what was made of them may be used again."""
        in_use = [any(equal_tensors(one.encoding, each) for each in encodings) for one in self.prompts]
        pairs = sorted(zip(in_use, self.prompts, strict=True), key=lambda pair: pair[0])
        self.prompts = [prompt for _, prompt in pairs]

    def __deepcopy__(self, _: dict[int, Any]) -> PromptMemory:
        return self

    def __reduce__(self) -> tuple[type[OrderedDict], tuple]:
        """A conditioning that is written to disk is one of which nothing is known; any program can read it."""
        return OrderedDict, ()


class KnownTokens(NamedTuple):
    """Tokens of known prompts, [M, d], and which concepts' words may be in the prompt of each, bool [M, J]."""

    tokens: Tensor
    may_have: Tensor

    def words_in(self, encoding: Tensor) -> Tensor:
        """Which concepts' words may be in prompts, [..., N, d] -> bool [..., J]; every one where a token is unknown."""
        return self._of_tokens(encoding).any(dim=-2)

    def through(self, before: Tensor, after: Tensor) -> KnownTokens:
        """The same for what a model made of prompts, row by row.  before: [B, N, e].  after: [B, N', d]."""
        if before.shape == after.shape and torch.equal(before.to(after), after):
            return self
        if before.shape[-1] != self.tokens.shape[-1] or len(before) != len(after):
            return KnownTokens(after.new_zeros(0, after.shape[-1]), self.may_have[:0])
        may_have = self.words_in(before)[:, None].expand(-1, after.shape[1], -1).flatten(0, 1)
        # Each once, and of the words that all prompts with it have: hundreds of places of padding would be as many
        # pairs of equal tokens for each place of a prompt, which are gigabytes.
        made, first = after.flatten(0, 1), dict[bytes, int]()
        place = torch.tensor([first.setdefault(key, len(first)) for key in _keys(made)], device=made.device)
        tokens = made.new_empty(len(first), made.shape[1]).index_copy_(0, place, made)
        without = torch.zeros(len(first), may_have.shape[1], device=made.device)
        without.index_add_(0, place, (~may_have).to(without))
        return KnownTokens(tokens, without == 0)

    def and_also(self, other: KnownTokens) -> KnownTokens:
        """These and others of the same width."""
        return KnownTokens(*(torch.cat([one, two.to(one)]) for one, two in zip(self, other, strict=True)))

    def is_complete_for(self, row: Tensor) -> bool:
        """Whether every token of a prompt, [N, d], is known."""
        token, _ = self._matches(row)
        return len(token.unique()) == len(row)

    def _of_tokens(self, encoding: Tensor) -> Tensor:
        """bool [..., N, J]."""
        tokens = encoding.flatten(0, -2)
        token, known = self._matches(tokens)
        may_have = self.may_have.to(tokens.device)
        without = torch.zeros(len(tokens), may_have.shape[1], device=tokens.device)
        without.index_add_(0, token, (~may_have[known]).to(without))
        return (without == 0).unflatten(0, encoding.shape[:-1])

    def _matches(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of equal tokens: places in `tokens`, [T, d], and in the known ones."""
        known = self.tokens.to(tokens)
        alike = torch.ones(len(tokens), len(known), dtype=torch.bool, device=tokens.device)
        for channel in range(min(_CHANNELS, known.shape[1])):
            alike &= tokens[:, None, channel] == known[None, :, channel]
        at, of = alike.nonzero(as_tuple=True)
        same = (tokens[at] == known[of]).all(dim=-1)
        return at[same], of[same]


def remember_prompts(clip: CLIP, shared: CLIP) -> None:
    """Let this CLIP, a clone of `shared` with words, remember the prompts that it encodes, together with all other
    clones of that one."""
    memory = shared.patcher.get_attachment(_ATTACHMENT)
    if memory is None:
        memory = PromptMemory()
        shared.patcher.set_attachments(_ATTACHMENT, memory)
    clip.patcher.set_attachments(_ATTACHMENT, memory)
    encode_through(clip, _with_memory)


def _with_memory(patcher: ModelPatcher, encode: Encode, tokens: Mapping[str, Any], *args: Any, **kwargs: Any) -> tuple:
    encoded = encode(tokens, *args, **kwargs)
    memory: PromptMemory | None = patcher.get_attachment(_ATTACHMENT)
    words = _words_of(tokens)
    if memory is None or words is None or encoded[0].requires_grad:
        return encoded
    encoding, pooled, extra = encoded if len(encoded) > 2 else (*encoded, {})
    memory.note(KnownPrompt(encoding.detach(), words))  # the numbers alone: what is marked on it ends with it
    setattr(encoding, KEY, words)
    return encoding, pooled, {**extra, KEY: memory}


def _words_of(tokens: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The concepts whose words are in token lists; None where one of them has no name."""
    entries = [entry[0] for batches in tokens.values() for batch in batches for entry in batch]
    words = {getattr(entry, IDENTITY, "") for entry in entries if hasattr(entry, WORD)}
    return None if "" in words else tuple(sorted(words))


def known_tokens(entries: Sequence[Mapping[str, Any]], identities: Sequence[str]) -> KnownTokens | None:
    """Return the tokens of all prompts that these entries of a guider's conditioning know of; None where they know of
    none.  identities: `Concept.word_hash` of the J concepts."""
    encodings = [entry["cross_attn"] for entry in entries]
    prompts = _prompts_behind(entries)
    width = encodings[0].shape[-1] if encodings else 0
    prompts = [prompt for prompt in prompts if prompt.encoding.shape[-1] == width]
    if not prompts:
        return None

    found = _distinct(prompts)
    sums = _Sums(prompts)
    rows = [row.detach().cpu() for encoding in encodings if encoding.shape[-1] == width for row in encoding]
    known = found.of(identities)
    arrived = {key for row in rows for key in _keys(row)}
    in_use = [one for one in prompts if arrived.issuperset(one.keys)]
    for row in rows:
        parts = None if known.is_complete_for(row) else sums.parts_of(row)
        if parts is not None:
            in_use += parts
            words = {word for one in parts for word in one.words}
            known = known.and_also(_Tokens(row, [words] * len(row)).of(identities))
    for memory in _memories(entries):
        memory.note_use([one.encoding for one in in_use])
    return known


class _Tokens(NamedTuple):
    """Tokens, [M, d], and the words that may be in the prompt of each."""

    tokens: Tensor
    words: Sequence[Set[str]]

    def of(self, identities: Sequence[str]) -> KnownTokens:
        may_have = [[identity in held for identity in identities] for held in self.words]
        return KnownTokens(self.tokens, torch.tensor(may_have, dtype=torch.bool).reshape(len(may_have), -1))


def _keys(tokens: Tensor) -> list[bytes]:
    """What tells each token from the others, [M, d] -> M: digests, equal for equal numbers of any type.  Not `unique`,
    which not every device has for rows."""
    rows = tokens.detach().to("cpu", torch.float32).contiguous().numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def _distinct(prompts: Sequence[KnownPrompt]) -> _Tokens:
    """All tokens of these prompts, each once.  One that prompts share, such as the first, tells only of the words that
    all of them have."""
    width = prompts[0].encoding.shape[-1]
    nothing = torch.zeros(1, width)  # of Conditioning (Zero Out)
    first: dict[bytes, tuple[Tensor, frozenset[str]]] = {}
    for prompt in [KnownPrompt(nothing[None], ()), *prompts]:
        words = frozenset(prompt.words)
        for token, key in zip(prompt.encoding.detach().flatten(0, -2).to(nothing), prompt.keys, strict=True):
            earlier = first.get(key)
            first[key] = (token, words) if earlier is None else (earlier[0], earlier[1] & words)
    return _Tokens(torch.stack([token for token, _ in first.values()]), [words for _, words in first.values()])


def known_behind(
    known: KnownTokens | None, entries: Sequence[Mapping[str, Any]], context_key: str
) -> KnownTokens | None:
    """Return the tokens of what a model has made of known prompts before its first step; the same where it made nothing
    of them.

    entries: of a guider's conditioning, with the conditions of the model.  context_key: the one that is the text.
    """
    if known is None:
        return None
    texts = [(entry["cross_attn"], entry.get("model_conds", {}).get(context_key)) for entry in entries]
    made = [known.through(before, after.cond) for before, after in texts if after is not None]
    made = [one for one in made if one is not known] or [known]
    return functools.reduce(KnownTokens.and_also, made)


def _prompts_behind(entries: Sequence[Mapping[str, Any]]) -> list[KnownPrompt]:
    """The prompts of the entries' memories, and the entries themselves where they were not computed with.  Those that
    have one encoding are one, with the words of all: a word that was not learned has that of its superclass."""
    prompts = [prompt for memory in _memories(entries) for prompt in memory.prompts]
    known = {prompt.encoding.data_ptr() for prompt in prompts}
    own = [(entry["cross_attn"], getattr(entry["cross_attn"], KEY, None)) for entry in entries]
    prompts += [KnownPrompt(one, held) for one, held in own if held is not None and one.data_ptr() not in known]
    found: dict[bytes, KnownPrompt] = {}
    for prompt in prompts:
        key = b"".join(prompt.keys)
        earlier = found.setdefault(key, prompt)
        if not set(prompt.words) <= set(earlier.words):
            found[key] = replace(earlier, words=tuple(sorted({*earlier.words, *prompt.words})))
    return list(found.values())


def _memories(entries: Sequence[Mapping[str, Any]]) -> list[PromptMemory]:
    """The memories of the CLIPs that encoded these entries, each once."""
    return list({id(entry[KEY]): entry[KEY] for entry in entries if isinstance(entry.get(KEY), PromptMemory)}.values())


class _Sums:
    """Finds out of which prompts another one was summed up."""

    def __init__(self, prompts: Sequence[KnownPrompt]) -> None:
        self._prompts = prompts
        self._solved: dict[int, tuple[Tensor, Tensor]] = {}

    def parts_of(self, row: Tensor) -> list[KnownPrompt] | None:
        """All prompts that have a part in this one, [N, d]; None where it is no sum of them."""
        rounding = _ROUNDINGS * torch.finfo(row.dtype).eps
        basis, inverse = self._of_length(len(row))
        summed = row.flatten().double()
        weights = inverse @ (basis @ summed)
        if not (weights @ basis - summed).norm() <= rounding * summed.norm():
            return None
        taking_part = (weights.abs() > _LEAST_WEIGHT * weights.abs().max()).tolist()
        return [prompt for part, prompt in zip(taking_part, self._prompts, strict=True) if part]

    def _of_length(self, length: int) -> tuple[Tensor, Tensor]:
        """The prompts cut or filled with zeros to a length, [P, N d], as the host does, and the inverse of their
        products, [P, P]."""
        if length not in self._solved:
            width = self._prompts[0].encoding.shape[-1]
            basis = torch.zeros(len(self._prompts), length, width, dtype=torch.float64)
            for place, prompt in zip(basis, self._prompts, strict=True):
                head = prompt.encoding[0, :length].detach()
                place[: len(head)] = head.to(place)
            basis = basis.flatten(1)
            inverse = torch.linalg.pinv(basis @ basis.T, rtol=_SAME_PROMPT, hermitian=True)
            self._solved[length] = basis, inverse
        return self._solved[length]
