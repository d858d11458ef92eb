"""Is a background in its own colours?  Snow that has turned pink is still read as snow.

Sky and ground are the median colours of the rows above and below, away from the main object.  How far they are from
those of real pictures of that background counts in units of the distance within which 95 of 100 other real ones are:
above 1 it is not the background that was asked for.  The limit comes from real pictures alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from perfusion_pack.demo.world.backgrounds import BACKGROUNDS
from perfusion_pack.demo.world.scenes import random_scene
from torch import Tensor
from torch.nn import functional

from .prompts import Prompt, drawn
from .workbench import Workbench

VERSION = 2
STRIPS = (slice(0, 44), slice(104, 128))  # rows of sky and of ground
AROUND = 6  # pixels around the body that may be its outline
FEWEST = 50  # pixels of a strip that must be free of the object
REAL, WITHIN = 200, 0.95


def distances(bench: Workbench, pictures: Tensor, prompts: Sequence[Prompt]) -> list[float | None]:
    """Of each picture [B, 3, H, W], how far its background is from the one that its prompt asks for; 1 = as far as 95
    of 100 real ones are at most.  None where none is asked for, or none shows."""
    known = real_backgrounds(bench)
    found: list[float | None] = []
    for colours, prompt in zip(sky_and_ground(bench, pictures), prompts, strict=True):
        of = known.get(prompt.asked.get("background", ""))
        off = None if of is None else float(_off(colours, torch.tensor(of["colours"]))) / of["farthest"]
        found.append(None if off is None or off != off else off)
    return found


def real_backgrounds(bench: Workbench) -> dict[str, dict[str, Any]]:
    """Of each background the mean colours of real pictures, [2, 3] in 0..255, and how far 95 of 100 are from them."""
    count = REAL if bench.strict else REAL // 50

    def measure() -> dict[str, dict[str, Any]]:
        rng, made = np.random.default_rng(77), {}
        for background in BACKGROUNDS:
            scenes = (scene for scene in iter(lambda: random_scene(rng), None) if scene.background == background)
            shown = [drawn(scene) for scene in islice(scenes, count)]
            colours = sky_and_ground(bench, bench.reconstruct(torch.stack(shown)))
            mean = colours[::2].nanmean(dim=0)
            off = _off(colours[1::2], mean)  # of pictures that the mean does not know
            made[background] = {"colours": mean.tolist(), "farthest": float(off[~off.isnan()].quantile(WITHIN))}
        return made

    facts = {"version": VERSION, "backgrounds": list(BACKGROUNDS), "real": count, "weights": bench.hashes}
    return bench.remembered("backgrounds", lambda: bench.cache.numbers("calibration", facts, measure))


def sky_and_ground(bench: Workbench, pictures: Tensor) -> Tensor:
    """The median colours above and below, [B, 2, 3] in 0..255; nan where the object leaves nothing of them."""
    body = (bench.recogniser.body_mask(pictures) > 0.5).float()[:, None]
    covered = functional.max_pool2d(body, 2 * AROUND + 1, 1, AROUND)[:, 0] > 0
    found = torch.full((len(pictures), len(STRIPS), 3), torch.nan)
    for index, (picture, hidden) in enumerate(zip(pictures, covered, strict=True)):
        for strip, rows in enumerate(STRIPS):
            free = ~hidden[rows].flatten()
            if free.sum() >= FEWEST:
                found[index, strip] = 255 * picture[:, rows].flatten(1)[:, free].median(dim=1).values
    return found


def _off(colours: Tensor, reference: Tensor) -> Tensor:
    """Mean distance of sky and ground in RGB, 0..441: [..., 2, 3] and [2, 3] -> [...]."""
    return (colours - reference).norm(dim=-1).nanmean(dim=-1)
