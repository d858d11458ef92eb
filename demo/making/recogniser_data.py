"""The pictures from which the recogniser learns, and how they are disturbed.

Four sources, each in the cache folder: the world's pictures (dataset.py); *individuals*, several pictures of one
object each, with true masks, which the embedding needs; reconstructions of these by the autoencoder; and pictures
made by the demo model (make_generated.py).  A recogniser that has seen only drawn pictures misjudges the last two.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..world.backgrounds import BACKGROUNDS
from ..world.colours import NAMES
from ..world.looks import PATTERNS, SCHEMES, free_look
from ..world.objects import ACCESSORIES
from ..world.scenes import Placed, Scene, random_object, random_scene, render
from ..world.shapes import CATEGORIES
from .dataset import HELD_OUT, scene_number
from .host import use_comfyui
from .initial_weights import fresh_autoencoder
from .recogniser import MASK_SIZE, SIZE
from .train_vae import decode, split_moments

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "category": CATEGORIES,
    "colour": NAMES,
    "pattern": PATTERNS,
    "background": BACKGROUNDS,
    "accessory": ACCESSORIES,
    "second": ("none", *CATEGORIES),
    "second_colour": NAMES,
}
UNKNOWN = -100  # label of what cannot be read, which cross-entropy leaves out
VIEWS = 4  # pictures of every individual
FREE_INDIVIDUALS = 0.75
CHUNK = 500  # individuals in a file


def labels_of(scene: Scene) -> list[int]:
    """Number of the value of each of ATTRIBUTES, UNKNOWN where the look has no name or there is no such object."""
    second = scene.second
    values = {
        "category": scene.main.category,
        "colour": scene.main.colour,
        "pattern": scene.main.pattern,
        "background": scene.background,
        "accessory": scene.accessory,
        "second": second.category if second else "none",
        "second_colour": second.colour if second else "",
    }
    return [names.index(values[name]) if values[name] else UNKNOWN for name, names in ATTRIBUTES.items()]


def individual(number: int) -> Placed:
    """Individual `number`.  Every other one differs from its predecessor in a single trait of the look, so that the
    embedding must tell such pairs apart; individuals with one named look share their number's look up to the
    shade."""
    rng = np.random.default_rng([number // 2, 11])
    placed = random_object(rng, CATEGORIES[number // 2 % len(CATEGORIES)], FREE_INDIVIDUALS)
    if number % 2 == 0 or placed.colour:
        return placed
    other = free_look(rng)
    if rng.random() < 0.5:
        return replace(placed, look=replace(placed.look, secondary=other.secondary))
    scheme = str(rng.choice([scheme for scheme in SCHEMES if scheme != placed.look.scheme]))
    return replace(placed, look=replace(placed.look, scheme=scheme))


def identity(number: int) -> tuple[int, ...]:
    """What makes an individual itself: equal for individuals that words describe alike."""
    placed = individual(number)
    if placed.colour:
        return CATEGORIES.index(placed.category), NAMES.index(placed.colour), PATTERNS.index(placed.pattern)
    return (number,)


def view(number: int, index: int) -> Scene:
    """Scene `index` of individual `number`: another background, pose, size, accessory and second object each time."""
    return random_scene(np.random.default_rng([number, index, 12]), individual(number))


@dataclass
class Pictures:
    """Pictures uint8 [n, SIZE, SIZE, 3] with labels int64 [n, attributes] (UNKNOWN: leave out); where they are known,
    masks uint8 [n, MASK_SIZE, MASK_SIZE] and identities int64 [n] (equal for pictures of one individual)."""

    pictures: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None
    identities: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pictures)


def world_pictures(cache: Path, count: int) -> Pictures:
    """The first `count` drawn pictures of dataset.py (or as many as there are) with the labels of their scenes."""
    chunks: list[np.ndarray] = []
    for file in sorted(cache.glob("pictures-*.npy")):  # one by one, as all of them would take gigabytes
        if sum(map(len, chunks)) < count:
            chunks.append(np.load(file))
    pictures = np.concatenate(chunks)[:count]
    return Pictures(pictures, np.array([labels_of(scene_number(number)) for number in range(len(pictures))]))


def draw_individuals(first: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and masks of CHUNK individuals from number `first` on, VIEWS of each, one after the other."""
    drawn = [render(view(number, index)) for number in range(first, first + CHUNK) for index in range(VIEWS)]
    pictures = np.stack([np.asarray(picture) for picture, _ in drawn])
    masks = np.stack([np.asarray(mask.reduce(SIZE // MASK_SIZE)) for _, mask in drawn])
    return pictures, masks


def individuals(cache: Path, count: int, workers: int = 1) -> Pictures:
    """VIEWS pictures of each of `count` individuals, drawn into the cache where they are not there yet."""
    files = {first: cache / f"individuals-{first:06d}.npz" for first in range(0, count, CHUNK)}
    missing = [first for first, file in files.items() if not file.exists()]
    if missing:
        with ProcessPoolExecutor(workers) as pool:
            for first, (pictures, masks) in zip(missing, pool.map(draw_individuals, missing), strict=True):
                part = files[first].with_suffix(".part.npz")
                np.savez(part, pictures=pictures, masks=masks)
                part.replace(files[first])
    loaded = [np.load(file) for file in files.values()]
    numbers = np.repeat(np.arange(len(files) * CHUNK), VIEWS)
    known: dict[tuple[int, ...], int] = {}
    return Pictures(
        np.concatenate([chunk["pictures"] for chunk in loaded]),
        np.array([labels_of(view(number, i % VIEWS)) for i, number in enumerate(numbers.tolist())]),
        np.concatenate([chunk["masks"] for chunk in loaded]),
        np.array([known.setdefault(identity(number), len(known)) for number in numbers.tolist()]),
    )


def held_out(count: int) -> Pictures:
    """`count` pictures that nothing was trained on, with masks."""
    scenes = [scene_number(number) for number in range(HELD_OUT, HELD_OUT + count)]
    drawn = [render(scene) for scene in scenes]
    return Pictures(
        np.stack([np.asarray(picture) for picture, _ in drawn]),
        np.array([labels_of(scene) for scene in scenes]),
        np.stack([np.asarray(mask.reduce(SIZE // MASK_SIZE)) for _, mask in drawn]),
    )


def as_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 [B, SIZE, SIZE, 3] as float [B, 3, SIZE, SIZE] in 0..1."""
    return torch.from_numpy(pictures).movedim(-1, 1).float() / 255


# --- Disturbance: whatever blurs or taints a picture without changing what it shows


def disturbed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures [B, 3, SIZE, SIZE], three quarters of them softened each in its own way, all with noise fine and
    coarse and with another contrast and saturation."""
    device, count = pictures.device, len(pictures)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device)

    order = torch.randperm(count, generator=generator).to(device)
    softenings: list[Callable[[Tensor, torch.Generator], Tensor]] = [_low_pass, _blurred, _block_coded]
    result = pictures.clone()
    for part, soften in zip(order.chunk(4)[:3], softenings, strict=False):
        result[part] = soften(pictures[part], generator)
    fine = torch.randn(result.shape, generator=generator).to(device) * random(count, 1, 1, 1).square() * 0.05
    coarse = torch.randn((count, 3, 24, 24), generator=generator).to(device) * random(count, 1, 1, 1).square() * 0.07
    result = result + fine + F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
    grey = result.mean(dim=1, keepdim=True)
    result = grey + (result - grey) * (0.8 + 0.5 * random(count, 1, 1, 1))
    return (
        0.5 + (result - 0.5) * (0.88 + 0.28 * random(count, 1, 1, 1)) + 0.08 * (random(count, 1, 1, 1) - 0.5)
    ).clamp(0, 1)


def _low_pass(pictures: Tensor, generator: torch.Generator) -> Tensor:
    side = int(torch.randint(44, 100, (), generator=generator))
    return F.interpolate(F.interpolate(pictures, size=(side, side), mode="area"), size=(SIZE, SIZE), mode="bilinear")


def _blurred(pictures: Tensor, generator: torch.Generator) -> Tensor:
    deviation = 0.5 + 1.6 * float(torch.rand((), generator=generator))
    kernel = torch.exp(-torch.arange(-4.0, 5.0, device=pictures.device).square() / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 9)
    padded = F.pad(pictures, (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def _block_coded(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """As JPEG does: the cosine transform of blocks of 8 x 8, rounded more coarsely the higher the frequency."""
    step = 0.02 + 0.16 * float(torch.rand((), generator=generator))
    i = torch.arange(8.0, device=pictures.device)
    transform = torch.cos(torch.pi * (i + 0.5) * i[:, None] / 8) * torch.where(i[:, None] == 0, 0.125**0.5, 0.5)
    blocks = pictures.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [B, 3, 16, 16, 8, 8]
    steps = step * (1 + i + i[:, None])
    rounded = (transform @ blocks @ transform.T / steps).round() * steps
    return (transform.T @ rounded @ transform).transpose(3, 4).flatten(4, 5).flatten(2, 3)


# --- What the autoencoder makes of pictures


def reconstruction(weights: Path) -> Callable[[Tensor], Tensor]:
    """`shown_by` the autoencoder in `weights` (a state dict, or the state of train_vae.py while it still trains)."""
    use_comfyui()
    state = torch.load(weights, weights_only=True, mmap=True)
    if "average" in state:
        state = {
            name.removeprefix("module."): tensor
            for name, tensor in state["average"].items()
            if name.startswith("module.")
        }
    autoencoder = fresh_autoencoder()
    autoencoder.load_state_dict(state)
    return shown_by(autoencoder)


def shown_by(autoencoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function that turns pictures [B, 3, H, W] in 0..1 into the autoencoder's reconstructions of them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    autoencoder.to(device, memory_format=torch.channels_last).eval()

    @torch.no_grad()
    def show(pictures: Tensor) -> Tensor:
        shown = []
        for chunk in pictures.split(8):
            with torch.autocast(device.type, torch.bfloat16):
                chunk = chunk.to(device, memory_format=torch.channels_last) * 2 - 1
                shown.append(decode(autoencoder, split_moments(autoencoder, chunk)[0]).cpu())
        return (torch.cat(shown) / 2 + 0.5).clamp(0, 1)

    return show


def reconstructed(pictures: np.ndarray, show: Callable[[Tensor], Tensor]) -> np.ndarray:
    """What `show` (see `reconstruction`) makes of pictures uint8 [n, SIZE, SIZE, 3], in the same form."""
    parts = [show(as_tensor(pictures[start : start + 64])) for start in range(0, len(pictures), 64)]
    return np.concatenate([(part * 255).round().byte().movedim(1, -1).contiguous().numpy() for part in parts])
