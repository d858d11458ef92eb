"""Turns what the training scripts left in the cache folder into weight files: in half precision, from which trainings
go on, and as the pack ships them, UNet and autoencoder in eight bits.

    python demo/making/run.py export_weights --cache DIR

Without --cache the files that ship are made again of those in half precision.  --random writes untrained weights, to
try the code.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .. import model
from .host import use_comfyui
from .initial_weights import fresh_autoencoder, initialise
from .text import CaptionTokens
from .text_model import train_text_model, use_table
from .trained_weights import REDUCED, write_shipped, write_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--random", action="store_true")
    arguments = parser.parse_args()
    if not (arguments.cache or arguments.random):
        for name in REDUCED:
            write_shipped(name)
        return
    use_comfyui()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.ops import disable_weight_init

    torch.manual_seed(0)
    tokens = CaptionTokens(model.TOKENS)
    autoencoder, text_model = fresh_autoencoder(), train_text_model()
    unet = UNetModel(**model.UNET_CONFIG, operations=disable_weight_init)
    initialise(unet)
    use_table(text_model, len(tokens.vocabulary), model.ENCODING_WIDTH)
    if not arguments.random:
        autoencoder.load_state_dict(torch.load(arguments.cache / "vae_ema.pt", weights_only=True))
        average = torch.load(arguments.cache / "unet.pt", weights_only=True)["average"]
        for part, name in ((unet, "unet"), (text_model, "text")):
            prefix = f"module.{name}."
            part.load_state_dict({k[len(prefix) :]: v for k, v in average.items() if k.startswith(prefix)})
    tokens.save()
    for name, part in (("vae", autoencoder), ("unet", unet), ("text", text_model)):
        write_trained(f"{name}.safetensors", part.state_dict())
