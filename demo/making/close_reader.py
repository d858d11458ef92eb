"""The close reader: a small network that looks at the main object of a picture alone, enlarged, and tells looks of one
kind apart.

It gives an embedding of the look, by which `among_others` asks which of many alike a picture shows, and the pose, in
which `part_colours` draws the thing again.  Where the object is it learns from the recogniser's mask.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..world.scenes import LEAN, Pose
from .recogniser import CHUNK, SIZE, Recogniser, Residual, channels_first, convolution

WEIGHTS = Path(__file__).parent / "weights" / "close_reader.safetensors"
CROP = 64  # side of the enlarged crop, in pixels
MARGIN = 1.35  # side of the square that is cropped, in units of the longer side of the mask
SMALLEST = 24.0  # side of that square in pixels where a mask is empty or tiny
EMBEDDING = 64
GRID = 8  # side of the last features
POSE = 5  # numbers: x, y and half the height in the crop, lean, mirrored


class CloseReader(nn.Module):
    """Convolutions to an 8 x 8 grid, of which linear layers read everything, place by place."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            convolution(12, 32),
            Residual(32),  # 32 x 32
            convolution(32, 64, stride=2),
            Residual(64, depth=2),  # 16 x 16
            convolution(64, 96, stride=2),
            Residual(96),  # 8 x 8
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
    def read(self, pictures: Tensor, recogniser: Recogniser) -> tuple[Tensor, list[Pose]]:
        """Embeddings [B, EMBEDDING] of length 1 and poses of the main objects of pictures, [B, 3, SIZE, SIZE] or [B,
        SIZE, SIZE, 3] in 0..1."""
        looks, poses = [], []
        for chunk in channels_first(pictures).split(CHUNK):
            boxes = boxes_of(recogniser.body_mask(chunk))
            look, pose = self(cropped(chunk, boxes))
            looks.append(look)
            poses += [pose_in_picture(*pair) for pair in zip(pose, boxes, strict=True)]
        return torch.cat(looks), poses

    def embed(self, pictures: Tensor, recogniser: Recogniser) -> Tensor:
        """The embeddings alone."""
        return self.read(pictures, recogniser)[0]


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


def cropped(pictures: Tensor, boxes: Tensor) -> Tensor:
    """The squares `boxes` [B, 3] of pictures [B, 3, SIZE, SIZE], each as [3, CROP, CROP]; what lies outside a picture
    repeats its border."""
    x, y, side = boxes.T
    zero = torch.zeros_like(x)
    theta = torch.stack(
        (
            torch.stack((side / SIZE, zero, 2 * x / SIZE - 1), dim=1),
            torch.stack((zero, side / SIZE, 2 * y / SIZE - 1), dim=1),
        ),
        dim=1,
    )
    grid = F.affine_grid(theta, [len(pictures), 3, CROP, CROP], align_corners=False)
    return F.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)


def pose_in_crop(poses: Tensor, boxes: Tensor) -> Tensor:
    """Poses [B, 5] in the order of Pose's fields, as the network says them: shift of the centre and logarithm of half
    the height in units of the square, lean in -1..1, and mirrored as 0 or 1."""
    shift = (poses[:, :2] - boxes[:, :2]) / boxes[:, 2:]
    return torch.cat((shift, (poses[:, 2:3] / boxes[:, 2:]).log(), poses[:, 3:4] / LEAN, poses[:, 4:]), dim=1)


def pose_in_picture(pose: Tensor, box: Tensor) -> Pose:
    """The other way round, for one picture; `mirrored` is a logit here."""
    x, y, half, lean, mirrored = pose.tolist()
    centre_x, centre_y, side = box.tolist()
    size = side * float(torch.tensor(half).exp())
    return Pose(centre_x + x * side, centre_y + y * side, size, lean * LEAN, mirrored > 0)


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
