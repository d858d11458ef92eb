"""What the recogniser finds in pictures, and how like a thing they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from perfusion_pack.demo.making.candidates import plain_tensors, thing_tensors
from perfusion_pack.demo.making.instrument import Judged, load_instrument
from perfusion_pack.demo.making.part_colours import PARTS
from perfusion_pack.demo.world.colours import NAMES
from perfusion_pack.demo.world.looks import free_look
from perfusion_pack.demo.world.scenes import PLACES, SECOND_SIZE, SIZES, Placed, Scene
from perfusion_pack.demo.world.scenes import SIZE as SIDE
from perfusion_pack.demo.world.things import THINGS
from torch import Tensor
from torch.nn import functional

from .prompts import Prompt, drawn
from .workbench import Workbench

VERSION = 2
REFERENCES = 6  # pictures to which a painting is compared; others than those of the training
CALIBRATION = 8  # scenes of each size on which areas are measured


class NearestThing:
    """In place of the strict instrument where a run must take seconds: the first is the nearest of all things and plain
    looks, and of colours nothing is said."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench

    def judge(self, pictures: Tensor, thing: str) -> Judged:
        looks = candidates(self.bench, (THINGS[thing].category,))
        ranks = torch.tensor([int(name != thing) for name in self.bench.recogniser.nearest(pictures, looks)])
        nothing = torch.full((len(pictures), len(PARTS)), torch.nan)
        return Judged(ranks.float(), 1 - ranks.float(), ranks, nothing, torch.zeros(1))

    def ceiling(self, thing: str) -> Judged:
        return self.judge(reference_pictures(self.bench, thing)[0], thing)


def instrument(bench: Workbench) -> Any:
    """What judges how like a thing pictures are: the strict instrument, or its quick stand-in."""
    return bench.remembered("instrument", lambda: load_instrument() if bench.strict else NearestThing(bench))


def instrument_facts(bench: Workbench) -> str:
    """What tells one instrument from another, as a part of the facts of every reading: a better one reads again."""
    return instrument(bench).folder.name if bench.strict else "nearest thing"


def ceiling(bench: Workbench, thing: str) -> dict[str, Any]:
    """What the instrument finds in real pictures: the shares that come first and are alike too, the colour errors."""

    def make() -> dict[str, Any]:
        judged = instrument(bench).ceiling(thing)
        alike = float(judged.right.float().mean())
        return {"first": judged.first, "alike": alike, "off": _numbers(judged.mean_errors)}

    return bench.cache.numbers("ceiling", ceiling_facts(bench, thing), make)


def ceiling_facts(bench: Workbench, thing: str) -> dict[str, Any]:
    """The facts of a ceiling."""
    return {"thing": thing, "look": asdict(THINGS[thing].look), "instrument": instrument_facts(bench)}


def read(bench: Workbench, pictures: Tensor, prompts: Sequence[Prompt], thing: str) -> list[dict[str, Any]]:
    """One row for each picture [B, 3, H, W]; prompts: of each picture.

    found: which of the asked attributes are there.  category: whether that of the thing is.  rank, alike, off: by the
    instrument, the last None for a part that does not show.  look: cosine to the thing.  nearest: the thing or plain
    look that it is most like."""
    readings = bench.recogniser.read(pictures)
    masks = bench.recogniser.body_mask(pictures) > 0.5
    category = THINGS[thing].category
    references, reference_masks = reference_pictures(bench, thing)
    like = bench.recogniser.likeness(pictures, references, reference_masks)
    nearest = bench.recogniser.nearest(pictures, candidates(bench, (category,)))
    judged = instrument(bench).judge(pictures, thing)
    limits = area_limits(bench, category)
    rows = []
    for index, (prompt, reading) in enumerate(zip(prompts, readings, strict=True)):
        seen = {"size": size_of(masks[index], limits), "place": place_of(masks[index])}
        found = {name: seen.get(name, getattr(reading, name, "")) == value for name, value in prompt.asked.items()}
        rows.append({
            "found": found, "category": reading.category == category, "rank": int(judged.ranks[index]),
            "alike": bool(judged.right[index]), "off": _numbers(judged.errors[index].tolist()),
            "look": float(like.look[index]), "nearest": nearest[index],
        })  # fmt: skip
    return rows


def _numbers(values: Sequence[float]) -> list[float | None]:
    """The values as JSON has them: None where there is no number."""
    return [None if value != value else value for value in values]


def reference_pictures(bench: Workbench, thing: str) -> tuple[Tensor, Tensor]:
    """Pictures of the thing through the autoencoder, and true masks; drawn with another seed than the training's."""

    def make() -> tuple[Tensor, Tensor]:
        pictures, masks = thing_tensors(thing, REFERENCES, seed=2)
        return bench.reconstruct(pictures), masks

    return bench.remembered(("references", thing), make)


def candidates(bench: Workbench, categories: tuple[str, ...]) -> dict[str, Tensor]:
    """Embeddings of every thing, and of every plain look of the categories."""

    def embedded(pictures: dict[str, Tensor]) -> dict[str, Tensor]:
        return bench.recogniser.candidates({name: bench.reconstruct(shown) for name, shown in pictures.items()})

    found = bench.remembered("things", lambda: embedded({name: thing_tensors(name, 3, seed=2)[0] for name in THINGS}))
    for category in categories:
        found = found | bench.remembered(
            ("plain", category),
            lambda category=category: embedded(
                {f"{colour} {category}": plain_tensors(category, colour, count=2) for colour in NAMES}
            ),
        )
    return found


def size_of(mask: Tensor, limits: tuple[float, float]) -> str:
    """Return "small", "" or "big", by the area of the main object's body."""
    area = float(mask.sum())
    return "small" if area < limits[0] else "big" if area > limits[1] else ""


def place_of(mask: Tensor) -> str:
    """Return "left", "" (the middle) or "right", by the centre of the main object's body; "nowhere" without one."""
    columns = mask.float().sum(dim=0)
    if columns.sum() == 0:
        return "nowhere"
    centre = float((columns * torch.arange(len(columns))).sum() / columns.sum())
    limits = [(PLACES[""] + PLACES[side]) / 2 for side in ("left", "right")]
    return "left" if centre < limits[0] else "right" if centre > limits[1] else ""


def area_limits(bench: Workbench, category: str) -> tuple[float, float]:
    """The areas of a body, in pixels, between small and middling, and between middling and big objects.

    They are measured on drawn scenes as the recogniser sees them, through the autoencoder."""

    def measure() -> list[float]:
        rng = np.random.default_rng([5, *category.encode()])
        medians = []
        for size in SIZES:
            scenes = [
                Scene(Placed(category, free_look(rng)), str(rng.choice(("beach", "snow", "grass", "night", "room"))),
                      size=size, seed=int(rng.integers(2**31)))
                for _ in range(CALIBRATION)
            ]  # fmt: skip
            masks = bench.recogniser.body_mask(bench.reconstruct(torch.stack([drawn(scene) for scene in scenes])))
            medians.append(float((masks > 0.5).sum(dim=(1, 2)).float().median()))
        small, middling, big = medians
        return [(small * middling) ** 0.5, (middling * big) ** 0.5]

    facts = {"version": VERSION, "category": category, "weights": bench.hashes}
    return bench.remembered(("limits", category), lambda: tuple(bench.cache.numbers("calibration", facts, measure)))


def second_object(pictures: Tensor, masks: Tensor) -> Tensor:
    """The part of each picture that shows the second object, enlarged as if it were the main one.

    pictures [B, 3, H, W].  masks: of the main object's body, bool [B, H, W]; the second object stands on its other
    side.  The recogniser's embedding describes the main object of what it is shown, so it must not see the first."""
    shown = []
    half = SIDE * SECOND_SIZE / SIZES[""] / 2  # of the window; scales the second object to a main object's size
    top = round(97 - SECOND_SIZE - half * 1.15)
    for picture, mask in zip(pictures, masks, strict=True):
        columns = mask.float().sum(dim=0)
        centre = (columns * torch.arange(SIDE)).sum() / columns.sum().clamp(min=1)
        mirrored = bool(centre > SIDE / 2)
        upright = picture.flip(-1) if mirrored else picture  # now the second object is on the right, around x = 104
        start, width = 80, 2 * half
        rows = upright[:, max(top, 0) : top + round(width), start:]
        left = round(half) - (104 - start)
        right = round(width) - left - rows.shape[-1]
        window = functional.pad(rows[None], (left, max(right, 0), 0, 0), mode="replicate")
        window = functional.interpolate(window, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0]
        shown.append(window.flip(-1) if mirrored else window)
    return torch.stack(shown)
