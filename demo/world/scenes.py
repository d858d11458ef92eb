"""A scene: every attribute of a picture as data, drawn from a seed and rendered with its true mask."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from . import colours, objects
from .backgrounds import BACKGROUNDS, draw_background
from .looks import PATTERNS, Look, free_look, plain_look
from .shapes import CATEGORIES

SIZE = 128
SUPERSAMPLING = 2
SIZES = {"small": 23.0, "": 29.0, "big": 36.0}  # half the object's height in picture pixels
PLACES = {"left": 40.0, "": 64.0, "right": 88.0}
SECOND_SIZE = 21.0
FREE_LOOKS = 0.33
MIRRORED = ("cup", "car", "fish")  # categories whose left is not like their right
LEAN = 7.0  # most degrees that an object leans to either side


@dataclass(frozen=True)
class Placed:
    """An object in a scene.  `colour` and `pattern` are empty for free looks, which no caption names."""

    category: str
    look: Look
    colour: str = ""
    pattern: str = ""


@dataclass(frozen=True)
class Scene:
    """All that is in a picture; `seed` fixes what has no name (pose, horizon, small shifts)."""

    main: Placed
    background: str
    accessory: str = "none"
    second: Placed | None = None
    second_side: str = "right"
    size: str = ""
    place: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Pose:
    """Where and how an object is drawn: its centre and half its height in picture pixels, its lean in degrees and
    whether it is mirrored, which only cups, cars and fish are (MIRRORED)."""

    x: float
    y: float
    half: float
    lean: float = 0.0
    mirrored: bool = False


def random_object(
    rng: np.random.Generator, category: str | None = None, free_looks: float = FREE_LOOKS, plain: bool = False
) -> Placed:
    """An object of the category (any, if None); with probability `free_looks` its look is one that words cannot say."""
    category = category or str(rng.choice(CATEGORIES))
    if rng.random() < free_looks:
        return Placed(category, free_look(rng))
    colour = str(rng.choice(colours.NAMES))
    pattern = "plain" if plain or rng.random() < 0.4 else str(rng.choice(PATTERNS[1:]))
    return Placed(category, plain_look(colour, pattern, rng), colour, pattern)


def random_scene(rng: np.random.Generator, main: Placed | None = None) -> Scene:
    """A scene with every attribute drawn at random; `main` fixes the main object."""
    main = main or random_object(rng)
    scene = Scene(main, str(rng.choice(BACKGROUNDS)), seed=int(rng.integers(2**31)))
    chance = rng.random()
    if chance < 0.4:
        scene = replace(scene, accessory=str(rng.choice(objects.ACCESSORIES[1:])))
    if rng.random() < 0.42:
        other = str(rng.choice([c for c in CATEGORIES if c != main.category]))
        return replace(
            scene, second=random_object(rng, other, plain=True), second_side=str(rng.choice(("left", "right")))
        )
    if rng.random() < 0.4:
        scene = replace(scene, size=str(rng.choice(("small", "big"))))
    if rng.random() < 0.3:
        scene = replace(scene, place=str(rng.choice(("left", "right"))))
    return scene


def random_scene_of_two(rng: np.random.Generator) -> Scene:
    """A scene with a second object whose look words cannot say, beside a main object of any kind of look."""
    main = random_object(rng, free_looks=0.5)
    other = str(rng.choice([c for c in CATEGORIES if c != main.category]))
    side = str(rng.choice(("left", "right")))
    scene = replace(random_scene(rng, main), size="", place="")
    return replace(scene, second=random_object(rng, other, free_looks=1.0), second_side=side)


def centres(scene: Scene) -> list[tuple[float, float, float]]:
    """Where the main and the second object stand: x, y and half the height in picture pixels.  A drawing of the main
    one is off by a few pixels."""
    half, x = SIZES[scene.size], PLACES[scene.place]
    if scene.second is None:
        return [(x, 103 - half, half)]
    sign = 1 if scene.second_side == "right" else -1
    half = SIZES[""]
    return [(64.0 - sign * 21, 103 - half, half), (64.0 + sign * 40, 97 - SECOND_SIZE, SECOND_SIZE)]


def render(scene: Scene, pose: Pose | None = None) -> tuple[Image.Image, Image.Image]:
    """The picture (RGB, 128 x 128) and the true mask of the main object (L, 128 x 128); with the main object in `pose`,
    or in the one that follows from the scene's seed."""
    picture, drawn = _set(scene)
    mask = _paste(picture, scene.main, scene.accessory, pose or drawn)
    return picture.reduce(SUPERSAMPLING), mask.reduce(SUPERSAMPLING)


def pose_of(scene: Scene) -> Pose:
    """The pose in which `render` draws the main object."""
    return _set(scene)[1]


def _set(scene: Scene) -> tuple[Image.Image, Pose]:
    """The picture without its main object, and that object's pose."""
    rng = np.random.default_rng(scene.seed)
    picture = draw_background(scene.background, SIZE * SUPERSAMPLING, rng)
    (x, y, half), *seconds = centres(scene)
    if scene.second is not None:
        _paste(picture, scene.second, "none", _random_pose(scene.second.category, *seconds[0], rng))
    y += rng.uniform(-3, 3)
    x += rng.uniform(-4, 4)
    return picture, _random_pose(scene.main.category, x, y, half * rng.uniform(0.95, 1.05), rng)


def _random_pose(category: str, x: float, y: float, half: float, rng: np.random.Generator) -> Pose:
    mirrored = rng.random() < 0.5
    return Pose(x, y, half, rng.uniform(-LEAN, LEAN), mirrored and category in MIRRORED)


def _paste(picture: Image.Image, placed: Placed, accessory: str, pose: Pose) -> Image.Image:
    """Draw the object; returns its mask."""
    canvas, silhouette = objects.draw_object(placed.category, placed.look, accessory)
    angle = np.deg2rad(pose.lean)
    # From picture to canvas coordinates, as Image.transform wants it.
    scale = objects.PIXELS_PER_UNIT / (pose.half * SUPERSAMPLING)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    flip = -1 if pose.mirrored else 1
    cx, cy, half = (SUPERSAMPLING * value for value in (pose.x, pose.y, pose.half))
    middle = objects.SIZE / 2
    matrix = (
        flip * cosine,
        flip * sine,
        middle - flip * (cosine * cx + sine * cy),
        -sine,
        cosine,
        middle + sine * cx - cosine * cy,
    )
    _shadow(picture, cx, cy + half * 0.98, half)
    placed_canvas = canvas.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    picture.paste(placed_canvas, mask=placed_canvas.getchannel("A"))
    return silhouette.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _shadow(picture: Image.Image, x: float, y: float, half: float) -> None:
    shade = Image.new("L", picture.size, 0)
    ImageDraw.Draw(shade).ellipse((x - half * 0.8, y - half * 0.14, x + half * 0.8, y + half * 0.14), fill=70)
    picture.paste((16, 18, 34), mask=shade.filter(ImageFilter.BoxBlur(4)))
