"""How well the automatic masks of the trainer find the things of the demo world.

    python benchmarks/attention_mask.py                      one table: IoU with the true masks, minutes on a CPU
    python benchmarks/attention_mask.py --sheet masks.png    the same, and a picture of the masks

The masks are those of the trainer (`nodes/host/training/attention_mask.py`), 16 x 16 as the loss uses them, enlarged to
the pictures' 128 x 128, cut at a threshold and compared with the true masks.  The threshold is the best of .05, .1 ...
.95 for all pictures together.  More tables say what each layer and each noise level would do alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from open_pack import open_pack
from torch import Tensor
from torch.nn import functional

BAR = 0.6
THRESHOLDS = [round(0.05 * step, 2) for step in range(1, 20)]
SINGLE_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", help="names of demo things; all by default")
    parser.add_argument("--pictures", type=int, default=5, help="of each thing")
    parser.add_argument("--sheet", type=Path, help="draw pictures, automatic and true masks into this file")
    parser.add_argument("--only-masks", action="store_true", help="leave out the tables of layers and noise levels")
    arguments = parser.parse_args()
    open_pack()
    from perfusion_pack.demo.load import load_demo_model
    from perfusion_pack.demo.making.candidates import thing_tensors
    from perfusion_pack.demo.world.things import THINGS
    from perfusion_pack.nodes.host.training.attention_mask import NOISE_LEVELS

    things = arguments.things or list(THINGS)
    pictures = {thing: thing_tensors(thing, arguments.pictures) for thing in things}
    true = {thing: pictures[thing][1] > 0.5 for thing in things}
    with torch.inference_mode():
        models = load_demo_model()
    soft = masks_of(models, things, pictures)
    threshold, ious = best_threshold(soft, true)
    print(f"\nAutomatic masks, all layers, noise levels {', '.join(f'{level:g}' for level in NOISE_LEVELS)};"
          f" best threshold {threshold:g}\n")  # fmt: skip
    print("| thing | superclass | IoU | mask inside | mask outside |\n|---|---|---|---|---|")
    for thing in things:
        print(f"| {thing} | {THINGS[thing].category} | {ious[thing]:.2f} | {weight(soft[thing], true[thing]):.2f} |"
              f" {weight(soft[thing], ~true[thing]):.2f} |")  # fmt: skip
    mean = sum(ious.values()) / len(ious)
    print(f"| mean | | {mean:.3f} | | |\n\nbar {BAR}: {'met' if mean >= BAR else 'missed'} ({mean:.3f})")
    if arguments.sheet:
        save_sheet(arguments.sheet, things, pictures, soft)
    if not arguments.only_masks:
        print_alternatives(models, things, pictures, true)


def masks_of(models: Any, things: Sequence[str], pictures: Mapping[str, Any], **chosen: Any) -> dict[str, Tensor]:
    """The trainer's masks of every thing at the size of its pictures, [P, H, W] in 0..1."""
    from perfusion_pack.demo.world.things import THINGS
    from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
    from perfusion_pack.nodes.host.training.attention_mask import attention_masks
    from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask

    model, clip, vae = models
    masks = {}
    for thing in things:
        shown = pictures[thing][0]
        with torch.inference_mode():
            latents = vae.encode(shown.movedim(1, -1))
        with torch.inference_mode(False):
            vectors = encode_superclass_vectors(clip, THINGS[thing].category)
            with HostDenoisingTask(model, clip, latents, None, f"<{thing}>", vectors) as task:
                on_device = {key: value.to(task.device) for key, value in vectors.items()}
                found = attention_masks(task, on_device, at_once=len(shown), **chosen)
        masks[thing] = functional.interpolate(found.cpu(), size=shown.shape[-2:], mode="bilinear")[:, 0]
    return masks


def best_threshold(soft: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> tuple[float, dict[str, float]]:
    """The one threshold of the highest mean IoU, and the mean IoU of every thing at it."""

    def at(threshold: float) -> dict[str, float]:
        return {thing: intersection_over_union(soft[thing] > threshold, true[thing]) for thing in soft}

    best = max(THRESHOLDS, key=lambda threshold: sum(at(threshold).values()))
    return best, at(best)


def intersection_over_union(found: Tensor, true: Tensor) -> float:
    """Mean over the pictures of bool [P, H, W]."""
    both, either = (found & true).sum(dim=(1, 2)), (found | true).sum(dim=(1, 2))
    return float((both / either.clamp(min=1)).mean())


def weight(soft: Tensor, where: Tensor) -> float:
    """Mean of the soft masks [P, H, W] over the marked places."""
    return float(soft[where].mean())


def print_alternatives(models: Any, things: Sequence[str], pictures: Mapping[str, Any], true: Any) -> None:
    """Print what each layer alone gives, and each noise level alone, each at its own best threshold."""
    from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers

    layers = list(cross_attention_layers(models[0].model.diffusion_model))
    print("\n| alone | threshold | mean IoU |\n|---|---|---|")
    choices = {f"layer {name.removesuffix('.transformer_blocks.0.attn2')}": {"layers": [name]} for name in layers}
    choices |= {f"noise level {level:g}, all layers": {"levels": [level]} for level in SINGLE_LEVELS}
    for name, chosen in choices.items():
        threshold, ious = best_threshold(masks_of(models, things, pictures, **chosen), true)
        print(f"| {name} | {threshold:g} | {sum(ious.values()) / len(ious):.3f} |", flush=True)


def save_sheet(path: Path, things: Sequence[str], pictures: Mapping[str, Any], soft: Mapping[str, Tensor]) -> None:
    """Draw the first pictures of every thing, each with its automatic and its true mask."""
    from PIL import Image

    rows = []
    for thing in things:
        shown, true = pictures[thing]
        triples = [
            torch.cat((picture, own.expand(3, -1, -1), real.expand(3, -1, -1)), dim=-1)
            for picture, own, real in zip(shown[:3], soft[thing], true, strict=False)
        ]
        rows.append(torch.cat(triples, dim=-1))
    sheet = (torch.cat(rows, dim=-2).movedim(0, -1) * 255).round().to(torch.uint8)
    Image.fromarray(sheet.numpy()).save(path)
    print(path)


if __name__ == "__main__":
    main()
