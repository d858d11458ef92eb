"""What a picture of a thing is compared with: every thing of the world, and the plain looks of a category."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..world.colours import NAMES
from ..world.looks import PATTERNS, plain_look
from ..world.scenes import Placed, Scene, random_scene, render
from ..world.things import THINGS, thing_pictures


def thing_tensors(name: str, count: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures [count, 3, 128, 128] and true masks [count, 128, 128] of a thing, in 0..1."""
    drawn = thing_pictures(name, count, seed)
    return (
        torch.stack([_tensor(picture).movedim(-1, 0) for picture, _ in drawn]),
        torch.stack([_tensor(mask) for _, mask in drawn]),
    )


def plain_tensors(category: str, colour: str, pattern: str = "plain", count: int = 3, seed: int = 0) -> Tensor:
    """Pictures [count, 3, 128, 128] of the object that "`colour` `pattern` `category`" describes."""
    rng = np.random.default_rng([seed, *f"{category} {colour} {pattern}".encode()])
    scenes = [
        random_scene(rng, Placed(category, plain_look(colour, pattern, rng), colour, pattern)) for _ in range(count)
    ]
    return _rendered(scenes)


def thing_scenes(name: str, count: int, seed: int = 1) -> Tensor:
    """Pictures [count, 3, 128, 128] of a thing in scenes of every kind: accessories, second objects, sizes, places."""
    rng = np.random.default_rng([seed, *name.encode()])
    return _rendered([random_scene(rng, THINGS[name].placed()) for _ in range(count)])


def candidate_pictures(patterns: tuple[str, ...] = PATTERNS[:1], count: int = 3) -> dict[str, Tensor]:
    """Pictures of every candidate look: all things by their names, and each plain look of their categories, such as
    "red plain teddy"."""
    pictures = {name: thing_tensors(name)[0] for name in THINGS}
    for category in sorted({thing.category for thing in THINGS.values()}):
        for colour in NAMES:
            for pattern in patterns:
                pictures[f"{colour} {pattern} {category}"] = plain_tensors(category, colour, pattern, count)
    return pictures


def _rendered(scenes: list[Scene]) -> Tensor:
    return torch.stack([_tensor(render(scene)[0]).movedim(-1, 0) for scene in scenes])


def _tensor(picture: object) -> Tensor:
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)
