"""The prompts of one sampling run: which of them are watched, and which words lie where in their encodings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from comfy.conds import CONDRegular
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from ....perfusion_core.attention_record import Place
from ..text.prompt_notes import PromptNotes, notes_of, pass_on_notes, take_notes, token_keys
from ..text.prompt_words import PromptWord

# The host joins conditionings to one call as it likes, and makes copies of those with areas; what a model is told of
# the prompt stays right all the way, so the numbers go that way.
NUMBER_KEY = "perfusion_recorded_prompt"
_UNWATCHED = 0


class RunPrompt(NamedTuple):
    """A watched prompt.  tokens: length of its encoding.  rows: for each row of the encoding its words."""

    tokens: int
    rows: tuple[tuple[PromptWord, ...], ...]


def number_prompts(conds: Mapping[str, Sequence[dict[str, Any]]], patcher: ModelPatcher) -> list[RunPrompt]:
    """Give every entry of a guider's conditioning its number, 1, 2, ..., and 0 to negative prompts, which are not
    watched; return the watched ones.  The dicts are the sampler's own copies; what is in them is replaced."""
    watched: list[RunPrompt] = []
    for group, entries in conds.items():
        for entry in entries:
            encoding, number = entry.get("cross_attn"), _UNWATCHED
            if "negative" not in group and encoding is not None and encoding.dim() == 3:
                rows = tuple(_words_in(token_keys(row), patcher) for row in encoding)
                watched.append(RunPrompt(encoding.shape[1], rows))
                number = len(watched)
            entry["model_conds"] = {**entry.get("model_conds", {}), NUMBER_KEY: _numbered(number)}
    return watched


def _words_in(keys: Sequence[bytes], patcher: ModelPatcher) -> tuple[PromptWord, ...]:
    """The words whose tokens are there, as the CLIP of the MODEL noted them; none of a prompt from another CLIP."""
    positions = {key: position for position, key in enumerate(keys)}
    found: dict[tuple[int, ...], PromptWord] = {}
    for notes in notes_of(patcher):
        for note in notes.of(keys):
            for text, places in note.words:
                at = tuple(sorted(positions[key] for key in places if key in positions))
                if at:
                    found[at] = PromptWord(text, at)
    return tuple(found[at] for at in sorted(found))


class StepPlaces:
    """The places of the entries of a step, by the numbers that the model is given with each row."""

    def __init__(self) -> None:
        self._places: list[Place | None] = [None]  # 0 is no place

    def numbered(self, conds: Sequence[Sequence[dict[str, Any]] | None]) -> list[list[dict[str, Any]] | None]:
        """The conditions of one step, in which the number of a prompt has become that of its place."""
        return [group and [self._with_place(entry) for entry in group] for group in conds]  # pyright: ignore

    def of(self, number: int) -> Place | None:
        """The place that a row's number stands for, None where the row is not watched."""
        return self._places[number] if 0 <= number < len(self._places) else None

    def _with_place(self, entry: dict[str, Any]) -> dict[str, Any]:
        number = entry.get("model_conds", {}).get(NUMBER_KEY)
        if number is None:
            return entry
        prompt = int(number.cond.flatten()[0])
        place = None if prompt == _UNWATCHED else Place(prompt - 1, _area_of(entry))
        if place not in self._places:
            self._places.append(place)
        at = self._places.index(place)
        return {**entry, "model_conds": {**entry["model_conds"], NUMBER_KEY: _numbered(at)}}


def _area_of(entry: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of an area of a picture, as the host has resolved it by then."""
    area = entry.get("area")
    if area is None or len(area) != 4 or not all(isinstance(side, int) for side in area):
        return None
    height, width, top, left = area
    return top, left, height, width


def _numbered(number: int) -> CONDRegular:
    return CONDRegular(torch.tensor([[number]]))


def speaking_of_words(clip: CLIP, model: ModelPatcher) -> tuple[CLIP, ModelPatcher]:
    """Return clones of a CLIP and a MODEL of which the second knows the words of the prompts that the first encodes."""
    notes, noting, knowing = PromptNotes(()), clip.clone(), model.clone()
    take_notes(noting, notes)
    pass_on_notes(knowing, notes)
    return noting, knowing
