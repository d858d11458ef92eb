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
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from random_sd15 import CONTEXT, UNET
from training_cost import FORWARD, TEXT_ENCODER_BAR, TIME_BARS

HEADS = {"num_heads": 8, "num_head_channels": -1}
CLIP_L = {
    "num_hidden_layers": 12,
    "hidden_size": CONTEXT,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}


def operations_of(action: Callable[[], object]) -> float:
    """How many additions and multiplications an action takes, in 10^12."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    formulas = {  # the counter knows only those of GPUs
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4])
        ),
    }
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with counter:
        action()
    return counter.get_total_flops() / 1e12


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
    from checkpointing import step
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from perfusion_pack.nodes.host.training.autograd import differentiable_text_encoder
    from perfusion_pack.perfusion_core.training import TrainingSettings
    from torch._subclasses.fake_tensor import FakeTensorMode

    plain = comfy.ops.disable_weight_init
    print("| pixels | pictures | templates | step / forward | bar | text encoder / step | bar |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with FakeTensorMode():
        unet = UNetModel(**UNET, **HEADS, dtype=torch.bfloat16, device="cpu", operations=plain).requires_grad_(False)
        unet.adm_in_channels = None
        encoder = comfy.clip_model.CLIPTextModel(CLIP_L, torch.float32, "cpu", plain).requires_grad_(False)
        with differentiable_text_encoder(encoder):
            template = operations_of(lambda: encode_template(encoder))
        for latent in arguments.latents:
            noisy, context = torch.zeros(1, 4, latent, latent), torch.zeros(1, 77, CONTEXT)
            inputs = noisy.bfloat16(), torch.zeros(1), context.bfloat16()
            with torch.no_grad():
                forward = operations_of(lambda inputs=inputs: unet(*inputs))
            through_unet = operations_of(lambda latent=latent: step(unet, 1, latent, checkpointing=False))
            for pictures in arguments.pictures:
                count = len(TrainingSettings().templates)
                templates = count * (1 - (1 - 1 / count) ** pictures)
                whole = pictures * through_unet + templates * template
                cells = [8 * latent, pictures, f"{templates:.2f}", f"{whole / (pictures * forward):.3f}"]
                cells += [f"<= {TIME_BARS[FORWARD]:.2f}", f"{templates * template / whole:.3f}"]
                print(f"| {' | '.join(map(str, cells))} | <= {TEXT_ENCODER_BAR:.2f} |", flush=True)


if __name__ == "__main__":
    main()
