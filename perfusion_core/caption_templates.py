"""The texts that a word is learned in: templates for every picture, or captions of single pictures in their place.

A template names the thing and nothing else, so whatever else all pictures share is learned with it.  What a caption
says of the rest of its picture, the model already knows words for, and it is not learned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from .errors import PerfusionError
from .training_batch import Batch

# Of the paper's training, as its re-implementations list them (docs/method.md, "Training").
TEMPLATES = (
    "a photo of a {}",
    "a good photo of a {}",
    "the photo of a {}",
    "a good photo of the {}",
    "image of a {}",
    "image of the {}",
    "A photograph of {}",
    "A {} shown in a photo",
    "A photo of {}",
)
# None of the paper's begins with the word, whose encoding there differs most from all others.
WORD_FIRST = ("{}", "{} shown in a photo", "{}, a good photo")


def caption_templates(captions: Sequence[str], word: str, superclass: str) -> list[str | None]:
    """A template for each caption, with {0} where the word is; None for an empty one, which leaves the templates.

    A caption holds the word or {} in its place.  Raises PerfusionError for one that holds neither.
    """
    return [_template(caption, number, word, superclass) for number, caption in enumerate(captions, start=1)]


def _template(caption: str, number: int, word: str, superclass: str) -> str | None:
    if not caption:
        return None
    parts = re.split(re.escape(word) + r"|\{\}", caption, flags=re.IGNORECASE)
    if len(parts) == 1:
        place = f"in place of {superclass!r}" if superclass and superclass in caption else "where the thing is named"
        raise PerfusionError(
            f"The caption of picture {number} needs the word {word} or {{}} in its place, but it is {caption!r};"
            f" write one of them {place}."
        )
    return "{0}".join(part.replace("{", "{{").replace("}", "}}") for part in parts)


def with_captions(
    batch: Batch, templates: Sequence[str], captions: Sequence[str | None]
) -> tuple[Batch, Sequence[str]]:
    """The batch with the captions of its pictures in the place of its templates, and the texts that it then indexes.

    captions: by picture, see `caption_templates`; empty leaves all as it is.
    """
    if not any(captions):
        return batch, templates
    own = torch.tensor([-1 if caption is None else len(templates) + i for i, caption in enumerate(captions)])
    own = own[batch.pictures.cpu()]
    chosen = torch.where(own >= 0, own, batch.templates)
    return replace(batch, templates=chosen), [*templates, *(caption or "" for caption in captions)]
