#!/usr/bin/env python3
"""The arithmetic of a training step: against a forward pass, and the text encoder's share of it, as a Markdown table.

    python benchmarks/training_arithmetic.py [--latents 32 64] [--pictures 1 4 8 16]

What training_cost.py times, here counted on fake tensors, so that no machine's load or habits are in it: convolutions,
matrix products and attention of SD1.5's UNet and text encoder, forward and backward through frozen weights. A step
encodes each template once that its pictures drew out of nine; their number is the expected one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from memory import CLIP_L, SD15, operations_of, unet_step
from random_sd15 import CONTEXT
from training_cost import FORWARD, TEXT_ENCODER_BAR, TIME_BARS


def encode_template(encoder: object) -> None:
    """One template forward through the text encoder and its gradient back to the word's vector."""
    import torch

    embeds = torch.zeros(1, 77, CONTEXT).requires_grad_()
    encoder.text_model(embeds=embeds * 1, num_tokens=[8])[0].sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", nargs="+", type=int, default=[32, 64], help="side (64 is 512 px)")
    parser.add_argument("--pictures", nargs="+", type=int, default=[1, 4, 8, 16], help="in a batch")
    arguments = parser.parse_args()
    from open_pack import open_pack

    open_pack()
    import comfy.clip_model
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from perfusion_pack.nodes.host.training.autograd import differentiable_text_encoder
    from perfusion_pack.perfusion_core.training import TrainingSettings
    from torch._subclasses.fake_tensor import FakeTensorMode

    plain = comfy.ops.disable_weight_init
    print("| pixels | pictures | templates | step / forward | bar | text encoder / step | bar |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with FakeTensorMode():
        unet = UNetModel(**SD15, dtype=torch.bfloat16, device="cpu", operations=plain).requires_grad_(False)
        unet.adm_in_channels = None
        encoder = comfy.clip_model.CLIPTextModel(dict(CLIP_L), torch.float32, "cpu", plain).requires_grad_(False)
        with differentiable_text_encoder(encoder):
            template = operations_of(lambda: encode_template(encoder))
        for latent in arguments.latents:
            noisy, context = torch.zeros(1, 4, latent, latent), torch.zeros(1, 77, CONTEXT)
            inputs = noisy.bfloat16(), torch.zeros(1), context.bfloat16()
            with torch.no_grad():
                forward = operations_of(lambda inputs=inputs: unet(*inputs))
            leaf = inputs[2].requires_grad_()
            through_unet = operations_of(lambda latent=latent, leaf=leaf: unet_step(unet, leaf, latent, False))
            for pictures in arguments.pictures:
                count = len(TrainingSettings().templates)
                templates = count * (1 - (1 - 1 / count) ** pictures)
                whole = pictures * through_unet + templates * template
                cells = [8 * latent, pictures, f"{templates:.2f}", f"{whole / (pictures * forward):.3f}"]
                cells += [f"<= {TIME_BARS[FORWARD]:.2f}", f"{templates * template / whole:.3f}"]
                print(f"| {' | '.join(map(str, cells))} | <= {TEXT_ENCODER_BAR:.2f} |", flush=True)


if __name__ == "__main__":
    main()
