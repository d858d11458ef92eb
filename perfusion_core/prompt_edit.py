"""What an edit of a prompt asks for, and the two small notations in which people write it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .errors import PerfusionError, quoted

# A span of a sampling run, as start and end percent of the host: 0 is the first step, 1 the last.
Window = tuple[float, float]

ARROW = "->"
LOWEST_WEIGHT, HIGHEST_WEIGHT = -2.0, 3.0

# Where an edit may change the picture: where the words are, everywhere but there, or everywhere.
AT_THE_WORDS, AROUND_THE_WORDS, EVERYWHERE = "at the words", "around the words", "everywhere"
PLACES = (AT_THE_WORDS, AROUND_THE_WORDS, EVERYWHERE)

# Words that say nothing about where something is.
FUNCTION_WORDS = "a an the of in on at with and or to by is wearing beside next , ."


@dataclass(frozen=True)
class WordSetting:
    """A word of the edited prompt: its weight, and when it takes the source's attention (None: as the whole prompt)."""

    word: str
    weight: float = 1.0
    window: Window | None = None


@dataclass(frozen=True)
class LocalBlend:
    """Where an edit may change the picture, as the model's own attention to words sees it.

    words: phrases of either prompt; none: the words that differ.  around: the other way round, everywhere but there.
    threshold: 0..1 between the mean of the background, 0, and that of the thing, 1.  softness: width of the soft edge
    on that scale.  window: the steps in which it acts.
    """

    words: tuple[str, ...] = ()
    around: bool = False
    threshold: float = 0.25
    softness: float = 0.4
    window: Window = (0.2, 1.0)


@dataclass(frozen=True)
class PromptEdit:
    """An edited prompt beside its source.

    text: the whole edited prompt, or replacements such as "teddy -> <hugsy>"; "" for the source's own text.
    cross, own: when the words, and when the places of the picture among themselves, take the source's attention.
    """

    text: str = ""
    cross: Window = (0.0, 0.4)
    own: Window = (0.0, 0.4)
    words: tuple[WordSetting, ...] = ()
    blend: LocalBlend | None = LocalBlend()


def edited_text(source: str, text: str) -> str:
    """The edited prompt: `text`, with every line of the form "old -> new" taken for a replacement in the source.

    Raises PerfusionError where what is to be replaced does not stand in the source.
    """
    if not text.strip():
        return source
    if ARROW not in text:
        return text.strip()
    edited = source
    for line in filter(None, (part.strip() for part in text.replace(";", "\n").splitlines())):
        old, arrow, new = (part.strip() for part in line.partition(ARROW))
        if not arrow or not old or old not in edited:
            raise PerfusionError(
                f"The edit {quoted(line)} expected words of the prompt before {ARROW}, but the prompt is"
                f" {quoted(edited)}; write them as they stand there, such as teddy {ARROW} <hugsy>."
            )
        edited = _replaced(edited, old, new)
    return edited


def _replaced(text: str, old: str, new: str) -> str:
    """The text with `new` for every whole word `old`; where it stands only inside of words, there."""
    whole = rf"(?<!\w){re.escape(old)}(?!\w)"
    return re.sub(whole, lambda _: new, text) if re.search(whole, text) else text.replace(old, new)


def read_words(text: str) -> tuple[WordSetting, ...]:
    """The settings in lines such as "hat = 2" or "hat = 1, 0, 0.8": a weight, and start and end percent.

    Raises PerfusionError for a line of another form and for numbers out of their range.
    """
    settings = []
    for line in filter(None, (part.strip() for part in text.replace(";", "\n").splitlines())):
        word, _, numbers = line.rpartition("=")
        try:
            weight, *window = (float(number) for number in numbers.split(","))
        except ValueError:
            weight, window = math.nan, []
        in_range = LOWEST_WEIGHT <= weight <= HIGHEST_WEIGHT and all(0 <= end <= 1 for end in window)
        if not word.strip() or not in_range or len(window) not in (0, 2):
            raise PerfusionError(
                "The input words expected lines such as hat = 2, or hat = 1, 0, 0.8 with start and end percent, and"
                f" weights from {LOWEST_WEIGHT:g} to {HIGHEST_WEIGHT:g}, but found {quoted(line)}; write it so."
            )
        settings.append(WordSetting(word.strip(), weight, (window[0], window[1]) if window else None))
    return tuple(settings)


def read_phrases(text: str) -> tuple[str, ...]:
    """Phrases separated by commas, semicolons or lines."""
    return tuple(filter(None, (part.strip() for part in text.replace(";", ",").replace("\n", ",").split(","))))
