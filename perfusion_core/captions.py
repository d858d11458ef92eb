"""A built-in corpus of captions on which text statistics are measured when no others are given.

Made from a grammar and word lists of our own.  It covers kinds of things, their looks, places, doings and styles,
because
the second moment C only has to know which directions everyday prompts use.
"""

from __future__ import annotations

import random
from itertools import product

KINDS = (
    "dog cat teddy bear horse bird fish rabbit cow elephant lion frog duck robot doll man woman child boy girl king "
    "chef dancer "
    "car truck bus train bicycle boat ship plane house castle tower bridge church tree flower cactus mountain river "
    "star ball "
    "cup mug teapot pot bottle bowl vase plate chair table lamp sofa bed clock book backpack shoe hat glasses toy "
    "guitar piano "
    "camera phone computer cake pizza apple banana bread sculpture statue painting barn umbrella kite drum candle "
    "basket"
).split()
LOOKS = (
    "red orange yellow green blue purple white brown black grey pink golden silver striped dotted checkered plain "
    "furry shiny old "
    "new tiny small big huge round broken wooden metal glass paper soft colorful dark bright happy sad sleepy wet "
    "ancient modern"
).split()
PLACES = (
    "on the beach",
    "in the snow",
    "on the grass",
    "at night",
    "in a pink room",
    "in a grey studio",
    "in the forest",
    "in a city street",
    "on a table",
    "in the kitchen",
    "under water",
    "on top of a mountain",
    "in front of a castle",
    "in a garden",
    "at sunset",
    "in the rain",
    "on the moon",
    "in a library",
    "in the desert",
    "by the fire",
    "on the left",
    "on the right",
    "in times square",
)
DOINGS = (
    "with a hat",
    "with a scarf",
    "wearing a hat",
    "wearing a scarf",
    "wearing sunglasses",
    "reading a book",
    "playing with a ball",
    "riding a bicycle",
    "sleeping",
    "dancing",
    "in a chef outfit",
    "dressed as a superhero",
    "sitting on a chair",
    "eating an apple",
    "made of glass",
    "made of gold",
    "covered in flowers",
    "floating in the air",
    "holding an umbrella",
    "swimming",
    "flying",
)
STYLES = (
    "a photo of {}",
    "a good photo of {}",
    "the photo of {}",
    "image of {}",
    "A photograph of {}",
    "{} shown in a photo",
    "a picture of {}",
    "a painting of {}",
    "an oil painting of {}",
    "a watercolor of {}",
    "a drawing of {}",
    "an icon of {}",
    "a close up of {}",
    "a 3d render of {}",
    "{}",
    "{}, high quality",
    "a poster of {}",
    "pixel art of {}",
    "a sketch of {}",
)
RELATIONS = ("beside", "next to", "and", "behind", "in front of", "on top of")


def built_in_captions(count: int = 2000, seed: int = 0) -> list[str]:
    """`count` captions, the same for the same seed; most are different from each other.

    Every kind occurs about equally often, with none to two looks, and half of the captions name a second thing, a place
    or a doing each.
    """
    draw = random.Random(seed)
    kinds = [kind for _, kind in zip(range(count), (kind for _, kind in product(range(count), KINDS)), strict=False)]
    draw.shuffle(kinds)
    captions = []
    for kind in kinds:
        looks = draw.sample(LOOKS, draw.choice((0, 1, 1, 2)))
        phrase = " ".join([draw.choice(("a", "a", "the", "one")), *looks, kind])
        if draw.random() < 0.4:
            phrase += f" {draw.choice(DOINGS)}"
        if draw.random() < 0.3:
            phrase += f" {draw.choice(RELATIONS)} a {draw.choice(LOOKS)} {draw.choice(KINDS)}"
        if draw.random() < 0.5:
            phrase += f" {draw.choice(PLACES)}"
        captions.append(draw.choice(STYLES).format(phrase))
    return captions
