"""Trains the close reader on pairs of pictures of looks that are easily taken for each other.

    python demo/making/run.py train_close_reader --cache DIR --steps 2400      (resumes from DIR/close_reader.pt)

Loss: supervised contrastive loss of the look's embedding (Khosla et al. 2020, equation 2), whose hardest negatives are
the close looks of a group; error of the pose; and, while it trains, error of the colours that a linear layer reads in
the features, which shows the features early what there is to tell apart.
"""

from __future__ import annotations

import argparse
import time
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..world.scenes import MIRRORED
from .close_looks import KINDS, LOOKS, ROOM, ROOMY, VIEWS, CloseLooks, close_looks, colours_of
from .close_reader import EMBEDDING, WEIGHTS, CloseReader, cropped, pose_in_crop, save_close_reader
from .host import use_comfyui
from .recogniser import load_recogniser
from .recogniser_data import shown_by
from .train_recogniser import contrastive_loss
from .train_vae import trained_autoencoder
from .training_state import load_state, moving_average, save_state, seeded, set_learning_rate

KINDS_IN_BATCH, GROUPS_OF_KIND = 4, 3
CHANNELS = torch.tensor(list(permutations(range(3))))
MIRRORED_KINDS = np.array([kind.category in MIRRORED for kind in KINDS])
IN_THE_MIRROR = torch.tensor([[-1.0, 1, 1, -1, -1], [0, 0, 0, 0, 1]])  # what becomes of a pose: factors and summands


class Trained(nn.Module):
    """The reader, and the layer of its training that reads colours."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = CloseReader()
        self.colours = nn.Linear(EMBEDDING, 9)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        looks, poses = self.reader(crops)
        return looks, poses, self.colours(looks).unflatten(1, (3, 3))


class Batches:
    """Draws batches: a few groups of each of a few kinds, every look in two pictures, cropped a little off."""

    def __init__(self, data: CloseLooks, rng: np.random.Generator) -> None:
        self.data, self.rng = data, rng
        self.colours, self.seen = colours_of(len(data.crops))

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Crops [B, 3, CROP, CROP], poses in them [B, POSE], identities [B], colours [B, 3, 3] and which of these are
        seen [B, 3].

        Half of the objects that may look either way are turned round.  The channels of colour are exchanged in another
        way in each group, which makes other looks of it."""
        rng, rounds = self.rng, len(self.data.crops) // len(KINDS)
        kinds = rng.choice(len(KINDS), KINDS_IN_BATCH, replace=False)
        groups = [kind + len(KINDS) * turn for kind in kinds for turn in rng.choice(rounds, GROUPS_OF_KIND, False)]
        views = np.concatenate([rng.choice(VIEWS, 2, replace=False) for _ in range(len(groups) * LOOKS)])
        group = np.repeat(groups, LOOKS * 2)
        look = np.tile(np.repeat(np.arange(LOOKS), 2), len(groups))
        chosen = group, look, views
        squares, poses = (torch.from_numpy(part[chosen]) for part in (self.data.squares, self.data.poses))
        shifts = torch.from_numpy(rng.normal(0, 0.02, (len(squares), 2))).float()
        sides = torch.from_numpy(rng.uniform(0.95, 1.06, (len(squares), 1))).float()
        # The crop in what is kept, whose side is 1 there, and in the picture.
        kept = torch.cat((0.5 + shifts / ROOM, sides / ROOM), dim=1)
        boxes = torch.cat((squares[:, :2] + (kept[:, :2] - 0.5) * squares[:, 2:], squares[:, 2:] * kept[:, 2:]), dim=1)
        crops = cropped(torch.from_numpy(self.data.crops[chosen]).float() / 255, kept * ROOMY)
        poses = pose_in_crop(poses, boxes)
        flipped = torch.from_numpy(MIRRORED_KINDS[group % len(KINDS)] & (rng.random(len(group)) < 0.5))
        crops = torch.where(flipped[:, None, None, None], crops.flip(-1), crops)
        poses = torch.where(flipped[:, None], poses * IN_THE_MIRROR[0] + IN_THE_MIRROR[1], poses)
        order = CHANNELS[rng.integers(len(CHANNELS), size=len(groups)).repeat(LOOKS * 2)]
        crops = crops.gather(1, order[:, :, None, None].expand_as(crops))
        colours = self.colours[group, look]
        colours = colours.gather(2, order[:, None].expand_as(colours))
        identities = torch.arange(len(groups) * LOOKS).repeat_interleave(2)
        return crops, poses, identities, colours, self.seen[group, look]


def disturbed(crops: Tensor, rng: np.random.Generator) -> Tensor:
    """Crops, half of them a little blurred, all with a little noise and another brightness and contrast: little, since
    what tells looks apart is in their colours."""
    device, count = crops.device, len(crops)

    def normal(deviation: float) -> Tensor:
        return torch.from_numpy(rng.normal(0, deviation, (count, 1, 1, 1))).float().to(device)

    blurred = F.avg_pool2d(F.pad(crops, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.from_numpy(rng.uniform(-1, 1, (count, 1, 1, 1))).clamp(min=0).float().to(device)
    crops = crops.lerp(blurred, share)
    noise = torch.from_numpy(rng.standard_normal(crops.shape, dtype=np.float32)).to(device)
    return (0.5 + (crops - 0.5) * (1 + normal(0.03)) + normal(0.015) + 0.02 * noise).clamp(0, 1)


def loss_of(trained: Trained, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
    """The whole loss, and its parts by name."""
    crops, poses, identities, colours, seen = batch
    with torch.autocast(crops.device.type, torch.bfloat16):
        looks, found, read = trained(crops)
    parts = {
        "look": contrastive_loss(looks.float(), identities),
        "pose": 4 * F.smooth_l1_loss(found[:, :4].float(), poses[:, :4], beta=0.05)
        + 0.5 * F.binary_cross_entropy_with_logits(found[:, 4].float(), poses[:, 4]),
        "colours": 4 * (read.float() - colours).abs().mean(dim=2)[seen].mean(),
    }
    return sum(parts.values()), {name: float(part.detach()) for name, part in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--groups", type=int, default=800, help=f"a multiple of {len(KINDS)}")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--average", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    use_comfyui()
    _, device = seeded(arguments.seed)
    trained = Trained().to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        trained.parameters(), lr=arguments.learning_rate, weight_decay=1e-2, betas=(0.9, 0.98)
    )
    average = moving_average(trained, arguments.average, use_buffers=True)
    state_file = arguments.cache / f"{arguments.out.stem}.pt"
    first = load_state(state_file, trained, average, [optimiser])
    rng = np.random.default_rng([arguments.seed, first])
    shown = shown_by(trained_autoencoder(arguments.cache))
    batches = Batches(close_looks(arguments.cache, arguments.groups, shown, load_recogniser()), rng)
    start, history = time.monotonic(), []
    for step in range(first, arguments.steps):
        progress = step / arguments.steps
        set_learning_rate([optimiser], arguments.learning_rate, step, warm_up=100, progress=progress, last=0.01)
        crops, *rest = (tensor.to(device) for tensor in batches.draw())
        trained.train()
        loss, parts = loss_of(trained, (disturbed(crops, rng), *rest))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 2.0)
        optimiser.step()
        average.update_parameters(trained)
        history.append(parts)
        if step % 50 == 49:
            shown = ", ".join(f"{name} {np.mean([each[name] for each in history[-50:]]):.3f}" for name in parts)
            print(
                f"step {step + 1}/{arguments.steps} {shown} {(time.monotonic() - start) / len(history):.2f} s/step",
                flush=True,
            )
        if step % 100 == 99 or step + 1 == arguments.steps:
            save_state(state_file, trained, average, [optimiser], step + 1)
            save_close_reader(average.module.reader, arguments.out)
