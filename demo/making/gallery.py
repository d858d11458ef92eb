"""Is it this one?  A thing among many others of its own kind, and how far a picture's object is from each.

The others have the thing's category, scheme and ears and are free in all else.  Each is drawn once, as the autoencoder
shows it, and laid upon the picture's object in the object's own frame; what counts is where they differ in colour.
Nothing is learned in it but the pose.  (Gallery and rank are the words of re-identification.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..world.objects import ACCESSORIES
from ..world.scenes import MIRRORED, Placed, Pose, Scene, render
from .close_looks import kind_of
from .own_frame import in_own_frame, poses_around, unmirrored
from .recogniser_data import as_tensor

OTHERS = 200
SHOWN_IN = Pose(64.0, 64.0, 30.0)
CHUNK = 32
ROUNDS = 3  # of looking around the pose where one of the gallery comes nearest
FARTHEST = 255 * 3**0.5  # from black to white, in RGB


def others_like(placed: Placed, count: int = OTHERS, seed: int = 0) -> list[Placed]:
    """`count` objects of the same kind with free looks; another seed gives others."""
    kind = kind_of(placed)
    rng = np.random.default_rng([seed, 41, *f"{kind.category} {kind.scheme} {kind.ears}".encode()])
    return [Placed(kind.category, kind.free_look(rng)) for _ in range(count)]


@dataclass(frozen=True)
class Gallery:
    """A thing and others of its kind in their own frames; the thing comes first.

    looks [1 + OTHERS, 3, FRAME, FRAME] in 0..1.  seen [len(ACCESSORIES), 1 + OTHERS, 1, FRAME, FRAME]: 1 where nothing
    but the object shows, by what it wears.  both_ways: whether its left is unlike its right."""

    looks: Tensor
    seen: Tensor
    both_ways: bool

    def nearest_pose(self, picture: Tensor, guesses: Sequence[Pose], accessory: str) -> tuple[Tensor, Pose]:
        """How far the object of a picture [3, SIZE, SIZE] is from each of the gallery, [1 + OTHERS], as the root of the
        mean square of the distance in RGB (0..441); each at that pose of those around the guesses where it comes
        nearest.  And the pose where the thing does."""
        found, tried = [], []
        for pose in dict.fromkeys(guesses):
            pose, ways = (pose, True) if self.both_ways else (unmirrored(pose), False)
            for _ in range(ROUNDS):
                poses = poses_around(pose, ways)
                shown = in_own_frame(picture[None].expand(len(poses), -1, -1, -1), poses)
                found.append(self._distances(shown, accessory))
                tried += poses
                pose = poses[int(found[-1].amin(dim=1).argmin())]
        distances = torch.cat(found)
        return distances.amin(dim=0), tried[int(distances[:, 0].argmin())]

    def _distances(self, shown: Tensor, accessory: str) -> Tensor:
        """Distances [B, 1 + OTHERS] of what is shown in the frame, [B, 3, FRAME, FRAME]."""
        shown = shown.flatten(1)
        seen = self.seen[ACCESSORIES.index(accessory)].expand_as(self.looks)
        # The square of a difference, multiplied out: all poses against all looks are three products of matrices.
        squares = shown.square() @ seen.flatten(1).T - 2 * shown @ (self.looks * seen).flatten(1).T
        squares += (self.looks.square() * seen).flatten(1).sum(dim=1)
        return FARTHEST * (squares.clamp(min=0) / seen.flatten(1).sum(dim=1)).sqrt()


def gallery(placed: Placed, reconstruct: Callable[[Tensor], Tensor], seed: int = 0) -> Gallery:
    """The gallery of an object.  reconstruct: pictures [B, 3, SIZE, SIZE] to what the autoencoder makes of them."""
    members = [placed, *others_like(placed, seed=seed)]
    drawn, masks = zip(*(render(Scene(member, "beach"), SHOWN_IN) for member in members), strict=True)
    pictures = as_tensor(np.stack([np.asarray(picture) for picture in drawn]))
    looks = torch.cat([reconstruct(chunk) for chunk in pictures.split(CHUNK)])
    # What an accessory covers is the same in all of a kind.
    uncovered = [_mask(render(Scene(placed, "beach", accessory), SHOWN_IN)[1]) for accessory in ACCESSORIES]
    objects = torch.stack([_mask(mask) for mask in masks])
    return Gallery(
        _framed(looks),
        torch.stack([_framed(_inner(torch.minimum(objects, each))[:, None]) > 0.9 for each in uncovered]).float(),
        placed.category in MIRRORED,
    )


def _framed(pictures: Tensor) -> Tensor:
    return in_own_frame(pictures, [SHOWN_IN] * len(pictures))


def _mask(mask: object) -> Tensor:
    return torch.from_numpy(np.array(mask)).float() / 255


def _inner(masks: Tensor) -> Tensor:
    """Masks [B, H, W] without their edge, where the background is mixed in."""
    return 1 - F.max_pool2d(1 - masks, 3, 1, 1)


def ranks(distances: Tensor) -> Tensor:
    """Of how many of the others each picture is nearer than of the first member, int64 [B], 0 where of none.

    distances [B, 1 + OTHERS]."""
    return (distances[:, 1:] < distances[:, :1]).sum(dim=1)


def gallery_of(tensors: dict[str, Tensor], category: str) -> Gallery:
    """A gallery out of its tensors, as they are kept."""
    return Gallery(tensors["looks"], tensors["seen"], category in MIRRORED)
