"""The parts of the demo model before any training: the host's classes leave their weights as uninitialised memory."""

from __future__ import annotations

import torch

from .. import model


def fresh_autoencoder() -> torch.nn.Module:
    """An initialised AutoencoderKL for training."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    autoencoder = AutoencoderKL(**model.VAE_CONFIG["params"])
    initialise(autoencoder)
    model.set_vae_groups(autoencoder)
    return autoencoder


def initialise(module: torch.nn.Module, zero: tuple[str, ...] = ()) -> None:
    """Initialise layers as torch does (the host's classes leave them as uninitialised memory); those whose name ends
    in one of `zero` start at nought."""
    for name, layer in module.named_modules():
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            torch.nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
            if name.endswith(zero) and zero:
                torch.nn.init.zeros_(layer.weight)
        elif isinstance(layer, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            torch.nn.init.ones_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
