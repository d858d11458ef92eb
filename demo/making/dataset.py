"""Draws the pictures on which the demo model is trained, into a cache folder outside the repository.

    python demo/making/run.py dataset --cache DIR --count 76000

Picture i depends on its number alone, so a part of the set can be drawn again, and held-out sets use other numbers.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from ..world.captions import caption
from ..world.scenes import SIZE, Scene, random_object, random_scene, random_scene_of_two, render

HELD_OUT = 10_000_000  # numbers from here on are never trained on
# These pictures show free looks, and their captions say roughly what they show; the free looks in all others (more than
# a quarter of the set) are in no caption.  Without them the UNet paints free looks, but has never learned to let its
# cross-attention decide which, and a concept's values cannot either.
DESCRIBED = range(52_000, 64_000)
# Second objects are plain in all pictures before these.  A model that saw no others paints a concept beside another
# object as a plain lump.
OF_TWO = range(64_000, 76_000)
CAPTIONS_PER_PICTURE = 6
CHUNK = 2000


def scene_number(number: int) -> Scene:
    """The scene that picture `number` shows."""
    rng = np.random.default_rng(number)
    if number in OF_TWO:
        return random_scene_of_two(rng)
    return random_scene(rng, random_object(rng, free_looks=1.0) if number in DESCRIBED else None)


def captions_of(number: int, free_looks: bool = True) -> list[str]:
    """The training captions of picture `number`; each states another random part of the scene.

    free_looks: whether those of DESCRIBED pictures say roughly what their free looks show.
    """
    rng = np.random.default_rng([number, 1])
    scene = scene_number(number)
    return [caption(scene, rng, free_looks=free_looks and number in DESCRIBED) for _ in range(CAPTIONS_PER_PICTURE)]


def draw(first: int, count: int) -> np.ndarray:
    """Pictures first .. first + count - 1 as uint8 [count, SIZE, SIZE, 3]."""
    return np.stack([np.asarray(render(scene_number(number))[0]) for number in range(first, first + count)])


def load(cache: Path, count: int | None = None) -> np.ndarray:
    """The pictures drawn so far (or the first `count`), uint8 [n, SIZE, SIZE, 3]."""
    chunks = sorted(cache.glob("pictures-*.npy"))
    if not chunks:
        raise SystemExit(f"{cache} holds no pictures; run `python demo/making/run.py dataset` first.")
    return np.concatenate([np.load(chunk) for chunk in chunks])[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--count", type=int, default=76_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    starts = [n for n in range(0, arguments.count, CHUNK) if not (arguments.cache / f"pictures-{n:07d}.npy").exists()]
    with ProcessPoolExecutor(arguments.workers) as pool:
        for start, pictures in zip(starts, pool.map(draw, starts, [CHUNK] * len(starts)), strict=True):
            path = arguments.cache / f"pictures-{start:07d}.npy"
            part = path.with_name("part.npy")
            np.save(part, pictures)
            part.replace(path)
            print(f"drawn {start + CHUNK} of {arguments.count} pictures of {SIZE} x {SIZE}", flush=True)
