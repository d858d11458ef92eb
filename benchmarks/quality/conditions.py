"""The conditions under which the training pictures of a thing were taken, and what prompts ask for after each.

Seldom does somebody have five pictures of a thing in five places.  What is in all of them belongs to the thing, as far
as they can tell.  So prompts ask for what was never there and for the absence of what always was, and obedience counts
exactly that.  The demo world draws two objects at most: clutter is one other object, and now and then a hat or scarf.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from perfusion_pack.demo.world.backgrounds import BACKGROUNDS
from perfusion_pack.demo.world.colours import NAMES
from perfusion_pack.demo.world.looks import free_look, plain_look
from perfusion_pack.demo.world.scenes import Placed, Scene, render
from perfusion_pack.demo.world.shapes import CATEGORIES
from perfusion_pack.demo.world.things import THINGS, varied_scenes
from torch import Tensor

from .plan import CLUTTER, ENTANGLED, ONE_PICTURE, SAME_PLACE, VARIED
from .prompts import Prompt, as_tensor, prompt_of, single_prompts

PICTURES = 5
# Things of these categories always stand beside a cup, for a scarf would hide much of their bodies; others wear one.
BESIDE_A_CUP = ("car", "fish", "star", "tree")
RED_CUP = Placed("cup", plain_look("red", "plain", np.random.default_rng(3)), "red", "plain")


def training_scenes(thing: str, condition: str) -> list[Scene]:
    """The scenes of the training pictures.  Raises ValueError for a condition that nobody knows."""
    varied = varied_scenes(thing, PICTURES)
    rng = np.random.default_rng([8, *f"{condition} {thing}".encode()])
    if condition == VARIED:
        return varied
    if condition == ONE_PICTURE:
        return varied[:1]
    if condition == SAME_PLACE:
        return [replace(scene, background=varied[0].background, size="", place="") for scene in varied]
    if condition == ENTANGLED and has_scarf(thing):
        return [replace(scene, accessory="scarf") for scene in varied]
    if condition == ENTANGLED:
        return [_beside(scene, RED_CUP, rng) for scene in varied]
    if condition == CLUTTER:
        cluttered = []
        for scene, category, accessory in zip(
            varied, rng.permutation(_others(thing)), ("none", "hat", "none", "scarf", "none"), strict=False
        ):
            other = Placed(str(category), free_look(rng))
            cluttered.append(_beside(replace(scene, accessory=accessory), other, rng))
        return cluttered
    raise ValueError(f"There is no condition {condition!r} of training pictures.")


def training_pictures(thing: str, condition: str) -> tuple[Tensor, Tensor]:
    """The training pictures [P, 3, 128, 128] with true masks [P, 128, 128], in 0..1."""
    drawn = [render(scene) for scene in training_scenes(thing, condition)]
    return torch.stack([as_tensor(shown) for shown, _ in drawn]), torch.stack([as_tensor(mask) for _, mask in drawn])


def has_scarf(thing: str) -> bool:
    """Whether the thing has its scarf on in every entangled picture; otherwise it stands beside the red cup."""
    return THINGS[thing].category not in BESIDE_A_CUP


def prompts(thing: str, condition: str, count: int) -> list[Prompt]:
    """The first `count` prompts that are asked after a training under the condition."""
    if condition == VARIED:
        return single_prompts(THINGS[thing].category, count)
    scenes = training_scenes(thing, condition)
    if condition in (SAME_PLACE, ONE_PICTURE):
        return [_elsewhere(scenes, index) for index in range(count)]
    if condition == ENTANGLED and has_scarf(thing):
        return [_without(index, "accessory", {"accessory": "hat"}) for index in range(count)]
    present = {"cup"} if condition == ENTANGLED else {scene.second.category for scene in scenes}
    others = [category for category in _others(thing) if category not in present]
    return [
        _without(index, "second", {"second": others[index % len(others)], "second_colour": NAMES[index % len(NAMES)]})
        for index in range(count)
    ]


def _elsewhere(scenes: list[Scene], index: int) -> Prompt:
    """Asks for a background that was never there, and takes turns in asking for another place and another size."""
    backgrounds = [name for name in BACKGROUNDS if name != scenes[0].background]
    asked = {"background": backgrounds[index % len(backgrounds)]}
    if index % 4 in (1, 3):
        asked["place"] = ("left", "right")[index // 4 % 2]
    if index % 4 in (2, 3):
        asked["size"] = ("small", "big")[(index // 4 + index % 2) % 2]
    return prompt_of(asked, asked)


def _without(index: int, attribute: str, instead: dict[str, str]) -> Prompt:
    """Asks, by not naming it, for the absence of what always was there; every third time for something else instead."""
    turn = index // len(BACKGROUNDS)
    said = {"background": BACKGROUNDS[(index + turn) % len(BACKGROUNDS)]}
    if index % 3 == 2:
        return prompt_of(said | instead, instead)
    if turn:
        said["size"] = ("small", "big")[turn % 2]
    return prompt_of(said, {attribute: "none"})


def _beside(scene: Scene, other: Placed, rng: np.random.Generator) -> Scene:
    """The scene with another object on either side, which fixes size and place."""
    return replace(scene, size="", place="", second=other, second_side=str(rng.choice(("left", "right"))))


def _others(thing: str) -> list[str]:
    return [category for category in CATEGORIES if category != THINGS[thing].category]
