"""A prompt and its edits as tokens and as one conditioning of N rows, source first.

A stock conditioning carries no tokens, so the edit node encodes its texts itself, as CLIP Text Encode does. The host
tiles the rows over the latents of a run.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.sd import CLIP
from torch import Tensor

from ....perfusion_core.errors import PerfusionError, quoted
from ....perfusion_core.prompt_edit import FUNCTION_WORDS, LocalBlend, PromptEdit, Window, edited_text
from ....perfusion_core.token_alignment import BEGIN, END, PADDING, Alignment, align, places_of
from ..text.encoders import WORD
from ..text.own_tokens import CONDITIONING_KEY as OWN_TOKENS
from ..text.own_tokens import marks_of
from ..text.superclass_encoding import CONDITIONING_KEY, fit_superclass_encoding, superclass_encoding_of

# In the conditioning's dict, by which a run knows that its rows are those of a plan.
PLAN_KEY = "perfusion_prompt_edit"


@dataclass(frozen=True, eq=False)
class EditedPrompt:
    """An edit beside its source, by tokens of the encoding; both have the length L of the conditioning.

    weights: [L].  windows: when each token takes the source's attention.
    own: when self-attention does.
    source_words, edited_words: bool [L], the tokens of the phrases of the local blend, each phrase by itself.
    """

    text: str
    alignment: Alignment
    weights: Tensor
    windows: tuple[Window, ...]
    own: Window
    blend: LocalBlend | None
    source_words: tuple[Tensor, ...]
    edited_words: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class EditPlan:
    """What a run with N rows has to do: the edits of row 1 .. N - 1, and the length L of the encodings."""

    edits: tuple[EditedPrompt, ...]
    length: int
    name: str

    @property
    def rows(self) -> int:
        return 1 + len(self.edits)


def plan_edits(clip: CLIP, source: str, edits: Sequence[PromptEdit]) -> tuple[EditPlan, list]:
    """Return the plan of the edits of a text, and the conditioning of its rows.

    Raises PerfusionError where a word of an edit is in no prompt.
    """
    texts = [source, *(edited_text(source, edit.text) for edit in edits)]
    tokens = [prompt_tokens(clip, text) for text in texts]
    length = math.lcm(*map(len, tokens))
    planned = [
        _planned(clip, edit, (source, text), (tokens[0], own), length)
        for edit, text, own in zip(edits, texts[1:], tokens[1:], strict=True)
    ]
    plan = EditPlan(tuple(planned), length, uuid.uuid4().hex)
    encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]
    return plan, [_in_rows(entries, length, plan.name) for entries in zip(*encoded, strict=True)]


def prompt_tokens(clip: CLIP, text: str) -> list[Hashable]:
    """The tokens of a prompt at the places of its encoding; learned vectors stand for themselves, weights for nothing.

    With two text encoders (SDXL) those of the first: both cut a text into the same tokens.
    """
    chunks = next(iter(clip.tokenize(text, return_word_ids=True).values()))
    tokens: list[Hashable] = []
    for chunk in chunks:
        special = iter((BEGIN, END))
        tokens += [_key(token) if word else next(special, PADDING) for token, _, word in chunk]
    return tokens


def _key(token: Any) -> Hashable:
    if not isinstance(token, Tensor):
        return token
    return getattr(token, WORD, None), token.detach().float().cpu().numpy().tobytes()


def _content(clip: CLIP, phrase: str) -> list[Hashable]:
    return [token for token in prompt_tokens(clip, phrase) if token not in (BEGIN, END, PADDING)]


def _planned(
    clip: CLIP,
    edit: PromptEdit,
    texts: tuple[str, str],
    tokens: tuple[list[Hashable], list[Hashable]],
    length: int,
) -> EditedPrompt:
    source, edited = tokens
    alignment = align(source, edited)
    weights, windows = torch.ones(len(edited)), [edit.cross] * len(edited)
    for setting in edit.words:
        places = places_of(_content(clip, setting.word), edited)
        if not places:
            raise _not_there(setting.word, texts[1:])
        weights[places] = setting.weight
        for place in places:
            windows[place] = setting.window or edit.cross
    of_blend = _words_of_blend(clip, edit, texts, tokens, alignment)
    times = length // len(edited)
    return EditedPrompt(
        texts[1],
        alignment.repeated(length // len(source), times),
        weights.repeat(times),
        tuple(windows * times),
        edit.own,
        edit.blend if any(of_blend) else None,
        *(tuple(_marked(places, length, len(prompt)) for places in found)
          for found, prompt in zip(of_blend, tokens, strict=True)),
    )  # fmt: skip


def _words_of_blend(
    clip: CLIP, edit: PromptEdit, texts: tuple[str, str], tokens: tuple[list, list], alignment: Alignment
) -> tuple[list, list]:
    """For source and edit the places of each phrase; of the words that differ where none is named."""
    if edit.blend is None:
        return [], []
    if not edit.blend.words:
        little = set(_content(clip, FUNCTION_WORDS))
        found = []
        for prompt, changed in zip(tokens, (alignment.changed_source, alignment.changed_edited), strict=True):
            telling = [place for place in changed if prompt[place] not in little]
            found.append([telling or [*changed]] if changed else [])
        return found[0], found[1]
    found = ([], [])
    for phrase in edit.blend.words:
        places = [places_of(_content(clip, phrase), prompt) for prompt in tokens]
        if not any(places):
            raise _not_there(phrase, texts)
        for side, there in zip(found, places, strict=True):
            side += [there] if there else []
    return found


def _marked(places: Sequence[int], length: int, own_length: int) -> Tensor:
    marks = torch.zeros(own_length, dtype=torch.bool)
    marks[[*places]] = True
    return marks.repeat(length // own_length)


def _not_there(word: str, texts: Sequence[str]) -> PerfusionError:
    return PerfusionError(
        f"The edit expected words of its prompt, but {quoted(word)} is not in"
        f" {' or '.join(quoted(text) for text in dict.fromkeys(texts))}; write it as it stands there."
    )


def _in_rows(entries: Sequence[list], length: int, name: str) -> list:
    """One entry of a conditioning from those of all rows: what has a row for each text is joined, other keys are those
    of the source."""
    encodings = [encoding.repeat(1, length // encoding.shape[1], 1) for encoding, _ in entries]
    extra: dict[str, Any] = {PLAN_KEY: name}
    for key, value in entries[0][1].items():
        rows = [each.get(key) for _, each in entries]
        joined = all(isinstance(row, Tensor) and row.shape == value.shape for row in rows)
        extra[key] = torch.cat(rows) if joined else value
    marks = marks_of({**each, "cross_attn": encoding} for encoding, each in entries)
    if marks:  # those of all rows, since tokens are known by their numbers
        extra[OWN_TOKENS] = marks
    locked = [superclass_encoding_of(encoding, each) for encoding, each in entries]
    if any(row is not None for row in locked):  # texts without the word have none; there it is their own encoding
        fitted = [row if row is None else row.repeat(1, length // row.shape[1], 1) for row in locked]
        pairs = zip(fitted, encodings, strict=True)
        extra[CONDITIONING_KEY] = torch.cat([fit_superclass_encoding(row, encoding) for row, encoding in pairs])
    return [torch.cat(encodings), extra]
