"""A built-in corpus of captions on which text statistics are measured when no others are given.

Made from a small grammar and word lists of our own (`captions_words`). It covers people, animals, things, buildings,
plants, food, scenes and ideas; their looks, materials, places, doings; and how pictures are made: the second moment C
has to know which directions everyday prompts use, and how they vary together.  Every fourth describes its picture at
length, as people write for SDXL: encodings late in a prompt differ from those at its beginning.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from . import captions_words as words

# Under this key a text encoder may carry a function that gives captions of its own world, as the demo model's does.
CAPTIONS_ATTACHMENT = "perfusion_for_comfyui.captions"

# The nine templates of the paper's training and other plain frames, which most prompts begin with.
FRAMES = (
    "a photo of {}",
    "a good photo of {}",
    "the photo of {}",
    "image of {}",
    "A photograph of {}",
    "{} shown in a photo",
    "A photo of {}",
    "a picture of {}",
    "a close up of {}",
    "a portrait of {}",
    "this is {}",
    "a cropped photo of {}",
    "a rendering of {}",
    "photo of {}",
)
IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "lady": "ladies", "child": "children", "person": "people", "baby": "babies",
    "mouse": "mice", "goose": "geese", "sheep": "sheep", "deer": "deer", "moose": "moose", "salmon": "salmon",
    "wolf": "wolves", "calf": "calves", "knife": "knives", "shelf": "shelves", "scarf": "scarves", "leaf": "leaves",
    "loaf of bread": "loaves of bread", "elf": "elves", "dwarf": "dwarves", "aircraft": "aircraft", "dice": "dice",
    "scissors": "scissors", "buffalo": "buffalo", "squid": "squid",
    "reindeer": "reindeer", "broccoli": "broccoli", "bamboo": "bamboo", "ivy": "ivy", "lavender": "lavender",
}  # fmt: skip


# Of a long caption, in words and commas; about as many tokens, so that most end within CLIP's 75.
LONG = (54, 70)


class _Kind(NamedTuple):
    """Nouns of one kind, with what may be said of them; `weight` is how often the kind is drawn."""

    weight: int
    nouns: Sequence[str]
    looks: Sequence[Sequence[str]]
    doings: Sequence[str]


_KINDS = (
    _Kind(5, words.PEOPLE, (words.MOODS,), words.PEOPLE_DOINGS),
    _Kind(5, words.ANIMALS, (words.MOODS, words.SIZES, words.COLOURS, words.PATTERNS), words.ANIMAL_DOINGS),
    _Kind(2, words.TOYS, (words.SIZES, words.COLOURS, words.MADE, words.LOOKS), words.ANIMAL_DOINGS),
    _Kind(6, words.THINGS, (words.SIZES, words.COLOURS, words.MADE, words.LOOKS, words.PATTERNS), words.THING_STATES),
    _Kind(2, words.CLOTHES, (words.COLOURS, words.PATTERNS, words.LOOKS), words.THING_STATES),
    _Kind(3, words.VEHICLES, (words.SIZES, words.COLOURS, words.LOOKS), words.VEHICLE_DOINGS),
    _Kind(3, words.BUILDINGS, (words.SIZES, words.COLOURS, words.LOOKS, words.SCENE_LOOKS), words.BUILDING_STATES),
    _Kind(2, words.PLANTS, (words.SIZES, words.COLOURS), words.PLANT_STATES),
    _Kind(3, words.FOODS, (words.SIZES, words.COLOURS, words.TASTES), words.FOOD_STATES),
)
_LIVING = _KINDS[:3]


def built_in_captions(count: int = 20_000, seed: int = 0) -> list[str]:
    """`count` captions, all different, the same for the same seed; more of them begin with the same ones.

    Every list of words is gone through like a shuffled deck of cards, so that a few thousand captions use every word
    about as often as the others of its list.
    """
    return list(islice(_distinct(_Writer(random.Random(seed))), count))


def _distinct(writer: _Writer) -> Iterator[str]:
    seen = set()
    while True:
        caption = writer.caption()
        if caption not in seen:
            seen.add(caption)
            yield caption


class _Writer:
    """Writes captions; holds the decks of words that are left."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._decks: dict[int, list] = {}
        self._forms = [form for form, weight in self._weighted_forms() for _ in range(weight)]
        self._kinds = [kind for kind in _KINDS for _ in range(kind.weight)]

    def caption(self) -> str:
        """One caption, short or long."""
        return self._long() if self._choose((False, False, False, True)) else self._short()

    def _short(self) -> str:
        """A sentence of some form, with no, one or two remarks on how the picture is made."""
        text = self._card(self._forms)()
        kinds_of_remarks = self._draw.choices((words.QUALITIES, words.LIGHTS), k=self._choose((0, 0, 0, 1, 2)))
        remarks = [self._card(entries) for entries in kinds_of_remarks]
        return ", ".join([text, *remarks])

    def _long(self) -> str:
        """Sentences, or phrases between commas, and remarks on how the picture is made, up to a length."""
        length, in_sentences = self._draw.randint(*LONG), self._choose((True, False))
        remarks = [self._card(self._choose((words.QUALITIES, words.LIGHTS))) for _ in range(self._draw.randint(2, 6))]
        ending = ", ".join(["", *dict.fromkeys(remarks)])
        parts = [self._card(self._forms)()]
        while True:
            written = ". ".join(map(_capitalised, parts)) if in_sentences else ", ".join(parts)
            parts.append(self._card(self._forms)())
            longer = f"{written}, {parts[-1]}{ending}"
            if len(longer.split()) + longer.count(",") > length:
                return written + ending

    def _weighted_forms(self) -> list[tuple]:
        return [
            (self._framed, 6),
            (self._plain, 4),
            (self._sentence, 3),
            (self._pair, 4),
            (self._picture, 4),
            (self._scene, 3),
            (self._material, 2),
            (self._outfit, 2),
            (self._event, 1),
            (self._idea, 1),
        ]

    # --- forms of captions -------------------------------------------------------------------------------------------

    def _framed(self) -> str:
        return self._card(FRAMES).format(self._subject())

    def _plain(self) -> str:
        kind = self._card(self._kinds)
        text = self._noun(kind, self._choose((0, 0, 1)), plural=self._choose((False, False, True)))
        return self._somewhere(f"{text} {self._card(kind.doings)}", self._choose((0, 1)))

    def _sentence(self) -> str:
        kind = self._card(self._kinds)
        if self._choose((True, False)):
            text = f"{self._noun(kind, self._choose((0, 1)), article='the')} is {self._card(kind.doings)}"
            return _capitalised(self._somewhere(text, self._choose((0, 1))))
        return self._somewhere(f"There is {self._noun(kind, self._choose((0, 1)))}", 1)

    def _pair(self) -> str:
        text = f"{self._subject(0)} {self._card(words.RELATIONS)} {self._subject(0)}"
        text = self._somewhere(text, self._choose((0, 1)))
        return self._card(FRAMES).format(text) if self._choose((True, False)) else text

    def _picture(self) -> str:
        medium = self._card(words.MEDIA)
        styled = f"{self._card(words.STYLES)} {medium}" if self._choose((False, True)) else medium
        text = f"{_with_article(styled)} of {self._subject()}"
        return f"{text} by {self._card(words.ARTISTS)}" if self._choose((True, False, False)) else text

    def _scene(self) -> str:
        looks = self._several(words.SCENE_LOOKS, self._choose((0, 1, 2)))
        text = _with_article(" ".join([*looks, self._card(words.SCENES)]))
        text = f"{text} {self._card(words.TIMES)}" if self._choose((True, False)) else text
        return f"{text} with {self._subject(0)}" if self._choose((True, False)) else text

    def _material(self) -> str:
        noun = self._noun(self._card(self._kinds), 0)
        text = f"{noun} made {self._choose(('of', 'out of', 'from'))} {self._card(words.MATERIALS)}"
        return self._somewhere(text, self._choose((0, 1)))

    def _outfit(self) -> str:
        verb = self._choose(("wearing", "wearing", "with", "dressed in", "holding", "carrying"))
        things = words.THINGS if verb in ("holding", "carrying") else words.CLOTHES
        thing = _with_article(" ".join([*self._several(words.COLOURS, self._choose((0, 1))), self._card(things)]))
        if verb == "dressed in" and self._choose((True, False)):
            verb, thing = "dressed as", _with_article(self._card(words.PEOPLE))
        text = f"{self._noun(self._choose(_LIVING), self._choose((0, 1)))} {verb} {thing}"
        return self._somewhere(text, self._choose((0, 1)))

    def _event(self) -> str:
        return self._somewhere(_with_article(self._card(words.EVENTS)), 1)

    def _idea(self) -> str:
        frame = self._choose(("the idea of {}", "{}", "a symbol of {}", "{} and {}", "a {} about {}", "an icon for {}"))
        if frame == "a {} about {}":
            return f"{_with_article(self._card(words.MEDIA))} about {self._card(words.IDEAS)}"
        return frame.format(*self._several(words.IDEAS, frame.count("{}")))

    # --- parts of captions -------------------------------------------------------------------------------------------

    def _subject(self, most_places: int = 1) -> str:
        """Somebody or something, perhaps doing something somewhere."""
        kind = self._card(self._kinds)
        text = self._noun(kind, self._choose((0, 1, 1, 2)), plural=self._choose((False,) * 5 + (True,)))
        text = f"{text} {self._card(kind.doings)}" if self._choose((True, False, False)) else text
        return self._somewhere(text, min(self._choose((0, 1)), most_places))

    def _noun(self, kind: _Kind, looks: int, article: str = "", plural: bool = False) -> str:
        adjectives = [self._card(self._choose(kind.looks)) for _ in range(looks)]
        noun = self._card(kind.nouns)
        adjectives = [word for word in dict.fromkeys(adjectives) if word not in noun.split()]
        if plural:
            counted = self._card(self._choose((words.COUNTS, words.COUNTS, words.GROUPS)))
            return " ".join([counted, *adjectives, plural_of(noun)])
        text = " ".join([*adjectives, noun])
        return _with_article(text, article or self._choose(("a",) * 8 + ("the",) * 3 + ("one",)))

    def _somewhere(self, text: str, places: int) -> str:
        """The text with a place, or now and then a time or both."""
        if places == 0:
            return text
        where = self._choose(
            ((words.PLACES,), (words.PLACES,), (words.PLACES,), (words.TIMES,), (words.PLACES, words.TIMES))
        )
        return " ".join([text, *(self._card(entries) for entries in where)])

    def _several(self, entries: Sequence[str], count: int) -> list[str]:
        return list(dict.fromkeys(self._card(entries) for _ in range(count)))

    def _choose(self, options: Sequence) -> Any:
        return self._draw.choice(options)

    def _card(self, entries: Sequence) -> Any:
        """The next card of this list's deck, which is shuffled anew whenever it is used up; the lists live for ever."""
        deck = self._decks.setdefault(id(entries), [])
        if not deck:
            deck.extend(entries)
            self._draw.shuffle(deck)
        return deck.pop()


def plural_of(noun: str) -> str:
    """The plural of a noun of the lists: "teddy bear" -> "teddy bears", "bowl of soup" -> "bowls of soup"."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    head, of, rest = noun.partition(" of ")
    before, space, last = head.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        last = IRREGULAR_PLURALS[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    elif last.endswith("man"):
        last = last[:-2] + "en"
    else:
        last += "s"
    return before + space + last + of + rest


def _with_article(text: str, article: str = "a") -> str:
    if article == "a" and re.match(r"(?!one|uni|usu|eu|ukul|ukiyo)[aeiou]|x-ray|8k|hour", text, re.IGNORECASE):
        article = "an"
    return f"{article} {text}"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
