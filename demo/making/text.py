"""Captions as token numbers: the stock BPE vocabulary cut down to the words of the demo world.

A table of all 49,408 embeddings would be 12 MB of rows that no caption uses; so training and file hold the used rows
only (`vocabulary.json` lists their numbers) and loading spreads them over a table of the full height.
"""

from __future__ import annotations

import json
import re

import torch

from ..model import WEIGHTS
from ..world import backgrounds, captions, colours, looks, objects, shapes

VOCABULARY_FILE = WEIGHTS / "vocabulary.json"
START, END = 49406, 49407
# Words of the paper's nine training templates and of everyday prompts that `captions` does not use by itself.
EXTRA_WORDS = (
    "a an the of in on at with and beside next to by wearing photo photos good image photograph picture shown A , . "
    "small big left right toy two"
)


def world_words() -> list[str]:
    """Every word and punctuation mark that a caption of the world can contain."""
    texts = [
        *captions.FRAMES,
        *backgrounds.PHRASES.values(),
        *colours.NAMES,
        *colours.FREE_NAMES,
        *looks.PATTERNS,
        *looks.SCHEMES,
        *objects.ACCESSORIES,
        *shapes.CATEGORIES,
        EXTRA_WORDS,
    ]
    return sorted(set(re.findall(r"[A-Za-z]+|[^\sA-Za-z{}]", " ".join(texts))))


class CaptionTokens:
    """Turns captions into rows of the compact table, one word at a time (BPE never joins words, so this is exact)."""

    def __init__(self, length: int) -> None:
        from comfy.sd1_clip import SDTokenizer

        self.length = length
        tokenizer = SDTokenizer()
        self._of_word = {word: tokenizer.tokenizer(word)["input_ids"][1:-1] for word in world_words()}
        numbers = sorted({number for numbers in self._of_word.values() for number in numbers})
        self.vocabulary = [START, END, *numbers]
        self._row = {number: row for row, number in enumerate(self.vocabulary)}

    def numbers(self, text: str) -> list[int]:
        """The stock tokenizer's numbers for `text`, without start, end and padding."""
        return [number for word in re.findall(r"[A-Za-z]+|[^\sA-Za-z]", text) for number in self._of_word[word]]

    def row_of(self, word: str) -> int:
        """The row of a word that is one token."""
        (number,) = self._of_word[word]
        return self._row[number]

    def rows(self, texts: list[str]) -> torch.Tensor:
        """Rows of the compact table, int64 [len(texts), length], padded with the end token as SD does."""
        result = torch.full((len(texts), self.length), self._row[END])
        for target, text in zip(result, texts, strict=True):
            numbers = [START, *self.numbers(text)][: self.length - 1]
            target[: len(numbers)] = torch.tensor([self._row[number] for number in numbers])
        return result

    def save(self) -> None:
        """Write the vocabulary next to the weights."""
        VOCABULARY_FILE.parent.mkdir(exist_ok=True)
        VOCABULARY_FILE.write_text(json.dumps(self.vocabulary))
