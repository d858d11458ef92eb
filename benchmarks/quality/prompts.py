"""What the pictures are asked to show, and the same scenes drawn for real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from perfusion_pack.demo.world.backgrounds import BACKGROUNDS, PHRASES
from perfusion_pack.demo.world.captions import full_caption, with_article
from perfusion_pack.demo.world.colours import NAMES
from perfusion_pack.demo.world.looks import plain_look
from perfusion_pack.demo.world.objects import ACCESSORIES
from perfusion_pack.demo.world.scenes import Placed, Scene, random_scene, render
from perfusion_pack.demo.world.shapes import CATEGORIES
from PIL import Image
from torch import Tensor

SINGLE_PROMPTS = 24


@dataclass(frozen=True)
class Prompt:
    """A text with {} where the word goes, and what must be found in a picture of it.

    asked: by attribute (background, accessory, second, second_colour, size, place); "category" is the superclass.
    said: what the text states, in the same words."""

    text: str
    asked: Mapping[str, str]
    said: Mapping[str, str]


def single_prompts(superclass: str, count: int = SINGLE_PROMPTS) -> list[Prompt]:
    """The first `count` of 24 prompts for a thing: every background with every kind of further wish.

    The kinds take turns, so that a short list has them all."""
    return [_prompt(superclass, index % 4, index // 4, count_so_far=index) for index in range(count)]


def _prompt(superclass: str, kind: int, turn: int, count_so_far: int) -> Prompt:
    asked = {"category": superclass, "background": BACKGROUNDS[(kind + 5 * turn) % len(BACKGROUNDS)]}
    others = [category for category in CATEGORIES if category != superclass]
    second = {"second": others[count_so_far % len(others)], "second_colour": NAMES[(3 * turn + kind) % len(NAMES)]}
    accessory = {"accessory": ACCESSORIES[1 + turn % 2]}
    size, place = ("small", "left"), ("big", "right")
    if kind == 0:
        asked |= accessory
    elif kind == 1:
        asked |= second
    elif kind == 2:
        pairs = (("small", "left"), ("big", "right"), ("small", "right"), ("big", "left"), ("small", ""), ("", "left"))
        size, place = pairs[turn % len(pairs)]
        asked |= {name: value for name, value in (("size", size), ("place", place)) if value}
    else:
        asked |= accessory | (second if turn % 2 else {"size": "small"})
    return prompt_of(asked, asked)


def prompt_of(said: Mapping[str, str], asked: Mapping[str, str]) -> Prompt:
    """The prompt that states a scene, worded as the captions of the demo world are."""
    text = "a photo of a " + ("{} {{}}".format(said["size"]) if "size" in said else "{}")
    if "accessory" in said:
        text += f" with a {said['accessory']}"
    if "place" in said:
        text += f" on the {said['place']}"
    if "second" in said:
        text += f" beside a {said['second_colour']} {said['second']}"
    return Prompt(with_article(f"{text} {PHRASES[said['background']]}"), asked, said)


def real_pictures(placed: Placed, prompts: list[Prompt], seed: int) -> Tensor:
    """Pictures [P, 3, 128, 128] that show the object as each prompt says, drawn by the demo world."""
    rng = np.random.default_rng([seed, 31])
    pictures = []
    for prompt in prompts:
        said, second = prompt.said, None
        if "second" in said:
            colour = said["second_colour"]
            second = Placed(said["second"], plain_look(colour, "plain", rng), colour, "plain")
        scene = Scene(
            placed, said["background"], said.get("accessory", "none"), second,
            size=said.get("size", ""), place=said.get("place", ""), seed=int(rng.integers(2**31)),
        )  # fmt: skip
        pictures.append(drawn(scene))
    return torch.stack(pictures)


def pair_prompts(count: int) -> list[str]:
    """Texts with {} for the main and {} for the second object, one for each of the first `count` backgrounds."""
    return [f"a photo of a {{}} beside a {{}} {PHRASES[background]}" for background in BACKGROUNDS[:count]]


def pair_scene(main: Placed, second: Placed, index: int, rng: np.random.Generator) -> Scene:
    """The scene of the pair prompt `index`."""
    side = str(rng.choice(("left", "right")))
    return Scene(main, BACKGROUNDS[index], second=second, second_side=side, seed=int(rng.integers(2**31)))


def plain_captions(count: int, seed: int = 20_000_000) -> list[str]:
    """Captions of the demo world that state everything and name no thing."""
    return [full_caption(scene) for scene in plain_scenes(count, seed)]


def plain_scenes(count: int, seed: int = 20_000_000) -> list[Scene]:
    """Scenes of the demo world in which every object has a look that words describe."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(np.random.default_rng(seed))
        seed += 1
        if scene.main.colour and (scene.second is None or scene.second.colour):
            scenes.append(scene)
    return scenes


def drawn(scene: Scene) -> Tensor:
    """The scene as a picture [3, 128, 128] in 0..1."""
    return as_tensor(render(scene)[0])


def as_tensor(picture: Image.Image) -> Tensor:
    """A picture as [3, H, W] or a mask as [H, W], in 0..1."""
    values = torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)
    return values.movedim(-1, 0).contiguous() if values.dim() == 3 else values
