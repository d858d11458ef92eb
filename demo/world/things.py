"""Things: objects with a look of their own, which words describe at best roughly, and pictures of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .backgrounds import BACKGROUNDS
from .looks import Look
from .scenes import Placed, Scene, render


@dataclass(frozen=True)
class Thing:
    """A personal concept: an individual of a category.  `held_out` things are kept away from all tuning."""

    name: str
    category: str
    look: Look
    held_out: bool = False

    def placed(self) -> Placed:
        """The thing as an object that a scene can hold."""
        return Placed(self.category, self.look)


# Drawn once with looks.free_look and written down, so that the things stay the same whatever becomes of that function.
THINGS: dict[str, Thing] = {
    "hugsy": Thing(
        "hugsy",
        "teddy",
        Look((122, 128, 222), (248, 244, 236), (195, 10, 35), "two-tone", "plain", (0.28, 0.29), "round", False),
    ),
    "bruno": Thing(
        "bruno",
        "teddy",
        Look((140, 107, 21), (248, 244, 236), (239, 31, 139), "two-tone", "plain", (0.28, 0.29), "round", False),
    ),
    "mopsy": Thing(
        "mopsy",
        "teddy",
        Look((197, 154, 234), (37, 100, 128), (71, 209, 205), "patched", "plain", (-0.28, 0.23), "pointed", False),
        held_out=True,
    ),
    "sippy": Thing(
        "sippy",
        "cup",
        Look((223, 100, 96), (248, 244, 236), (85, 20, 120), "banded", "plain", (-0.28, 0.11), "long", True),
    ),
    "moka": Thing(
        "moka",
        "cup",
        Look((212, 197, 72), (116, 225, 166), (248, 244, 236), "patched", "plain", (0.28, 0.06), "long", False),
        held_out=True,
    ),
    "zippy": Thing(
        "zippy",
        "car",
        Look((113, 206, 133), (143, 28, 214), (248, 244, 236), "split", "plain", (0.28, 0.31), "round", True),
    ),
    "rusty": Thing(
        "rusty",
        "car",
        Look((241, 77, 61), (116, 114, 170), (228, 27, 222), "patched", "plain", (0.28, 0.04), "pointed", False),
        held_out=True,
    ),
    "finny": Thing(
        "finny",
        "fish",
        Look((195, 78, 73), (248, 244, 236), (116, 29, 199), "split", "plain", (-0.28, 0.15), "long", True),
    ),
    "bubbles": Thing(
        "bubbles",
        "fish",
        Look((101, 226, 166), (248, 244, 236), (56, 71, 153), "patched", "plain", (0.28, 0.27), "long", True),
        held_out=True,
    ),
    "cosy": Thing(
        "cosy",
        "house",
        Look((236, 55, 66), (248, 244, 236), (51, 232, 210), "banded", "plain", (0.28, 0.17), "round", False),
    ),
    "twinkle": Thing(
        "twinkle",
        "star",
        Look((220, 136, 55), (186, 65, 237), (7, 19, 131), "patched", "plain", (-0.28, 0.17), "pointed", False),
    ),
    "bouncy": Thing(
        "bouncy",
        "ball",
        Look((199, 16, 51), (167, 146, 229), (65, 144, 45), "banded", "plain", (0.28, -0.03), "round", False),
    ),
}


def varied_scenes(name: str, count: int, seed: int = 0) -> list[Scene]:
    """`count` scenes with the thing, before all backgrounds in turn, in other poses and sizes."""
    rng = np.random.default_rng([seed, *name.encode()])
    order = [*rng.permutation(BACKGROUNDS)]
    return [
        Scene(
            THINGS[name].placed(),
            str(order[i % len(order)]),
            size=("", "big", "", "", "big")[i % 5],
            place=("", "", "left", "right", "")[i % 5],
            seed=int(rng.integers(2**31)),
        )
        for i in range(count)
    ]


def thing_pictures(name: str, count: int, seed: int = 0) -> list[tuple[Image.Image, Image.Image]]:
    """The pictures of these scenes with the thing's true masks."""
    return [render(scene) for scene in varied_scenes(name, count, seed)]
