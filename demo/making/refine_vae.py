"""Improves the autoencoder, DIR/vae_ema.pt or else the shipped one, on whole pictures.

    python demo/making/run.py refine_vae --cache DIR --minutes 20 --decoder-only    (the same latents, better shown)
    python demo/making/run.py refine_vae --cache DIR --minutes 60                   (other latents: train the UNet on)

A run that was stopped resumes from DIR/vae_refined.pt; delete it for a new one.

Half of a batch are pictures of individuals (recogniser_data.py), three quarters of which have free looks, and the loss
weighs their bodies more: over whole pictures of the world, backgrounds and the eight named colours decide the loss, and
an autoencoder that has learned from nothing else makes teal purple.  When the encoder learns too, a linear map, which
learns beside it and is thrown away, must read each block's mean colour from the latents: the gradient that asks for
free colours then does not have to come back through the decoder, which has learned to expect the named ones.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import dataset
from .host import use_comfyui
from .recogniser_data import VIEWS, individuals
from .train_vae import (
    KL_WEIGHT,
    as_input,
    decode,
    encode_all,
    fold_latent_scale,
    peak_signal_to_noise,
    split_moments,
    trained_autoencoder,
)
from .training_state import (
    MatrixOptimiser,
    batch_threads,
    load_state,
    moving_average,
    save_state,
    seeded,
    set_learning_rate,
    step_in_parts,
)

BODY_WEIGHT = 4.0  # of a pixel of an individual's body, beside 1 for every other pixel
BLOCK = 8  # side of the blocks whose mean colour has a loss of its own
AVERAGE = 0.998


COLOUR_WEIGHT = 4.0, 1.0  # of the linear map's loss, at the start and at the end
# Brightness, red against blue, green against magenta.  The last matters most: no two of the eight named colours differ
# by it alone, and an autoencoder that had seen mostly these left 0.97 of its variance out of the latents.
COLOUR_AXES = torch.tensor([[1.0, 1, 1], [2, 0, -2], [1.5, -3, 1.5]])


def block_colour_loss(error: Tensor, weights: Tensor) -> Tensor:
    """Weighted L1 along COLOUR_AXES of the errors [B, 3, H/8, W/8] of blocks' mean colours; see weighted_loss."""
    along_axes = F.conv2d(error, COLOUR_AXES[:, :, None, None].to(error) / 3)
    return (along_axes.abs() * F.avg_pool2d(weights / weights.mean(), BLOCK)).mean()


def weighted_loss(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted L1 + 2 MSE, L1 of the differences between neighbours, and twice block_colour_loss.

    output, target: [B, 3, H, W] in -1..1.  weights: [B, 1, H, W]."""
    error = output - target
    colours = block_colour_loss(F.avg_pool2d(error, BLOCK), weights)
    weights = weights / weights.mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return ((error.abs() + 2 * error.square()) * weights).mean() + edges + 2 * colours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--decoder-only", action="store_true", help="keep the encoder and with it the latents")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=20, help="shorten the schedule so that it ends by then")
    parser.add_argument("--individuals", type=int, default=2000)
    parser.add_argument("--pictures", type=int, default=8000, help="drawn pictures to learn from besides")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--workers", type=int, default=2, help="threads that share a batch on a CPU")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    use_comfyui()
    rng, device = seeded(arguments.seed)
    autoencoder = trained_autoencoder(arguments.cache).to(device)
    average = moving_average(autoencoder, AVERAGE)
    colours_of = nn.Conv2d(4, 3, 1).to(device)
    both = nn.ModuleDict({"autoencoder": autoencoder, "colours": colours_of})  # the map belongs to the state
    trained = [*autoencoder.decoder.parameters(), *autoencoder.post_quant_conv.parameters()]
    if not arguments.decoder_only:
        trained += [*autoencoder.encoder.parameters(), *autoencoder.quant_conv.parameters(), *colours_of.parameters()]
    kernels = [parameter for parameter in trained if parameter.ndim > 1]
    optimisers = [
        MatrixOptimiser(kernels, arguments.learning_rate),
        torch.optim.AdamW([p for p in trained if p.ndim < 2], lr=arguments.learning_rate, betas=(0.9, 0.98)),
    ]
    state_file = arguments.cache / "vae_refined.pt"
    first = load_state(state_file, both, average, optimisers)

    single = individuals(arguments.cache, arguments.individuals)
    world = dataset.load(arguments.cache)[: arguments.pictures]
    pictures = np.concatenate([single.pictures[: arguments.individuals * VIEWS], world])
    latents = encode_all(autoencoder, pictures, device) if arguments.decoder_only else None
    of_individuals = len(pictures) - len(world)
    print(f"{of_individuals} pictures of individuals, {len(world)} others; "
          f"{peak_signal_to_noise(average.module, 32):.2f} dB", flush=True)  # fmt: skip

    def weights_of(chosen: np.ndarray) -> Tensor:
        weights = torch.ones(len(chosen), 1, dataset.SIZE, dataset.SIZE)
        for row, number in zip(weights, chosen, strict=True):
            if number < of_individuals:
                mask = torch.from_numpy(single.masks[number]).float() / 255
                row += (BODY_WEIGHT - 1) * F.interpolate(mask[None, None], size=dataset.SIZE, mode="bilinear")[0]
        return weights

    def part_of_batch(chosen: np.ndarray) -> tuple[float, tuple[Tensor, ...]]:
        target = as_input(pictures[chosen]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            if latents is None:
                mean, log_variance = split_moments(autoencoder, target)
                divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
                shown = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            else:
                shown, divergence = latents[chosen].to(device), 0.0
            output = decode(autoencoder, shown)
        weights = weights_of(chosen).to(device)
        loss = weighted_loss(output, target, weights) + KL_WEIGHT * divergence
        if latents is None:
            first_weight, last_weight = COLOUR_WEIGHT
            colour_weight = first_weight + (last_weight - first_weight) * progress
            loss = loss + colour_weight * block_colour_loss(colours_of(mean) - F.avg_pool2d(target, BLOCK), weights)
        return loss.item(), torch.autograd.grad(loss, trained)

    pool, workers = batch_threads(arguments.workers, device)
    start, step, progress, losses = time.monotonic(), first, 0.0, []
    while True:
        progress = max(step / arguments.steps, (time.monotonic() - start) / 60 / arguments.minutes)
        if progress >= 1:
            break
        set_learning_rate(optimisers, arguments.learning_rate, step, warm_up=50, progress=progress, last=0.02)
        half = arguments.batch // 2
        chosen = np.stack(
            [rng.integers(of_individuals, size=half), rng.integers(of_individuals, len(pictures), size=half)], axis=1
        ).flatten()
        parts = np.array_split(chosen, workers)
        losses.append(step_in_parts(pool, part_of_batch, [parts], trained, optimisers))
        average.update_parameters(autoencoder)
        step += 1
        if step % 100 == 0:
            minutes = (time.monotonic() - start) / 60
            rate = (step - first) * arguments.batch / minutes / 60
            print(f"step {step} ({progress:.2f}) loss {np.mean(losses[-100:]):.4f} {rate:.1f} samples/s", flush=True)
        if step % 500 == 0:
            save_state(state_file, both, average, optimisers, step)
            print(f"held-out PSNR {peak_signal_to_noise(average.module):.2f} dB", flush=True)
    save_state(state_file, both, average, optimisers, step)
    print(f"final held-out PSNR {peak_signal_to_noise(average.module, 128):.2f} dB", flush=True)
    if not arguments.decoder_only:
        fold_latent_scale(average.module, as_input(world[:256]).to(device))
    torch.save(average.module.state_dict(), arguments.cache / "vae_ema.pt")
