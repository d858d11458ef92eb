"""The subject of a picture that you have becomes a concept, without a mask: what of the edit helps?

    python benchmarks/replacing.py [--pictures 8] [--cases teddy cup] [--sheets FOLDER]

The template *Replace a subject* from Python: *Edit with Prompt-to-Prompt* with `real_picture` on, "a photo of a teddy"
and "teddy -> <hugsy>", on pictures of the teddy *bruno*; and the same of the cup *sippy*.  Beside it, on the same
latents: img2img with the new prompt, and the true mask, grown, as inpainting.py paints it.

    thing     share of the pictures that are taken for hugsy, among all things and plain ones
    look      cosine of the look to hugsy
    near      share in which the body's centre has moved by less than 6 pixels
    outside   PSNR to the picture as the autoencoder shows it, outside of both bodies, grown by 4 pixels (median)
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from editing import MOVED, distance, outside
from inpainting import CFG, NEW, SEED, STEPS, Bench, save_sheet
from open_pack import open_pack
from torch import Tensor

OLD = {"teddy": "bruno", "cup": "sippy"}
IMG2IMG = (0.6, 0.8)
BIAS = 0.85


def ways() -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """What is tried: changes of the edit, of its local blend, and of what is done for pictures that are given."""
    return {
        "as it comes": ({}, {}, {}),
        "self_end 0.8": ({"own": (0.0, 0.8)}, {}, {}),
        "threshold 0.5": ({}, {"threshold": 0.5}, {}),
        "changes everywhere": ({"blend": None}, {}, {}),
        "real_end 0.7": ({}, {}, {"end": 0.7}),
        "real_end 0.4": ({}, {}, {"end": 0.4}),
        "self_end 0.6, real_end 0.4": ({"own": (0.0, 0.6)}, {}, {"end": 0.4}),
        "self_end 0.8, real_end 0.4": ({"own": (0.0, 0.8)}, {}, {"end": 0.4}),
    }


class Replacing:
    """hugsy on the demo model, and pictures of something else."""

    @torch.inference_mode()
    def __init__(self, case: str, count: int) -> None:
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.perfusion_core.concept import GatedConcept

        self.bench = Bench("thing", count, OLD[case])
        stack = (GatedConcept(self.bench.concept, BIAS, self.bench.concept.temperature),)
        self.model, self.clip = apply_concepts(self.bench.model, stack), add_words(self.bench.clip, stack)
        self.texts = f"a photo of a {case}", f"a photo of a <{NEW}>"
        self.negative = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))
        self.bodies = self.bench.recogniser.body_mask(self.bench.pictures) > 0.5

    @torch.inference_mode()
    def edited(self, edit: dict[str, Any], blend: dict[str, Any], real: dict[str, Any]) -> Tensor:
        """The edits [B, 3, 128, 128] of the pictures."""
        import comfy.sample
        from perfusion_pack.nodes.host.editing.edit_masks import EditMasks
        from perfusion_pack.nodes.host.editing.edit_patch import apply_edits
        from perfusion_pack.nodes.host.editing.edit_run import RealPicture
        from perfusion_pack.nodes.host.editing.edited_latents import in_rows
        from perfusion_pack.nodes.host.editing.edited_prompts import plan_edits
        from perfusion_pack.perfusion_core.prompt_edit import LocalBlend, PromptEdit

        asked = PromptEdit(self.texts[1], **{"blend": replace(LocalBlend(), **blend), **edit})
        plan, positive = plan_edits(self.clip, self.texts[0], [asked])
        model = apply_edits(self.model, plan, EditMasks(), RealPicture(**real))
        latent = in_rows({"samples": self.bench.latents}, plan.rows)
        noise = comfy.sample.prepare_noise(latent["samples"], SEED, latent["batch_index"])
        made = comfy.sample.sample(
            model, noise, STEPS, CFG, "euler", "normal", positive, self.negative, latent["samples"], disable_pbar=True,
            seed=SEED,
        )  # fmt: skip
        return self.bench.decode(made[1::2])

    @torch.inference_mode()
    def painted_over(self, denoise: float) -> Tensor:
        """What img2img with the new prompt makes of the pictures."""
        import comfy.sample

        positive = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(self.texts[1]))
        latents = self.bench.latents
        made = comfy.sample.sample(
            self.model, comfy.sample.prepare_noise(latents, SEED), STEPS, CFG, "euler", "normal", positive,
            self.negative, latents, denoise=denoise, disable_pbar=True, seed=SEED,
        )  # fmt: skip
        return self.bench.decode(made)

    def painted_in(self, grow: int) -> Tensor:
        """What is painted under the grown true masks."""
        return self.bench.paint(grow=grow)[0]

    def row(self, name: str, pictures: Tensor) -> str:
        of, bodies = self.bench.recogniser, self.bench.recogniser.body_mask(pictures) > 0.5
        right = of.is_thing(pictures, NEW, self.bench.candidates).float().mean()
        look = (of.embed(pictures) @ self.bench.candidates[NEW]).mean()
        pairs = list(zip(pictures, self.bench.pictures, bodies, self.bodies, strict=True))
        near = sum(distance(body, old) < MOVED for _, _, body, old in pairs) / len(pairs)
        apart = torch.tensor([outside(one, other, body | old) for one, other, body, old in pairs]).nanmedian()
        return f"| {name} | {right:.2f} | {look:.2f} | {near:.2f} | {apart:.1f} dB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--cases", nargs="+", default=[*OLD], choices=OLD)
    parser.add_argument("--sheets", type=Path, help="folder for a picture of each case")
    arguments = parser.parse_args()
    open_pack()
    for case in arguments.cases:
        of = Replacing(case, arguments.pictures)
        print(f"\n| {case}, {arguments.pictures} pictures | thing | look | near | outside |\n|---|---|---|---|---|")
        rows: dict[str, Any] = {name: (of.edited, changes) for name, changes in ways().items()}
        rows |= {f"img2img {denoise:g}": (of.painted_over, (denoise,)) for denoise in IMG2IMG}
        rows["its mask, grown by 20"] = (of.painted_in, (20,))
        strips = [of.bench.pictures]
        for name, (paint, settings) in rows.items():
            strips.append(paint(*settings))
            print(of.row(name, strips[-1]), flush=True)
        if arguments.sheets:
            save_sheet(arguments.sheets / f"replacing_{case}.jpg", strips)


if __name__ == "__main__":
    main()
