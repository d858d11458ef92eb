"""Trains the demo model's autoencoder on pictures that `dataset` has drawn.

    python demo/making/run.py train_vae --cache DIR --steps 4000            (resumes from DIR/vae.pt)

Afterwards `refine_vae`.

Loss: L1 + 2 MSE + L1 of horizontal and vertical differences + a small KL term, on crops first and on whole pictures in
the last fifth, because the group normalisations see the whole picture when the model is used.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from . import dataset
from .host import use_comfyui
from .initial_weights import fresh_autoencoder
from .trained_weights import trained_file
from .training_state import batch_threads, load_state, moving_average, save_state, seeded, set_learning_rate

KL_WEIGHT = 3e-4
CROP = 64


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 + 2 MSE + L1 of the differences between neighbours; both tensors [B, 3, H, W] in -1..1."""
    error = output - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 2 * error.square().mean() + edges


def as_input(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in -1..1, channels last in memory."""
    return (
        torch.from_numpy(pictures)
        .permute(0, 3, 1, 2)
        .float()
        .div(127.5)
        .sub(1)
        .contiguous(memory_format=torch.channels_last)
    )


def split_moments(autoencoder: nn.Module, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance of the latents of `pictures`, each [B, 4, H/8, W/8]."""
    mean, log_variance = autoencoder.quant_conv(autoencoder.encoder(pictures)).float().chunk(2, dim=1)
    return mean, log_variance.clamp(-20, 10)


def decode(autoencoder: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Pictures [B, 3, H, W] in -1..1 of latents [B, 4, H/8, W/8]."""
    return autoencoder.decoder(autoencoder.post_quant_conv(latents)).float()


def trained_autoencoder(cache: Path) -> nn.Module:
    """The autoencoder in the cache folder, or else the shipped one."""
    trained = cache / "vae_ema.pt"
    if not trained.exists():
        return shipped_autoencoder()
    autoencoder = fresh_autoencoder()
    autoencoder.load_state_dict(torch.load(trained, weights_only=True))
    return autoencoder


def shipped_autoencoder() -> nn.Module:
    """The autoencoder of the pack, as it was before it was brought to eight bits."""
    autoencoder = fresh_autoencoder()
    autoencoder.load_state_dict(load_file(trained_file("vae.safetensors")))
    return autoencoder


def encode_all(autoencoder: nn.Module, pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """Latent means [n, 4, H/8, W/8], on the CPU, of pictures uint8 [n, H, W, 3]."""

    def encode(start: int) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            return split_moments(autoencoder, as_input(pictures[start : start + 16]).to(device))[0].cpu()

    cores = torch.get_num_threads()
    pool, _ = batch_threads(cores, device)
    with pool:
        latents = torch.cat([*pool.map(encode, range(0, len(pictures), 16))])
    torch.set_num_threads(cores)
    return latents.clone()  # no inference tensor


@torch.no_grad()
def peak_signal_to_noise(autoencoder: nn.Module, count: int = 64) -> float:
    """PSNR in dB over `count` held-out pictures."""
    held_out = dataset.draw(dataset.HELD_OUT, count)
    squares = []
    for start in range(0, count, 8):
        target = as_input(held_out[start : start + 8])
        output = decode(autoencoder, split_moments(autoencoder, target)[0]).clamp(-1, 1)
        squares.append(((output - target) / 2).square().mean(dim=(1, 2, 3)))
    return float(-10 * torch.cat(squares).log10().mean())


@torch.no_grad()
def fold_latent_scale(autoencoder: nn.Module, pictures: torch.Tensor) -> None:
    """Rewrite the two 1 x 1 convolutions so that every latent channel of `pictures` has mean 0 and variance 1; pictures
    in and pictures out stay the same, and the host's latent format needs no scale."""
    mean, _ = split_moments(autoencoder, pictures)
    shift, scale = mean.mean(dim=(0, 2, 3)), mean.std(dim=(0, 2, 3))
    into, out = autoencoder.quant_conv, autoencoder.post_quant_conv
    channels = len(scale)
    into.weight[:channels] /= scale[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - shift) / scale
    into.bias[channels:] -= 2 * scale.log()
    out.bias += (out.weight[:, :, 0, 0] * shift).sum(dim=1)
    out.weight *= scale[None, :, None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=1e9, help="shorten the schedule so that it ends by then")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    use_comfyui()

    rng, device = seeded(arguments.seed)
    autoencoder = fresh_autoencoder()
    state_file, finished = arguments.cache / "vae.pt", arguments.cache / "vae_ema.pt"
    autoencoder.to(device, memory_format=torch.channels_last)
    trained = list(autoencoder.parameters())
    optimiser = torch.optim.AdamW(trained, lr=arguments.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    average = moving_average(autoencoder, 0.998)
    first = load_state(state_file, autoencoder, average, [optimiser])
    pictures, loaded_at = dataset.load(arguments.cache), time.monotonic()
    start = time.monotonic()
    for step in range(first, arguments.steps):
        if time.monotonic() - loaded_at > 60:  # the set may still be being drawn
            pictures, loaded_at = dataset.load(arguments.cache), time.monotonic()
        progress = max(step / arguments.steps, (time.monotonic() - start) / 60 / arguments.minutes)
        if progress >= 1:
            break
        set_learning_rate([optimiser], arguments.learning_rate, step, warm_up=100, progress=progress, last=0.02)
        whole = progress > 0.8
        chosen = pictures[rng.integers(len(pictures), size=max(2, arguments.batch // 4) if whole else arguments.batch)]
        if not whole:
            tops = rng.integers(0, dataset.SIZE - CROP + 1, size=(len(chosen), 2))
            chosen = np.stack([p[y : y + CROP, x : x + CROP] for p, (y, x) in zip(chosen, tops, strict=True)])
        target = as_input(chosen).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            mean, log_variance = split_moments(autoencoder, target)
            output = decode(autoencoder, mean + torch.randn_like(mean) * (0.5 * log_variance).exp())
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = reconstruction_loss(output, target) + KL_WEIGHT * divergence
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        average.update_parameters(autoencoder)
        if step % 100 == 99:
            print(
                f"step {step + 1}/{arguments.steps} ({progress:.2f}) loss {loss.item():.4f} kl {divergence.item():.2f} "
                f"{(time.monotonic() - start) / (step + 1 - first):.2f} s/step",
                flush=True,
            )
        if step % 500 == 499:
            save_state(state_file, autoencoder, average, [optimiser], step + 1)
            print(f"held-out PSNR {peak_signal_to_noise(average.module):.2f} dB", flush=True)
    result = average.module
    fold_latent_scale(result, as_input(pictures[:256]).to(device))
    print(
        f"final held-out PSNR {peak_signal_to_noise(result, 128):.2f} dB after {(time.monotonic() - start) / 60:.1f} "
        f"min",
        flush=True,
    )
    torch.save(result.state_dict(), finished)
