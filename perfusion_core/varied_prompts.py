"""How similar a word is to its concept in many prompts, and which bias the gate so wants.

The prompts differ in where and how often the word stands; they are plain, so that every text encoder knows their words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .concept import RECOMMENDED_BIAS, RECOMMENDED_BIAS_OF_FORM
from .edit import similarity

KEY = "word_similarity"  # of what is said here, among a concept's training settings

VARIED_PROMPTS = (
    # The word first.
    "{}",
    "{} on the beach",
    "{} in the snow at night",
    "{}, a good photo",
    "{} with a hat, in a grey studio",
    "{} beside a red ball on the grass",
    "{}, snow, night",
    # Behind a few words.
    "a {}",
    "the {} in a pink room",
    "a photo of a {}",
    "a photo of a {} on the beach",
    "a good photo of the {} at night",
    "image of a {}, in a plain studio",
    "a picture of a small {} next to a tree",
    "A photograph of {} in the snow",
    "a red {} with a scarf",
    "photos of the big {} by a house",
    # Between commas.
    "night, snow, {}, tree",
    "a good photo, {}, beach",
    "photo, {}, a red ball, a blue cup, grass",
    "beach, {}",
    # Behind about twenty words.
    "a good photo of a big red ball and a small blue cup next to a green tree on the beach with a {}",
    "a picture of a white house by a tree in the snow at night, next to a yellow car, with the {}",
    "a photo of the beach at night with two red cups, a blue ball, a green car and a big {}",
    "on the grass, next to a small tree, beside a white house with a red car, at night, a photo of {}",
    "a dark room with a red ball on the right, a blue cup on the left and in the room a {}, photo",
    # Twice.
    "a {0} beside a {0}",
    "{0} and {0} in the snow",
    "a photo of a {0} with a hat, the {0} on the grass",
    "a small {0} on the left, a big {0} on the right, in a studio",
)


@dataclass(frozen=True)
class WordSimilarity:
    """The similarity of a word to its concept by itself: over so many prompts, the middle one and the extremes."""

    prompts: int
    median: float
    lowest: float
    highest: float

    def recorded(self) -> dict[str, Any]:
        """As a concept's training settings say it."""
        return {KEY: asdict(self)}

    def text(self) -> str:
        """For people."""
        return f"similarity {self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f} in {self.prompts} prompts)"


def measured_similarity(
    encodings: Tensor, positions: Tensor, target_input: Tensor, inverse_target_input: Tensor
) -> WordSimilarity:
    """Measure it in encodings of prompts, [T, N, d], at the positions of the word, bool [T, N]."""
    found = similarity(encodings, target_input, inverse_target_input)
    each = torch.stack([row[at].mean() for row, at in zip(found, positions, strict=True)])
    # Rounded, since the last digits depend on the machine.
    median, lowest, highest = (round(number.item(), 3) for number in (each.median(), each.min(), each.max()))
    return WordSimilarity(len(each), median, lowest, highest)


def recorded_similarity(training: Mapping[str, Any]) -> WordSimilarity | None:
    """What a concept's training settings say of it; None where they say nothing, or something else."""
    found = training.get(KEY)
    if not isinstance(found, Mapping):
        return None
    try:
        return WordSimilarity(int(found["prompts"]), *(float(found[name]) for name in ("median", "lowest", "highest")))
    except (TypeError, ValueError, KeyError, OverflowError):
        return None


def recommended_bias(form: str, measured: WordSimilarity | None) -> float:
    """The bias that lies as far below the word's similarity, as the gate measures it, as the recommended one below 1.

    Relative to the word itself that is 1 in every prompt; the form paper measures plainly.
    """
    if form != "paper":
        return RECOMMENDED_BIAS
    if measured is None:
        return RECOMMENDED_BIAS_OF_FORM[form]
    return round(measured.median - (1 - RECOMMENDED_BIAS), 2)
