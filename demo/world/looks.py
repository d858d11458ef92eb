"""A look: how the parts of an object are coloured.  Plain looks can be said in words, free looks cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import colours
from .colours import Colour

PATTERNS = ("plain", "striped", "dotted", "checkered")
SCHEMES = ("two-tone", "split", "patched", "banded")
EARS = ("round", "long", "pointed")


@dataclass(frozen=True)
class Look:
    """Everything about an object's appearance that stays the same from picture to picture.

    primary, secondary, accent: colours of the body, of the secondary parts (ears, handle, roof, ...) and of the
    details.
    scheme: "solid" or one of SCHEMES; says where the secondary colour goes on the body.
    pattern: one of PATTERNS.  patch: centre of the patch in the object's coordinates (-1..1).
    ears: shape of the teddy's ears.  odd: whether one of two twin parts has the accent colour.
    """

    primary: Colour
    secondary: Colour
    accent: Colour
    scheme: str = "solid"
    pattern: str = "plain"
    patch: tuple[float, float] = (0.2, 0.2)
    ears: str = "round"
    odd: bool = False


def plain_look(colour: str, pattern: str, rng: np.random.Generator) -> Look:
    """The look that the words "`colour` `pattern`" describe."""
    primary = colours.jittered(colour, rng)
    secondary = colours.mixed(primary, (20, 20, 40), 0.18)
    return Look(primary, secondary, colours.mixed(primary, (255, 246, 226), 0.72), pattern=pattern)


def free_look(rng: np.random.Generator) -> Look:
    """A look that no caption names: two or three free colours, patches, odd ears."""
    primary = colours.free(rng)
    secondary = _clearly_other(rng, primary)
    accent = _clearly_other(rng, primary, secondary)
    patterned = rng.random() < 0.15
    return Look(
        primary,
        secondary,
        accent,
        scheme=str(rng.choice(SCHEMES)),
        pattern=str(rng.choice(PATTERNS[1:])) if patterned else "plain",
        patch=(float(rng.choice((-0.28, 0.28))), float(rng.uniform(-0.1, 0.35))),
        ears=str(rng.choice(EARS)),
        odd=bool(rng.random() < 0.35),
    )


def _clearly_other(rng: np.random.Generator, *others: Colour) -> Colour:
    while True:
        candidate = colours.free(rng) if rng.random() < 0.85 else (248, 244, 236)
        if all(colours.distance(candidate, other) > 130 for other in others):
            return candidate
