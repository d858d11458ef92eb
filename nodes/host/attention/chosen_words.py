"""The words of a recorded run, and the maps of those that are asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ....perfusion_core.attention_record import AttentionRecord
from ....perfusion_core.errors import PerfusionError, quoted
from ..text.prompt_words import PromptWord
from .recording import RecordedAttention
from .run_prompts import RunPrompt

# What is not shown where nothing is asked for.
_LITTLE_WORDS = {"a", "an", "the", "of", "on", "in", "at", "to", "and", "or", "with", "by", "for", "is", "it"}


class LayerChoice(NamedTuple):
    """Which of the recorded maps to use: by how much smaller than the latent they are, all where empty; and the part of
    the run, 0 to 1."""

    scales: tuple[int, ...] = ()
    start: float = 0.0
    end: float = 1.0


def recorded_run(recorded: RecordedAttention) -> AttentionRecord:
    """The maps of the run that was made last.  Raises PerfusionError where there are none, or no words are known."""
    if recorded.record is None or not recorded.record.scales():
        raise PerfusionError(
            "The input maps expected the maps of a sampling run, but none was recorded; sample with the model that"
            " comes out of Record Attention, and connect the pictures of that sampler."
        )
    if not words_of_run(recorded):
        raise PerfusionError(
            "The input maps expected to know the words of the prompts, but these were encoded by another CLIP; encode"
            " them with the CLIP of Apply Perfusion Concepts (Gate), or with that of Record Attention."
        )
    return recorded.record


def words_of_run(recorded: RecordedAttention) -> list[str]:
    """All words of the watched prompts, each once, in their order."""
    return [*dict.fromkeys(word.text for prompt in recorded.prompts for row in prompt.rows for word in row)]


def asked_for(recorded: RecordedAttention, text: str) -> list[str]:
    """The words or phrases that a text asks for, separated by commas; where it is empty, concepts, and then all but
    little words.  Raises PerfusionError for one that is in no prompt."""
    known = words_of_run(recorded)
    asked = [*dict.fromkeys(" ".join(part.lower().split()) for part in re.split(r"[,;\n]", text) if part.strip())]
    if not asked:
        concepts = [word for word in known if word.startswith("<")]
        others = [word for word in known if word not in concepts and word[0].isalnum() and word not in _LITTLE_WORDS]
        return concepts + others
    for phrase in asked:
        if not any(_tokens_of(phrase, row) for prompt in recorded.prompts for row in prompt.rows):
            raise PerfusionError(
                f"The input words expected words of the prompts ({', '.join(known[:24])}), but found {quoted(phrase)};"
                " write some of these, separated by commas."
            )
    return asked


def maps_of(recorded: RecordedAttention, phrase: str, layers: LayerChoice) -> Tensor:
    """Maps [P, h, w] of the share of attention that a word or phrase got, at the size of the latent."""
    record = recorded_run(recorded)

    def tokens(prompt: int, picture: int) -> Sequence[int]:
        rows: RunPrompt = recorded.prompts[prompt]
        return _tokens_of(phrase, rows.rows[picture % len(rows.rows)])

    return record.word_maps(tokens, layers.scales, layers.start, layers.end)


def _tokens_of(phrase: str, words: Sequence[PromptWord]) -> list[int]:
    """The positions of a phrase's tokens, wherever its words stand one after the other."""
    parts = phrase.split()
    found: list[int] = []
    for start in range(len(words) - len(parts) + 1):
        here = words[start : start + len(parts)]
        if [word.text for word in here] == parts:
            found += [position for word in here for position in word.positions]
    return [*dict.fromkeys(found)]
