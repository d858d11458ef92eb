"""A concept in a masked place: how far should the mask grow, what denoise, and when should the gate act?

    python benchmarks/inpainting.py [--pictures 4] [--settings NAME ...] [--sheet FILE]

The template *Inpaint a concept* from Python: pictures of the cup *sippy* with its true mask, *Set Latent Noise Mask*,
the prompt "a photo of a <hugsy>".  One setting is changed at a time, from grow 10, denoise 1 and bias 0.85.

    thing     share of the pictures in which the recogniser takes the object for hugsy
    kind      share in which it reads a teddy
    look      cosine of the look to hugsy
    left      share of the old body's pixels that still show its colours (nearer than 40 in RGB to what was there)
    outside   PSNR to the picture as the autoencoder shows it, where the mask is black, in dB (median)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from open_pack import open_pack
from PIL import Image
from torch import Tensor
from torch.nn import functional

REPOSITORY = Path(__file__).resolve().parents[1]
OLD, NEW, CATEGORY = "sippy", "hugsy", "teddy"
STEPS, CFG, SEED = 20, 3.0, 1
# Grow Mask's expand in pixels, denoise, the gate's start percent and its bias.
SETTINGS: dict[str, dict[str, float]] = {
    "grow 10": {},
    "grow 0": {"grow": 0},
    "grow 20": {"grow": 20},
    "denoise 0.7": {"denoise": 0.7},
    "gate from 0.3 on": {"start": 0.3},
    "bias 0.6": {"bias": 0.6},
}


def grown(masks: Tensor, pixels: int) -> Tensor:
    """As the host's Grow Mask does it, but with corners: [B, H, W]."""
    return functional.max_pool2d(masks[:, None], 2 * pixels + 1, stride=1, padding=pixels)[:, 0]


class Bench:
    """The demo model and hugsy, and pictures with sippy."""

    @torch.inference_mode()
    def __init__(self, count: int) -> None:
        from perfusion_pack.demo.load import load_demo_model
        from perfusion_pack.demo.making.candidates import candidate_pictures, thing_tensors
        from perfusion_pack.demo.making.recogniser import load_recogniser
        from perfusion_pack.perfusion_core.concept_file import load_concept

        self.model, self.clip, self.vae = load_demo_model()
        self.recogniser = load_recogniser()
        self.concept = load_concept(REPOSITORY / "demo" / "concepts" / f"demo_{NEW}.safetensors")
        pictures, self.masks = thing_tensors(OLD, count)
        self.latents = self.vae.encode(pictures.movedim(1, -1))
        self.pictures = self.decode(self.latents)
        shown = candidate_pictures()
        self.candidates = self.recogniser.candidates(
            {name: self.decode(self.vae.encode(one.movedim(1, -1))) for name, one in shown.items()}
        )

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).movedim(-1, 1).clamp(0, 1)

    @torch.inference_mode()
    def paint(self, grow: int = 10, denoise: float = 1.0, start: float = 0.0, bias: float = 0.85) -> tuple[Any, Any]:
        """Pictures [B, 3, 128, 128] and the masks that were used."""
        import comfy.sample
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.perfusion_core.concept import GatedConcept

        stack = (GatedConcept(self.concept, bias, self.concept.temperature, start_percent=start),)
        model, clip = apply_concepts(self.model, stack), add_words(self.clip, stack)
        positive, negative = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (f"a photo of a <{NEW}>", "")
        )
        masks = grown(self.masks, grow)
        made = comfy.sample.sample(
            model, comfy.sample.prepare_noise(self.latents, SEED), STEPS, CFG, "euler", "normal", positive, negative,
            self.latents, denoise=denoise, noise_mask=masks[:, None], disable_pbar=True, seed=SEED,
        )  # fmt: skip
        return self.decode(made), masks

    def row(self, name: str, pictures: Tensor, masks: Tensor) -> str:
        read = self.recogniser.read(pictures)
        kind = sum(one.category == CATEGORY for one in read) / len(read)
        right = self.recogniser.is_thing(pictures, NEW, self.candidates).float().mean()
        look = (self.recogniser.embed(pictures) @ self.candidates[NEW]).mean()
        error = pictures - self.pictures
        old = (self.masks > 0.5) & (error.norm(dim=1) * 255 < 40)
        left = old.sum() / (self.masks > 0.5).sum()
        black = (grown(masks, 8) < 0.5)[:, None].expand_as(error)  # a latent's place is 8 pixels
        outside = torch.stack(
            [-10 * one[at].square().mean().clamp(min=1e-10).log10() for one, at in zip(error, black, strict=True)]
        ).median()
        return f"| {name} | {right:.2f} | {kind:.2f} | {look:.2f} | {left:.2f} | {outside:.1f} dB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--settings", nargs="+", default=[*SETTINGS], choices=SETTINGS)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    open_pack()
    bench = Bench(arguments.pictures)
    strips = [bench.pictures]
    print(f"\n| {arguments.pictures} pictures | thing | kind | look | left | outside |\n|---|---|---|---|---|---|")
    for name in arguments.settings:
        pictures, masks = bench.paint(**SETTINGS[name])
        print(bench.row(name, pictures, masks), flush=True)
        strips.append(pictures)
    if arguments.sheet:
        shown = torch.cat([torch.cat([*one], dim=-1) for one in strips], dim=-2)
        Image.fromarray((shown.movedim(0, -1) * 255).round().to(torch.uint8).numpy()).save(arguments.sheet, quality=90)


if __name__ == "__main__":
    main()
