"""A concept in a masked place: how far should the mask grow, what denoise, and when should the gate act?

    python benchmarks/inpainting.py [--pictures 8] [--cases thing head] [--settings NAME ...] [--sheets FOLDER]

The templates *Inpaint a concept* and *Replace a face* from Python: *Grow Mask*, *Set Latent Noise Mask*, the prompt "a
photo of a <hugsy>".  `thing`: pictures of the cup *sippy* with its true mask.  `head`: pictures of the teddy *bruno*,
and the mask is what of him is above the neck.  Growths and denoise are tried in all pairs, the gate's start and its
bias at the growth and denoise that are advised.

    thing     share of the pictures in which the masked place shows hugsy.  Of a whole thing: the recogniser takes the
              object for hugsy, among all things and plain ones.  Of a head: its pixels are nearest to those of hugsy
              in the same pose, among all teddies of the world and plain ones
    look      of a whole thing: cosine of the look to hugsy
    colours   of a head: mean distance of its pixels to hugsy in the same pose, in RGB (0 to 441)
    left      share of the old pixels there that still show what was there (nearer than 40 in RGB)
    outside   PSNR to the picture as the autoencoder shows it, where the grown mask is black, in dB (median)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_pack import open_pack
from PIL import Image
from torch import Tensor
from torch.nn import functional

REPOSITORY = Path(__file__).resolve().parents[1]
NEW, CATEGORY = "hugsy", "teddy"
OLD = {"thing": "sippy", "head": "bruno"}
STEPS, CFG, SEED = 20, 3.0, 1
SCENES = 2  # of the pictures; settings were chosen by eye on those of seed 0
CELL = 8  # pixels of a latent's place
GROWTHS = {"thing": (0, 10, 20, 40), "head": (0, 4, 8, 16)}
DENOISE = (0.6, 0.8, 1.0)
ADVISED = {"thing": {"grow": 20}, "head": {"grow": 4, "denoise": 0.8}}  # the rest as `paint` has it


def settings(case: str) -> dict[str, dict[str, float]]:
    """What is tried, by name: Grow Mask's expand in pixels, denoise, the gate's start percent and its bias."""
    pairs = {
        f"grow {grow}, denoise {denoise:g}": {"grow": grow, "denoise": denoise}
        for grow in GROWTHS[case]
        for denoise in DENOISE
    }
    others = {
        "advised, gate from 0.3 on": {"start": 0.3},
        "advised, bias 0.6": {"bias": 0.6},
    }
    return pairs | {name: {**ADVISED[case], **changes} for name, changes in others.items()}


def grown(masks: Tensor, pixels: int) -> Tensor:
    """As the host's Grow Mask does it with tapered corners: [B, H, W]."""
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
    for _ in range(pixels):
        masks = (functional.unfold(masks[:, None], 3, padding=1) * cross.reshape(1, 9, 1)).amax(1).view_as(masks)
    return masks


class Bench:
    """The demo model and hugsy, pictures to paint into, and what they would be with hugsy in them."""

    @torch.inference_mode()
    def __init__(self, case: str, count: int, old: str = "") -> None:
        from perfusion_pack.demo.load import load_demo_model
        from perfusion_pack.demo.making.candidates import candidate_pictures
        from perfusion_pack.demo.making.recogniser import load_recogniser
        from perfusion_pack.demo.world.scenes import render
        from perfusion_pack.demo.world.things import varied_scenes
        from perfusion_pack.perfusion_core.concept_file import load_concept

        self.case = case
        self.model, self.clip, self.vae = load_demo_model()
        self.recogniser = load_recogniser()
        self.concept = load_concept(REPOSITORY / "demo" / "concepts" / f"demo_{NEW}.safetensors")
        scenes = varied_scenes(old or OLD[case], count, SCENES)
        pictures, masks = zip(*(render(scene) for scene in scenes), strict=True)
        self.latents = self.vae.encode(_tensors(pictures))
        self.pictures = self.decode(self.latents)
        self.masks = _tensors(masks)
        if case == "head":
            self.in_this_pose = {
                name: self.through([render(replace(scene, main=placed))[0] for scene in scenes])
                for name, placed in _teddies().items()
            }
        else:
            shown = candidate_pictures()
            self.candidates = self.recogniser.candidates(
                {name: self.decode(self.vae.encode(one.movedim(1, -1))) for name, one in shown.items()}
            )

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).movedim(-1, 1).clamp(0, 1)

    def through(self, pictures: list[Image.Image]) -> Tensor:
        """Pictures [B, 3, 128, 128] as the autoencoder shows them."""
        return self.decode(self.vae.encode(_tensors(pictures)))

    @torch.inference_mode()
    def paint(
        self, grow: int = 0, denoise: float = 1.0, start: float = 0.0, end: float = 1.0, bias: float = 0.85
    ) -> tuple[Tensor, Tensor]:
        """Pictures [B, 3, 128, 128] and the masks that were used."""
        import comfy.sample
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.perfusion_core.concept import GatedConcept

        stack = (GatedConcept(self.concept, bias, self.concept.temperature, start_percent=start, end_percent=end),)
        model, clip = apply_concepts(self.model, stack), add_words(self.clip, stack)
        positive, negative = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (f"a photo of a <{NEW}>", "")
        )
        masks = self.place(grow)
        made = comfy.sample.sample(
            model, comfy.sample.prepare_noise(self.latents, SEED), STEPS, CFG, "euler", "normal", positive, negative,
            self.latents, denoise=denoise, noise_mask=masks[:, None], disable_pbar=True, seed=SEED,
        )  # fmt: skip
        return self.decode(made), masks

    def place(self, grow: int = 0) -> Tensor:
        """The masks, grown by so many pixels: [B, 128, 128]."""
        from perfusion_pack.demo.making.replacing_prompts import NECK

        masks = grown(self.masks, grow).clone()
        if self.case == "head":
            masks[:, NECK + grow :] = 0
        return masks

    def row(self, name: str, pictures: Tensor, masks: Tensor) -> str:
        inside = self.place() > 0.5
        if self.case == "head":
            distances = {one: self._distance(pictures, shown) for one, shown in self.in_this_pose.items()}
            nearest = torch.stack([*distances.values()]).argmin(dim=0)
            right = (nearest == [*distances].index(NEW)).float().mean()
            near = f"{distances[NEW].mean():.0f}"
        else:
            right = self.recogniser.is_thing(pictures, NEW, self.candidates).float().mean()
            near = f"{(self.recogniser.embed(pictures) @ self.candidates[NEW]).mean():.2f}"
        error = pictures - self.pictures
        left = (inside & (error.norm(dim=1) * 255 < 40)).sum() / inside.sum()
        black = (grown(masks, CELL) < 0.5)[:, None].expand_as(error)
        outside = torch.stack(
            [-10 * one[at].square().mean().clamp(min=1e-10).log10() for one, at in zip(error, black, strict=True)]
        ).median()
        return f"| {name} | {right:.2f} | {near} | {left:.2f} | {outside:.1f} dB |"

    def _distance(self, pictures: Tensor, shown: Tensor) -> Tensor:
        """Mean distance in the ungrown masks, [B]."""
        inside = self.place() > 0.5
        return 255 * ((pictures - shown).norm(dim=1) * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))


def _teddies() -> dict[str, Any]:
    """All teddies of the world, and a plain one of each colour."""
    from perfusion_pack.demo.world.colours import NAMES
    from perfusion_pack.demo.world.looks import plain_look
    from perfusion_pack.demo.world.scenes import Placed
    from perfusion_pack.demo.world.things import THINGS

    rng = np.random.default_rng(0)
    things = {name: thing.placed() for name, thing in THINGS.items() if thing.category == CATEGORY}
    return things | {name: Placed(CATEGORY, plain_look(name, "plain", rng), name, "plain") for name in NAMES}


def _tensors(pictures: Any) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(one) for one in pictures]).astype(np.float32) / 255)


def save_sheet(path: Path, strips: Sequence[Tensor]) -> None:
    """The first six pictures of each strip, [B, 3, H, W] in 0..1, one strip below the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = torch.cat([torch.cat([*one[:6]], dim=-1) for one in strips], dim=-2)
    Image.fromarray((shown.movedim(0, -1) * 255).round().to(torch.uint8).numpy()).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--cases", nargs="+", default=[*OLD], choices=OLD)
    parser.add_argument("--settings", nargs="+", help="names of rows; all")
    parser.add_argument("--sheets", type=Path, help="folder for a picture of each case")
    arguments = parser.parse_args()
    open_pack()
    for case in arguments.cases:
        bench, near = Bench(case, arguments.pictures), "colours" if case == "head" else "look"
        strips = [bench.pictures]
        print(f"\n| {case}, {arguments.pictures} pictures | thing | {near} | left | outside |\n|---|---|---|---|---|")
        for name, changes in settings(case).items():
            if arguments.settings and name not in arguments.settings:
                continue
            pictures, masks = bench.paint(**changes)
            print(bench.row(name, pictures, masks), flush=True)
            strips.append(pictures)
        if arguments.sheets:
            save_sheet(arguments.sheets / f"inpainting_{case}.jpg", strips)


if __name__ == "__main__":
    main()
