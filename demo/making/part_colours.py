"""How far the colours of a thing's parts are off, against the thing itself drawn in the same pose.

The parts go by what colours them in a look: the body, the secondary parts, and the details in the accent colour.  No
learned likeness is in this number, only the pose; so it is told beside the rank in a gallery, which has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..world.scenes import MIRRORED, Placed, Pose, Scene, render
from .recogniser import Reading
from .recogniser_data import as_tensor

PARTS = ("body", "secondary parts", "detail")
LEAST = 8  # pixels of a part; of fewer nothing is said


def part_masks(placed: Placed, accessory: str, pose: Pose) -> Tensor:
    """Which pixels show nothing but each of PARTS, bool [3, SIZE, SIZE]: neither outlines nor what an accessory
    covers."""
    # In this look each part has a colour of its own, and a two-tone body is all of one.
    plain = replace(
        placed.look,
        primary=(255, 0, 0),
        secondary=(0, 255, 0),
        accent=(0, 0, 255),
        scheme="two-tone",
        pattern="plain",
    )
    shown, silhouette = render(Scene(replace(placed, look=plain), "night", accessory), pose)
    pure = torch.eye(3)[:, :, None, None]
    off = (as_tensor(np.asarray(shown)[None]) - pure).abs().amax(dim=1)
    return (off < 0.1) & (torch.from_numpy(np.array(silhouette)) > 127)


def drawn_alike(placed: Placed, poses: Sequence[Pose], readings: Sequence[Reading]) -> tuple[Tensor, Tensor]:
    """The object in the given poses, with the background and accessory that were read: pictures [B, 3, SIZE, SIZE] in
    0..1 and the masks of its PARTS, bool [B, 3, SIZE, SIZE]."""
    pictures, masks = [], []
    for pose, reading in zip(poses, readings, strict=True):
        pose = replace(pose, mirrored=pose.mirrored and placed.category in MIRRORED)
        pictures.append(np.asarray(render(Scene(placed, reading.background, reading.accessory), pose)[0]))
        masks.append(part_masks(placed, reading.accessory, pose))
    return as_tensor(np.stack(pictures)), torch.stack(masks)


def colour_errors(pictures: Tensor, drawn: Tensor, masks: Tensor) -> Tensor:
    """Mean distance in RGB (0..441) between pictures and drawn ones, both [B, 3, SIZE, SIZE] in 0..1, over the pixels
    of each part, [B, 3]; nan for a part that shows on fewer than LEAST.  masks: bool [B, 3, SIZE, SIZE]."""
    distance = (pictures.float() - drawn).norm(dim=1) * 255  # [B, SIZE, SIZE]
    area = masks.sum(dim=(2, 3))
    mean = (distance[:, None] * masks).sum(dim=(2, 3)) / area
    return mean.masked_fill(area < LEAST, torch.nan)
