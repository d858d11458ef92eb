"""The close reader: a small network that looks at the main object of a picture alone, enlarged, and tells looks of one
kind apart.

It gives the pose, in which the instrument lays a thing upon a picture, and an embedding of the look, whose training
sharpens what the pose is read from.  Where the object is it learns from the recogniser's mask.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor, nn
from torch.nn import functional as F

from ..world.scenes import LEAN, Pose
from .recogniser import CHUNK, SIZE, Recogniser, Residual, channels_first, convolution

WEIGHTS = Path(__file__).parent / "weights" / "close_reader.safetensors"
CROP = 48  # side of the enlarged crop, in pixels
MARGIN = 1.35  # side of the square that is cropped, in units of the longer side of the mask
SMALLEST = 24.0  # side of that square in pixels where a mask is empty or tiny
EMBEDDING = 64
GRID = 6  # side of the last features
POSE = 5  # numbers: x, y and half the height in the crop, lean, mirrored


class CloseReader(nn.Module):
    """Convolutions to a 6 x 6 grid, of which linear layers read everything, place by place."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.PixelUnshuffle(4),
            convolution(48, 64),
            Residual(64),  # 12 x 12
            convolution(64, 96, stride=2),
            Residual(96),  # 6 x 6
            nn.Conv2d(96, 32, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.look = nn.Sequential(nn.Linear(32 * GRID**2, 160), nn.ReLU(), nn.Linear(160, EMBEDDING))
        self.pose = nn.Sequential(nn.Linear(32 * GRID**2, 48), nn.ReLU(), nn.Linear(48, POSE))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of length 1 [B, EMBEDDING] and poses as `pose_in_crop` writes them [B, POSE] of crops [B, 3, CROP,
        CROP] in 0..1."""
        features = self.features((crops * 4 - 2).contiguous(memory_format=torch.channels_last)).float()
        return F.normalize(self.look(features), dim=-1), self.pose(features)

    @torch.no_grad()
    def poses(self, pictures: Tensor, recogniser: Recogniser) -> list[tuple[Pose, Pose]]:
        """Two guesses at the pose of each of the main objects of pictures, [B, 3, SIZE, SIZE] or [B, SIZE, SIZE, 3] in
        0..1: by all of its mask, where a second object may be too, and by the mask's largest part, where half of it may
        be missing."""
        guesses = []
        for chunk in channels_first(pictures).split(CHUNK):
            masks = recogniser.body_mask(chunk)
            boxes = [boxes_of(each) for each in (masks, largest_parts(masks))]
            guesses += zip(*(poses_in_picture(self(cropped(chunk, each))[1], each) for each in boxes), strict=True)
        return guesses


def largest_parts(masks: Tensor) -> Tensor:
    """Masks [B, SIZE, SIZE] in 0..1 without what does not hang together with the largest part of each."""
    kept = []
    for mask in (masks > 0.5).numpy():
        parts, count = label(mask)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        kept.append(parts == 1 + sizes.argmax() if count else mask)
    return masks * torch.from_numpy(np.stack(kept))


def boxes_of(masks: Tensor) -> Tensor:
    """Squares around masks [B, SIZE, SIZE] in 0..1: centres and sides in pixels, [B, 3].  The whole picture where a
    mask is empty."""
    solid = (masks > 0.5).float()
    ends = []
    for line in (solid.sum(dim=1), solid.sum(dim=2)):  # columns, rows
        share = line.cumsum(dim=1) / line.sum(dim=1, keepdim=True).clamp(min=1)
        ends.append(((share < 0.01).sum(dim=1).float(), (share < 0.99).sum(dim=1).float()))
    (left, right), (top, bottom) = ends
    side = MARGIN * torch.maximum(right - left, bottom - top).clamp(min=SMALLEST / MARGIN)
    boxes = torch.stack(((left + right) / 2, (top + bottom) / 2, side), dim=1)
    whole = torch.tensor([SIZE / 2, SIZE / 2, float(SIZE)])
    return torch.where(solid.sum(dim=(1, 2))[:, None] > 0, boxes, whole)


def cropped(pictures: Tensor, boxes: Tensor, size: int = CROP) -> Tensor:
    """The squares `boxes` [B, 3] of pictures [B, 3, H, H], each as [3, size, size]; what lies outside a picture repeats
    its border."""
    x, y, side = boxes.T * 2 / pictures.shape[-1]
    zero = torch.zeros_like(x)
    theta = torch.stack((side / 2, zero, x - 1, zero, side / 2, y - 1), dim=1).unflatten(1, (2, 3))
    grid = F.affine_grid(theta, [len(pictures), 3, size, size], align_corners=False)
    return F.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)


def pose_in_crop(poses: Tensor, boxes: Tensor) -> Tensor:
    """Poses [B, 5] in the order of Pose's fields, as the network says them: shift of the centre and logarithm of half
    the height in units of the square, lean in -1..1, and mirrored as 0 or 1."""
    shift = (poses[:, :2] - boxes[:, :2]) / boxes[:, 2:]
    return torch.cat((shift, (poses[:, 2:3] / boxes[:, 2:]).log(), poses[:, 3:4] / LEAN, poses[:, 4:]), dim=1)


def poses_in_picture(poses: Tensor, boxes: Tensor) -> list[Pose]:
    """The other way round; `mirrored` is a logit here."""
    centres = boxes[:, :2] + poses[:, :2] * boxes[:, 2:]
    halves = boxes[:, 2] * poses[:, 2].exp()
    numbers = torch.cat((centres, halves[:, None], poses[:, 3:4] * LEAN), dim=1).tolist()
    return [Pose(*each, mirrored) for each, mirrored in zip(numbers, (poses[:, 4] > 0).tolist(), strict=True)]


def save_close_reader(reader: CloseReader, path: Path = WEIGHTS) -> None:
    """Write the weights in half precision."""
    from safetensors.torch import save_file

    tensors = {
        name: (tensor.detach().half() if tensor.is_floating_point() else tensor.detach()).contiguous().cpu()
        for name, tensor in reader.state_dict().items()
    }
    save_file(tensors, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load_close_reader(path: Path = WEIGHTS) -> CloseReader:
    """The close reader in the file `path`, on the CPU and ready to read.  Raises FileNotFoundError where there is
    none."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(
            f"No close reader was found in {path}: make it with `python demo/making/run.py train_close_reader`."
        )
    reader = CloseReader()
    reader.load_state_dict(load_file(path))
    return reader.eval().requires_grad_(False)
