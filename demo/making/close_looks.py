"""Pictures of looks that are easily taken for each other, from which the close reader learns.

A *kind* is all that the question "which of its own kind?" leaves out: category, scheme, and ears where there are any.
Looks come in groups of one kind: a free one, and others that differ from it in one or two of the traits that a picture
of the category shows.  Every picture passes through the autoencoder, as all do that are ever asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..world import colours
from ..world.colours import Colour
from ..world.looks import EARS, PATTERNS, SCHEMES, Look, free_look
from ..world.scenes import Placed, Pose, pose_of, random_scene, render
from ..world.shapes import CATEGORIES
from .close_reader import CROP, boxes_of, cropped
from .recogniser import Recogniser
from .recogniser_data import as_tensor

LOOKS = 4  # in a group
VIEWS = 3  # pictures of each look, in other scenes
ROOM, ROOMY = 1.25, round(1.25 * CROP)  # what is kept of a picture: more than the reader is shown, to move it about
WITH_DETAILS = ("teddy", "car", "house", "fish")  # categories with parts in the accent colour whatever the look
WITH_TWINS = ("teddy", "cup", "car", "house", "fish")  # with a part that is in the accent colour where a look is odd
CLOSE = (45, 130)  # how far the colour of a close look is from the other's, in RGB
RAREST = {"odd": 0.4, "patch": 0.4, "pattern": 0.3}  # how often these traits are drawn; colours are 1


@dataclass(frozen=True)
class Kind:
    """What looks must share to be taken for each other: `ears` is empty but for teddies."""

    category: str
    scheme: str
    ears: str = ""

    def free_look(self, rng: np.random.Generator) -> Look:
        """A free look of this kind."""
        look = replace(free_look(rng), scheme=self.scheme)
        return replace(look, ears=self.ears) if self.ears else look


def kind_of(placed: Placed) -> Kind:
    """The kind of an object."""
    return Kind(placed.category, placed.look.scheme, placed.look.ears if placed.category == "teddy" else "")


KINDS = tuple(
    Kind(category, scheme, ears)
    for category in CATEGORIES
    for scheme in SCHEMES
    for ears in (EARS if category == "teddy" else ("",))
)


def visible_traits(category: str, look: Look) -> list[str]:
    """The traits that can be seen in pictures of an object of this category and look, besides its kind."""
    seen = ["primary", "secondary", "pattern"]
    if category in WITH_DETAILS or (category in WITH_TWINS and look.odd):
        seen.append("accent")
    if category in WITH_TWINS:
        seen.append("odd")
    if look.scheme == "patched":
        seen.append("patch")
    return seen


def close_look(category: str, look: Look, rng: np.random.Generator) -> Look:
    """A look of the same kind that differs from `look` in one or two visible traits."""
    seen = visible_traits(category, look)
    chances = np.array([RAREST.get(trait, 1.0) for trait in seen])
    count = 1 if rng.random() < 0.6 else 2
    for trait in rng.choice(seen, count, replace=False, p=chances / chances.sum()):
        look = replace(look, **{str(trait): _changed(look, str(trait), rng)})
    return look


def _changed(look: Look, trait: str, rng: np.random.Generator) -> object:
    if trait == "odd":
        return not look.odd
    if trait == "pattern":
        return str(rng.choice([pattern for pattern in PATTERNS if pattern != look.pattern]))
    if trait == "patch":
        x, y = look.patch
        return (-x, y)
    return near_colour(getattr(look, trait), rng) if rng.random() < 0.6 else getattr(free_look(rng), trait)


def near_colour(colour: Colour, rng: np.random.Generator) -> Colour:
    """A free colour within CLOSE of `colour`, which a person tells from it side by side."""
    while True:
        candidate = colours.free(rng)
        if CLOSE[0] <= colours.distance(candidate, colour) <= CLOSE[1]:
            return candidate


def group(number: int) -> list[Placed]:
    """The LOOKS objects of group `number`; groups take turns with the kinds."""
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng([number, 31])
    first = kind.free_look(rng)
    looks = [first, *(close_look(kind.category, first, rng) for _ in range(LOOKS - 1))]
    return [Placed(kind.category, look) for look in looks]


@dataclass
class CloseLooks:
    """The main objects of pictures as the autoencoder shows them: crops uint8 [groups, LOOKS, VIEWS, 3, ROOMY, ROOMY],
    the squares float [groups, LOOKS, VIEWS, 3] that were cropped, as `boxes_of` gives them but ROOM times as large, and
    the poses float [groups, LOOKS, VIEWS, 5] of what they show, in the order of the fields of Pose."""

    crops: np.ndarray
    squares: np.ndarray
    poses: np.ndarray


def draw_group(number: int, reconstruct: Callable[[Tensor], Tensor], recogniser: Recogniser) -> CloseLooks:
    """One group, without the dimension of groups.  reconstruct: pictures [B, 3, SIZE, SIZE] in 0..1 to what the
    autoencoder makes of them."""
    rng = np.random.default_rng([number, 32])
    scenes = [random_scene(rng, placed) for placed in group(number) for _ in range(VIEWS)]
    shown = reconstruct(as_tensor(np.stack([np.asarray(render(scene)[0]) for scene in scenes])))
    squares = boxes_of(recogniser.body_mask(shown)) * torch.tensor([1, 1, ROOM])
    crops = (cropped(shown, squares, ROOMY) * 255).round().byte().numpy()
    poses = np.array([pose_numbers(pose_of(scene)) for scene in scenes], dtype=np.float32)
    parts = (crops, squares.numpy(), poses)
    return CloseLooks(*(part.reshape(LOOKS, VIEWS, *part.shape[1:]) for part in parts))


def pose_numbers(pose: Pose) -> list[float]:
    """A pose as numbers, in the order of its fields."""
    return [float(getattr(pose, field.name)) for field in fields(Pose)]


def close_looks(
    cache: Path, groups: int, reconstruct: Callable[[Tensor], Tensor], recogniser: Recogniser
) -> CloseLooks:
    """The first `groups` groups (a multiple of the number of kinds), drawn into the cache where they are not there."""
    files = [cache / f"close-looks-{first:05d}.npz" for first in range(0, groups, len(KINDS))]
    for turn, file in enumerate(files):
        if file.exists():
            continue
        drawn = [draw_group(turn * len(KINDS) + i, reconstruct, recogniser) for i in range(len(KINDS))]
        part = file.with_suffix(".part.npz")
        np.savez(part, **{name: np.stack([vars(each)[name] for each in drawn]) for name in vars(drawn[0])})
        part.replace(file)
    loaded = [np.load(file) for file in files]
    return CloseLooks(*(np.concatenate([each[field.name] for each in loaded]) for field in fields(CloseLooks)))


def colours_of(groups: int) -> tuple[Tensor, Tensor]:
    """The primary, secondary and accent colours [groups, LOOKS, 3, 3] in 0..1, and which of them can be seen, bool
    [groups, LOOKS, 3]."""
    placed = [each for number in range(groups) for each in group(number)]
    looks = [each.look for each in placed]
    shown = torch.tensor([[look.primary, look.secondary, look.accent] for look in looks]).float() / 255
    seen = torch.tensor([[True, True, "accent" in visible_traits(each.category, each.look)] for each in placed])
    return shown.unflatten(0, (groups, LOOKS)), seen.unflatten(0, (groups, LOOKS))
