"""An object seen in its own frame: upright, centred, not mirrored and of one size, whatever its pose in the picture.

There looks of one kind can be laid upon each other pixel by pixel, since they share their shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from ..world.scenes import SIZE, Pose

FRAME = 48  # side of the frame, in pixels
REACH = 1.15  # half of that side, in units of half the object's height
# How far the poses that are tried are off the one that was read: in units of half the height, as a factor, in degrees.
SHIFTS, FACTORS, TURNS = (-0.06, 0.0, 0.06), (0.95, 1.0, 1.05), (-4.0, 0.0, 4.0)


def poses_around(pose: Pose, both_ways: bool) -> list[Pose]:
    """A pose and those near it; looking either way where `both_ways`, as it looks in all others."""
    ways = (pose.mirrored, not pose.mirrored) if both_ways else (pose.mirrored,)
    return [
        Pose(pose.x + x * pose.half, pose.y + y * pose.half, pose.half * factor, pose.lean + turn, mirrored)
        for mirrored, x, y, factor, turn in product(ways, SHIFTS, SHIFTS, FACTORS, TURNS)
    ]


def in_own_frame(pictures: Tensor, poses: Sequence[Pose]) -> Tensor:
    """What pictures [B, C, SIZE, SIZE] show in the frames of objects in these poses, [B, C, FRAME, FRAME]; beyond a
    picture its border is repeated."""
    theta = torch.tensor([_to_picture(pose) for pose in poses])
    grid = F.affine_grid(theta, [len(poses), pictures.shape[1], FRAME, FRAME], align_corners=False)
    return F.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)


def _to_picture(pose: Pose) -> list[list[float]]:
    """The map from a frame to the picture, both in -1..1: the way back of what `scenes` does to draw the object."""
    scale = pose.half * REACH * 2 / SIZE
    cosine, sine = math.cos(math.radians(pose.lean)) * scale, math.sin(math.radians(pose.lean)) * scale
    way = -1 if pose.mirrored else 1
    return [[way * cosine, -sine, pose.x * 2 / SIZE - 1], [way * sine, cosine, pose.y * 2 / SIZE - 1]]


def unmirrored(pose: Pose) -> Pose:
    """The same pose of an object whose left is like its right."""
    return replace(pose, mirrored=False)
