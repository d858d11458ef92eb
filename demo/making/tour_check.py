"""Do the pictures of the quick tour show what was asked for?  Read by the recogniser, which needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image

from ..world.things import THINGS
from .candidates import candidate_pictures
from .recogniser import Reading, load_recogniser

# Scenes that no training picture shows, and what has to be read in them.
SCENES: dict[str, Callable[[Reading], bool]] = {
    "a photo of a {} on the beach": lambda seen: seen.background == "beach",
    "a photo of a {} in the snow": lambda seen: seen.background == "snow",
    "a photo of a {} with a hat on the grass": lambda seen: (seen.background, seen.accessory) == ("grass", "hat"),
}


class WrongPicturesError(RuntimeError):
    """A picture does not show what it should; the message says which, and what was read in it."""


def check(thing: str, pictures: Mapping[str, Image.Image]) -> str:
    """Read one picture of each scene and return a sentence about them.

    Raises WrongPicturesError unless in each the thing is nearer to itself than to every other thing and every look that
    words describe, and the scene is the one that was asked for.
    """
    recogniser = load_recogniser()
    candidates = recogniser.candidates(candidate_pictures())
    tensors = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures.values()])).float() / 255
    readings, nearest = recogniser.read(tensors), recogniser.nearest(tensors, candidates)
    faults = []
    for scene, seen, like in zip(pictures, readings, nearest, strict=True):
        category = THINGS[thing].category
        if seen.category != category or like != thing:
            faults.append(f"{scene!r} shows a {seen.category} like {like}, not the {category} {thing}")
        if not SCENES[scene](seen):
            faults.append(f"{scene!r} shows it before {seen.background} with accessory {seen.accessory}")
    if faults:
        raise WrongPicturesError(f"The pictures of the tour are not what was asked for: {'; '.join(faults)}.")
    return f"<{thing}> in {len(pictures)} new scenes, all recognised"
