"""Captions: sentences that state a random part of a scene, or all of it."""

from __future__ import annotations

import numpy as np

from .backgrounds import PHRASES
from .colours import rough_name
from .scenes import Placed, Scene

# The first nine are the templates of the paper's training (docs/method.md), so that the model knows their words.
FRAMES = (
    "a photo of {}",
    "a good photo of {}",
    "the photo of {}",
    "image of {}",
    "A photograph of {}",
    "{} shown in a photo",
    "A photo of {}",
    "a picture of {}",
    "{}",
    "{}",
    "{}",
    "{}",
)

SECOND_OBJECT = 0.2  # power of the share of captions that state a second object: .8 becomes .956


def caption(scene: Scene, rng: np.random.Generator, detail: float = 0.8, free_looks: bool = False) -> str:
    """A caption that states each attribute with probability `detail` (1 states them all).

    A second object is stated nearly always: a model that has seen many unsaid ones adds them where nobody asked.

    free_looks: state also what words can say of a free look, its scheme and its two main colours by their rough names;
    by default captions pass over free looks.
    """

    def said(share: float = detail) -> bool:
        return bool(rng.random() < share)

    subject = [scene.size] if scene.size and said() else []
    subject += _described(scene.main, said(), said(), free_looks)
    phrase = f"{rng.choice(('a', 'a', 'a', 'the'))} {' '.join(subject)}"
    if scene.accessory != "none" and said():
        phrase += f" {rng.choice(('with a', 'wearing a'))} {scene.accessory}"
    if scene.place and said():
        phrase += f" on the {scene.place}"
    if scene.second is not None and said(detail**SECOND_OBJECT):
        other = " ".join(_described(scene.second, said(), False, free_looks))
        phrase += f" {rng.choice(('beside', 'next to', 'and'))} a {other}"
        if rng.random() < 0.25:
            phrase += f" on the {scene.second_side}"
    if said():
        place = PHRASES[scene.background]
        if rng.random() < 0.15:
            return with_article(f"{place}, {phrase}")
        phrase = f"{phrase}{rng.choice((' ', ' ', ', '))}{place}"
    return with_article(str(rng.choice(FRAMES)).format(phrase))


def full_caption(scene: Scene) -> str:
    """The one plain sentence that states every attribute of the scene."""
    words = ([scene.size] if scene.size else []) + _described(scene.main, True, True)
    text = "a photo of a " + " ".join(words)
    if scene.accessory != "none":
        text += f" with a {scene.accessory}"
    if scene.place:
        text += f" on the {scene.place}"
    if scene.second is not None:
        text += " beside a " + " ".join(_described(scene.second, True, False))
    return with_article(f"{text} {PHRASES[scene.background]}")


def rough_words(placed: Placed) -> str:
    """All that words say of an object with a free look, such as "banded pale teal and white cup"."""
    return " ".join(_described(placed, True, True, free_looks=True))


def with_article(text: str) -> str:
    """The text with "a" before "orange" turned into "an"."""
    return text.replace("a orange", "an orange")


def _described(placed: Placed, say_colour: bool, say_pattern: bool, free_looks: bool = False) -> list[str]:
    if free_looks and not placed.colour:
        look = placed.look
        words = [look.scheme] if say_pattern else []
        words += [rough_name(look.primary)] if say_colour else []
        words += ["and"] if say_colour and say_pattern else []
        words += [rough_name(look.secondary)] if say_pattern else []
        return [*words, placed.category]
    words = [placed.colour] if placed.colour and say_colour else []
    words += [placed.pattern] if placed.pattern not in ("", "plain") and say_pattern else []
    return [*words, placed.category]
