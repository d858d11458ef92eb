"""Where the objects of a scene stand in its latent, so that a loss can count them more than what is around them.

Three quarters of a picture are background, which the demo model paints without a mistake long before the bodies of its
teddies hold together.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..world.scenes import SIZE, Scene, centres

CELLS = 16  # of a latent's side
MARGIN = 4.0  # picture pixels around an object, which is drawn some pixels off its place
BODY_WEIGHT = 4.0


def body_cells(scene: Scene) -> np.ndarray:
    """Whether each cell of the latent [CELLS, CELLS] is in the box around an object of the scene."""
    middles = (np.arange(CELLS) + 0.5) * SIZE / CELLS
    cells = np.zeros((CELLS, CELLS), dtype=bool)
    for x, y, half in centres(scene):
        near = half + MARGIN
        cells |= (np.abs(middles - y) < near)[:, None] & (np.abs(middles - x) < near)
    return cells


def loss_weights(bodies: Tensor, signal: Tensor) -> Tensor:
    """Weights [B, 1, CELLS, CELLS] of a batch's squared errors: BODY_WEIGHT in the boxes `bodies` [B, CELLS, CELLS].

    signal: sqrt of the cumulative alpha of each sample [B].  The weight fades towards 1 where noise hides the objects:
    a model that does not know where one stands would be told to expect it everywhere.
    """
    seen = (4 * signal.square()).clamp(max=1)
    return (1 + (BODY_WEIGHT - 1) * seen[:, None, None] * bodies)[:, None]


def all_body_cells(scenes: list[Scene]) -> Tensor:
    """body_cells of many scenes, bool [n, CELLS, CELLS]."""
    return torch.from_numpy(np.stack([body_cells(scene) for scene in scenes]))
