"""How far the colours of a thing's parts are off, against the thing itself drawn in the same pose.

The parts go by what colours them in a look: the body, the secondary parts, and the details in the accent colour.  No
learned likeness is in this number, only the pose; so it is told beside the rank in a gallery, which has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..world.scenes import Placed, Pose, Scene, render
from .recogniser import Reading, channels_first
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


def colour_errors(
    pictures: Tensor,
    poses: Sequence[Pose],
    readings: Sequence[Reading],
    placed: Placed,
    reconstruct: Callable[[Tensor], Tensor],
) -> Tensor:
    """Mean distance in RGB (0..441) over the pixels of each of PARTS between pictures [B, 3, SIZE, SIZE] or [B, SIZE,
    SIZE, 3] in 0..1 and the object drawn in their poses, before what is read in them; [B, 3], nan for a part that the
    object does not show there.

    reconstruct: what the autoencoder makes of drawn pictures, as none of the model's can be sharper."""
    pictures = channels_first(pictures).float()
    scenes = [Scene(placed, reading.background, reading.accessory) for reading in readings]
    drawn = np.stack([np.asarray(render(*pair)[0]) for pair in zip(scenes, poses, strict=True)])
    distance = (pictures - reconstruct(as_tensor(drawn))).norm(dim=1) * 255  # [B, SIZE, SIZE]
    masks = torch.stack([part_masks(placed, scene.accessory, pose) for scene, pose in zip(scenes, poses, strict=True)])
    area = masks.sum(dim=(2, 3))
    mean = (distance[:, None] * masks).sum(dim=(2, 3)) / area
    return mean.masked_fill(area < LEAST, torch.nan)
