"""Which tokens of an encoding are a concept's own: the mark by which a gate measures against the word in its prompt.

It is made where the prompt is encoded and travels as the superclass encoding does: under one key of the conditioning's
dict, which stock nodes copy, and as an attribute of the encoding, for those that drop the dict.  Tokens are known by
their numbers and not by their places, so a mark can be lost but never be wrong: what was joined, cut, reordered or put
into a batch is found again, and a token that was computed with, such as a mean of two prompts, is nobody's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from .encoder_patch import Encode, encode_through
from .encoders import IDENTITY, PlacedToken

CONDITIONING_KEY = "perfusion_own_tokens"
# Of prompts that a model makes its text of at the places of a second tokenizer (Anima): whose each of these places is,
# with its weight.  What stands there is known only once the model has made it.
PLACES_KEY = "perfusion_own_places"

# Channels by which a token is looked up among others; two different texts hardly agree in that many numbers.
_CHANNELS = 8


class OwnTokens(NamedTuple):
    """The own tokens of one word in some prompts: their encodings with the weights of the prompt, [n, d]; the encoding
    of the whole word in that place at weight 1, the mean over its tokens, for each of them, [n, d]; which of the word's
    tokens each is, counted through its prompt, int64 [n]; and its weight, [n]."""

    tokens: Tensor
    words: Tensor
    places: Tensor
    weights: Tensor


Marks = Mapping[str, OwnTokens]  # by `Concept.word_hash`


def mark_own_tokens(clip: CLIP) -> None:
    """Let this CLIP, a clone of the caller's with words, mark the own tokens of concepts in all prompts."""
    encode_through(clip, _with_marks)


def marks_of(entries: Iterable[Mapping[str, Any]]) -> Marks:
    """Return the marks of all these entries of a guider's conditioning together."""
    found: dict[str, OwnTokens] = {}
    for entry in entries:
        marks: Marks = entry.get(CONDITIONING_KEY) or getattr(entry.get("cross_attn"), CONDITIONING_KEY, {})
        for identity, own in marks.items():
            earlier = found.get(identity)
            fits = earlier is None or earlier.tokens.shape[-1] == own.tokens.shape[-1]
            if earlier is not None and fits:
                own = OwnTokens(*(torch.cat([a, b.to(a)]) for a, b in zip(earlier, own, strict=True)))
            if fits:
                found[identity] = own
    return found


def marks_behind(entries: Iterable[Mapping[str, Any]], context_key: str) -> Marks:
    """Return the marks of what a model has made of prompts before its first step; none where it made nothing of them.

    entries: of a guider's conditioning, with the conditions of the model.  context_key: the one that is the text.
    """
    found: dict[str, list[_Row]] = {}
    for entry in entries:
        places = entry.get(PLACES_KEY) or getattr(entry.get("cross_attn"), PLACES_KEY, ())
        context = entry["model_conds"][context_key].cond if places else None
        if context is None or context.shape[1] < len(places):
            continue
        owners, weights = zip(*places, strict=True)
        divisors = context.new_tensor([weight or 1.0 for weight in weights])
        _note_words(found, context[0], context[0, : len(places)] / divisors[:, None], owners, weights)
    return _stacked(found)


def marks_through(marks: Marks, before: Tensor, after: Tensor) -> Marks:
    """Return the marks of what a model makes of encodings token by token, out of those of the encodings themselves.

    before: [B, N, e].  after: [B, N, d].  A word that has a weight in its prompt is measured with that weight there.
    """
    if before.shape == after.shape and torch.equal(before.to(after), after):
        return marks
    found = {}
    for identity, own in marks.items():
        if own.tokens.shape[-1] != before.shape[-1] or before.shape[:2] != after.shape[:2]:
            continue
        which, is_own = find_tokens(before, own.tokens)
        at_words = [
            (row, [place for place, _ in run])
            for row, flags in enumerate(is_own.tolist())
            for holds, run in groupby(enumerate(flags), key=lambda pair: pair[1])
            if holds
        ]
        if at_words:
            words = [after[at].float().mean(dim=0, keepdim=True).expand(len(at[1]), -1) for at in at_words]
            places, weights = (torch.cat([one[which[at].to(one.device)] for at in at_words]) for one in own[2:])
            found[identity] = OwnTokens(torch.cat([after[at] for at in at_words]), torch.cat(words), places, weights)
    return found


def find_tokens(tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each token, [..., N, d], which of `known`, [M, d] with M at least 1, it may equal, int64 [..., N], and
    whether it does, bool [..., N].

    A few channels find the candidate, since comparing all channels of all pairs takes memory; all of them confirm it.
    """
    known = known.to(tokens)
    candidates = (tokens[..., None, :_CHANNELS] == known[:, :_CHANNELS]).all(dim=-1).to(torch.uint8).argmax(dim=-1)
    return candidates, (known[candidates] == tokens).all(dim=-1)


def _with_marks(_patcher: ModelPatcher, encode: Encode, tokens: Mapping[str, Any], *args: Any, **kwargs: Any) -> tuple:
    encoded = encode(tokens, *args, **kwargs)
    placed = _placed(tokens)
    if any(identity for identity, _ in placed):
        encoding, pooled, extra = encoded if len(encoded) > 2 else (*encoded, {})
        setattr(encoding, PLACES_KEY, placed)
        return encoding, pooled, {**extra, PLACES_KEY: placed}
    owners = _owners(tokens)
    if not any(owners) or encoded[0].shape[:2] != (1, len(owners)):  # another pack's encoding has tokens of its own
        return encoded
    encoding, pooled, extra = encoded if len(encoded) > 2 else (*encoded, {})
    plain = encode(_unweighted(tokens), *args, **kwargs)[0] if _is_weighted(tokens) else encoding
    marks: dict[str, list[_Row]] = {}
    _note_words(marks, encoding[0], plain[0], owners, _weights(tokens))
    made = _stacked(marks)
    setattr(encoding, CONDITIONING_KEY, made)
    return encoding, pooled, {**extra, CONDITIONING_KEY: made}


class _Row(NamedTuple):
    """One own token, as `OwnTokens` has them."""

    token: Tensor
    word: Tensor
    place: int
    weight: float


def _note_words(
    found: dict[str, list[_Row]], encoding: Tensor, plain: Tensor, owners: Sequence[str], weights: Sequence[float]
) -> None:
    """Add the own tokens of the words in one prompt.

    encoding: with the prompt's weights, [N, d].  plain: without them, [n, d].  owners: whose each of the first n tokens
    is, "" for nobody's.  weights: of these.
    """
    counted = _counted(owners)
    for identity, run in groupby(range(len(owners)), key=owners.__getitem__):
        if identity:
            places = list(run)
            word = plain[places].float().mean(dim=0)
            rows = [_Row(encoding[place], word, counted[place], weights[place]) for place in places]
            found.setdefault(identity, []).extend(rows)


def _stacked(rows: Mapping[str, Sequence[_Row]]) -> dict[str, OwnTokens]:
    made = {}
    for identity, of_word in rows.items():
        tokens, words, places, weights = zip(*of_word, strict=True)
        made[identity] = OwnTokens(torch.stack(tokens), torch.stack(words), torch.tensor(places), torch.tensor(weights))
    return made


def _counted(owners: Sequence[str]) -> list[int]:
    """Of each token of a prompt, how many of the same word's stand before it."""
    before = defaultdict[str, int](int)
    counted = []
    for owner in owners:
        counted.append(before[owner])
        before[owner] += 1
    return counted


def _weights(tokens: Mapping[str, Any]) -> list[float]:
    """The weight of each token of a prompt; all encoders have the same ones."""
    return [float(entry[1]) for batch in next(iter(tokens.values())) for entry in batch]


def _placed(tokens: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Whose each token of the list with placed tokens is, "" for nobody's, and its weight; [] without such a list."""
    for batches in tokens.values():
        entries = [entry for batch in batches for entry in batch]
        if any(isinstance(entry[0], PlacedToken) for entry in entries):
            return [(getattr(entry[0], IDENTITY, ""), float(entry[1])) for entry in entries]
    return []


def _owners(tokens: Mapping[str, Any]) -> list[str]:
    """Whose each token of an encoding is, "" for nobody's; with two encoders, what both have the same word for."""
    lists = [[entry for batch in batches for entry in batch] for batches in tokens.values()]
    if len({len(entries) for entries in lists}) != 1:
        return []
    at_places = ({getattr(entry[0], IDENTITY, "") for entry in entries} for entries in zip(*lists, strict=True))
    return [names.pop() if len(names) == 1 else "" for names in at_places]


def _is_weighted(tokens: Mapping[str, Any]) -> bool:
    """Whether a word of a concept has another weight than 1."""
    entries = (entry for batches in tokens.values() for batch in batches for entry in batch)
    return any(hasattr(entry[0], IDENTITY) and entry[1] != 1 for entry in entries)


def _unweighted(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """The token lists with weight 1 at the words of concepts; weights act behind the encoder, each on its token."""

    def plain(entry: tuple) -> tuple:
        return (entry[0], 1.0, *entry[2:]) if hasattr(entry[0], IDENTITY) else entry

    return {key: [[plain(entry) for entry in batch] for batch in batches] for key, batches in tokens.items()}
