"""Measures the demo model: does it paint what prompts ask?  Prints the table and draws the contact sheet of README.md.

    python demo/making/run.py measure --prompts 200 --cfg 2 3 4 5 --sheet contact-sheet.jpg

The prompts state every attribute of held-out scenes whose objects words can describe; the host's Euler sampler paints
them and the recogniser reads them.  The shipped weights are loaded as the pack loads them; --beside-trained says what
their eight bits cost.
"""

from __future__ import annotations

import argparse
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..model import WEIGHTS
from ..world.captions import full_caption
from ..world.scenes import SIZE, Scene
from .dataset import HELD_OUT, draw, scene_number
from .host import use_comfyui
from .recogniser import Reading, Recogniser, load_recogniser
from .trained_weights import TRAINED

BATCH = 25
# What is counted, with the least share that the model must reach.
BAR = {
    "category": 0.97,
    "background": 0.97,
    "colour": 0.92,
    "pattern": 0.88,
    "accessory": 0.88,
    "accessory, where one is asked": None,
    "second object's category, where one is asked": 0.80,
    "second object's colour, where one is asked": 0.80,
    "second object's category and colour, where one is asked": None,
    "no second object, where none is asked": None,
    "everything": None,
}


def prompted_scenes(count: int) -> list[Scene]:
    """The first `count` held-out scenes in which every object has a look that words describe."""
    scenes: list[Scene] = []
    number = HELD_OUT
    while len(scenes) < count:
        scene = scene_number(number)
        if scene.main.colour and (scene.second is None or scene.second.colour):
            scenes.append(scene)
        number += 1
    return scenes


def judged(scene: Scene, reading: Reading) -> dict[str, bool]:
    """Which rows of BAR the reading fulfils; rows that do not apply to the scene are left out."""
    right = {
        "category": reading.category == scene.main.category,
        "background": reading.background == scene.background,
        "colour": reading.colour == scene.main.colour,
        "pattern": reading.pattern == scene.main.pattern,
        "accessory": reading.accessory == scene.accessory,
    }
    result = dict(right)
    if scene.accessory != "none":
        result["accessory, where one is asked"] = right["accessory"]
    if scene.second is None:
        second = result["no second object, where none is asked"] = reading.second == "none"
    else:
        category, colour = reading.second == scene.second.category, reading.second_colour == scene.second.colour
        second = category and colour
        result["second object's category, where one is asked"] = category
        result["second object's colour, where one is asked"] = colour
        result["second object's category and colour, where one is asked"] = second
    result["everything"] = second and all(right.values())
    return result


class DemoModel:
    """The model, as the pack loads it, behind the host's sampler; folder: of its weights."""

    def __init__(self, folder: Path = WEIGHTS) -> None:
        use_comfyui()
        from ..load import load_demo_model

        self.model, self.clip, self.vae = load_demo_model(folder)

    def encode(self, texts: list[str]) -> list:
        """The texts as one conditioning batch."""
        encoded = [self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))[0] for text in texts]
        return [[torch.cat([encoding for encoding, _ in encoded]), {}]]

    @torch.inference_mode()
    def paint(self, texts: list[str], scale: float, seed: int, steps: int = 20) -> Tensor:
        """Pictures [B, H, W, 3] in 0..1 after the texts: Euler, scheduler "normal", guidance `scale`."""
        import comfy.sample

        latent = torch.zeros(len(texts), 4, SIZE // 8, SIZE // 8)
        noise = comfy.sample.prepare_noise(latent, seed)
        nothing = self.encode([""])
        samples = comfy.sample.sample(
            self.model,
            noise,
            steps,
            scale,
            "euler",
            "normal",
            self.encode(texts),
            nothing,
            latent,
            disable_pbar=True,
            seed=seed,
        )
        return self.vae.decode(samples).float().cpu().clamp(0, 1)

    @torch.inference_mode()
    def reconstruct(self, pictures: Tensor) -> Tensor:
        """What the autoencoder makes of pictures [B, H, W, 3] in 0..1."""
        return self.vae.decode(self.vae.encode(pictures)).float().cpu().clamp(0, 1)


def peak_signal_to_noise(demo: DemoModel, count: int = 128) -> float:
    """Mean PSNR in dB of the autoencoder over `count` held-out pictures."""
    pictures = torch.from_numpy(draw(HELD_OUT, count)).float() / 255
    shown = torch.cat([demo.reconstruct(part) for part in pictures.split(BATCH)])
    return float(-10 * (shown - pictures).square().mean(dim=(1, 2, 3)).log10().mean())


def share(judgements: list[dict[str, bool]], row: str) -> float:
    """Share of the judgements that fulfil `row`, among those to which it applies."""
    return float(np.mean([judgement[row] for judgement in judgements if row in judgement] or [np.nan]))


def table(of_scale: dict[float, list[dict[str, bool]]]) -> str:
    """The shares as Markdown: a row for each of BAR, a column for each guidance scale."""
    lines = ["| read by the recogniser | bar | " + " | ".join(f"CFG {scale:g}" for scale in of_scale) + " |"]
    lines.append("|---|---|" + "---|" * len(of_scale))
    for row, bar in BAR.items():
        shares = [share(judgements, row) for judgements in of_scale.values()]
        cells = [f"{value:.3f}" if bar is None or value >= bar else f"**{value:.3f}**" for value in shares]
        lines.append(f"| {row} | {'' if bar is None else f'{bar:.2f}'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def contact_sheet(pictures: Tensor, texts: list[str], wrong: list[str], columns: int = 8) -> Image.Image:
    """The pictures with what was asked under each, and in red what the recogniser read otherwise."""
    width, height = SIZE + 8, SIZE + 56
    rows = -(-len(texts) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw_on = ImageDraw.Draw(sheet)
    for i, (picture, text, fault) in enumerate(zip(pictures, texts, wrong, strict=True)):
        x, y = i % columns * width + 4, i // columns * height + 4
        sheet.paste(Image.fromarray((picture.numpy() * 255).round().astype(np.uint8)), (x, y))
        lines = [(line, "black") for line in wrapped(text.removeprefix("a photo of "), 26)][:3]
        lines += [(line, "red") for line in wrapped(fault, 26)][:1]
        for j, (line, colour) in enumerate(lines):
            draw_on.text((x, y + SIZE + 1 + 12 * j), line, fill=colour, font_size=10)
    return sheet


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters, where its words allow it."""

    return textwrap.wrap(text, width)


def faults(judgement: dict[str, bool], reading: Reading) -> str:
    """The attributes that were read otherwise than asked, in a few words."""
    seen = {
        "category": reading.category,
        "background": reading.background,
        "colour": reading.colour,
        "pattern": reading.pattern,
        "accessory": reading.accessory,
        "second object's category, where one is asked": reading.second,
        "second object's colour, where one is asked": reading.second_colour,
        "no second object, where none is asked": reading.second,
    }
    wrong = [value or "nothing" for row, value in seen.items() if not judgement.get(row, True)]
    return f"read: {', '.join(wrong)}" if wrong else ""


class Painted(NamedTuple):
    """Pictures [B, H, W, 3] in 0..1 of the prompts, what was read in them, and how that was judged."""

    pictures: Tensor
    readings: list[Reading]
    judgements: list[dict[str, bool]]


def paint(
    demo: DemoModel, recogniser: Recogniser, scenes: list[Scene], scale: float, arguments: argparse.Namespace
) -> Painted:
    """Paint the scenes' captions and read the pictures; arguments: `steps` and `seed` are taken."""
    texts = [full_caption(scene) for scene in scenes]
    parts = [
        demo.paint(texts[first : first + BATCH], scale, arguments.seed + first, arguments.steps)
        for first in range(0, len(texts), BATCH)
    ]
    pictures = torch.cat(parts)
    readings = recogniser.read(pictures)
    judgements = [judged(scene, reading) for scene, reading in zip(scenes, readings, strict=True)]
    return Painted(pictures, readings, judgements)


def beside_trained(shipped: Painted, trained: Painted) -> str:
    """How far the pictures of the shipped weights are from those of the weights as they were trained, in words."""
    apart = -10 * (shipped.pictures - trained.pictures).square().mean(dim=(1, 2, 3)).log10()
    other = sum(one != same for one, same in zip(shipped.judgements, trained.judgements, strict=True))
    return (
        f"Beside the weights as trained: {apart.median():.1f} dB (median), {apart.min():.1f} dB (worst) from the same "
        f"picture; {other} of {len(apart)} pictures are read otherwise, everything right in "
        f"{share(trained.judgements, 'everything'):.3f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--cfg", type=float, nargs="+", default=[2.0, 3.0, 4.0, 5.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside-trained", action="store_true", help="also with the weights in half precision")
    parser.add_argument(
        "--sheet", type=Path, help="draw the contact sheet of the best guidance scale into this .jpg file"
    )
    arguments = parser.parse_args()
    demo, recogniser = DemoModel(), load_recogniser()
    scenes = prompted_scenes(arguments.prompts)
    texts = [full_caption(scene) for scene in scenes]
    start = time.monotonic()
    painted = {scale: paint(demo, recogniser, scenes, scale, arguments) for scale in arguments.cfg}
    seconds = (time.monotonic() - start) / len(texts) / len(arguments.cfg)
    print(table({scale: of_scale.judgements for scale, of_scale in painted.items()}))
    print(
        f"\n{len(texts)} held-out prompts, Euler, {arguments.steps} steps, {seconds:.2f} s a picture. "
        f"Autoencoder: {peak_signal_to_noise(demo):.2f} dB on held-out pictures (bar: 26 dB). "
        "Values in bold miss the bar."
    )
    if arguments.beside_trained:
        trained = DemoModel(TRAINED)
        for scale, of_scale in painted.items():
            print(f"CFG {scale:g}. {beside_trained(of_scale, paint(trained, recogniser, scenes, scale, arguments))}")
        print(f"Autoencoder as trained: {peak_signal_to_noise(trained):.2f} dB.")
    if arguments.sheet:
        best = max(painted, key=lambda scale: share(painted[scale].judgements, "everything"))
        pictures, readings, judgements = painted[best]
        wrong = [faults(judgement, reading) for judgement, reading in zip(judgements, readings, strict=True)]
        sheet = contact_sheet(pictures[:40], texts[:40], wrong[:40])
        sheet.save(arguments.sheet, quality=80)
        size = arguments.sheet.stat().st_size
        print(f"\nContact sheet of the first 40 prompts at CFG {best:g}: {arguments.sheet} ({size // 1000} kB).")
