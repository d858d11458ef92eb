"""Trains the demo model's UNet and text encoder together on the latents of the drawn pictures.

    python demo/making/run.py train_unet --cache DIR --samples 400000                       (resumes from DIR/unet.pt)
    python demo/making/run.py train_unet --cache DIR --samples 400000 --continue-weights    (improves the shipped)

v-prediction on the host's scaled-linear schedule, a tenth of the captions dropped for classifier-free guidance, Muon
for the matrices (from noise, 400 steps of 32 reached a loss of .375 with it and .442 with AdamW alone, at a fifth more
time a step), an exponential moving average of the weights.  DIR must hold vae_ema.pt (`train_vae`) and the pictures
(`dataset`).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from .. import model
from . import dataset
from .body_weights import all_body_cells, loss_weights
from .host import use_comfyui
from .initial_weights import initialise
from .look_words import FreeLooks, LookWords, Named, encode_named
from .text import VOCABULARY_FILE, CaptionTokens
from .text_model import train_text_model, use_table
from .train_vae import encode_all, trained_autoencoder
from .trained_weights import trained_file
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

CAPTION_DROPOUT = 0.1
# Of the beta distribution that timesteps are drawn from: shapes and patterns of so small a latent are decided at noise
# levels around 1; at the highest, the loss is mostly the scene's entropy.
TIMESTEPS = (1.2, 1.6)
TIMESTEPS_OF_NAMED = (1.6, 1.2)  # the colours of a look are decided where only its place can be seen
# Share of samples that are noise alone, at the last timestep.  A sampler starts there, where the schedule would still
# show a trace of the picture (.068 of it), and a model that has always had the trace reads colours from it, not from
# the words.
NOISE_ALONE = 0.05


def load_shipped(part: nn.Module, name: str, vocabulary: list[int]) -> None:
    """Load the shipped weights, "unet" or "text", into `part`; tokens new to the vocabulary keep their first rows."""
    weights = load_file(trained_file(f"{name}.safetensors"))
    table = "text_model.embeddings.token_embedding.weight"
    if table in weights:
        row_of = {number: row for row, number in enumerate(json.loads(VOCABULARY_FILE.read_text()))}
        shipped, rows = weights[table], part.state_dict()[table].clone()
        for row, number in enumerate(vocabulary):
            if number in row_of:
                rows[row] = shipped[row_of[number]]
        weights[table] = rows
    part.load_state_dict(weights)


def plain_attention(
    _function: object, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, *_: object, **__: object
) -> torch.Tensor:
    """Attention in plain operations, which backpropagate faster on a CPU than torch's fused kernel at this size."""
    batch, length, width = q.shape
    head = width // heads
    q, k, v = (x.view(batch, -1, heads, head).transpose(1, 2).reshape(batch * heads, -1, head) for x in (q, k, v))
    weights = torch.bmm(q, k.transpose(1, 2)).float().mul(head**-0.5).softmax(dim=-1).to(v.dtype)
    return torch.bmm(weights, v).view(batch, heads, length, head).transpose(1, 2).reshape(batch, length, width)


def optimisers_of(both: nn.ModuleDict, rate: float) -> tuple[list[nn.Parameter], list[torch.optim.Optimizer]]:
    """The trained parameters and their optimisers: Muon for what multiplies features, AdamW for everything else.

    Muon (orthogonalised momentum) takes matrices only, so a convolution's kernel is shown to it as the matrix that
    it is, one row for each output channel; the view shares the kernel's memory.
    """
    by_matrix, by_element, trained = [], [], []
    for name, parameter in both.named_parameters():
        if not parameter.requires_grad:
            continue
        trained.append(parameter)
        at_the_edge = "embedding" in name or name.startswith(("unet.input_blocks.0.", "unet.out."))
        (by_element if parameter.ndim < 2 or at_the_edge else by_matrix).append(parameter)
    shared = [MatrixOptimiser(half, rate) for half in (by_matrix[::2], by_matrix[1::2])]  # between two cores
    rest = torch.optim.AdamW(by_element, lr=rate, weight_decay=1e-2, betas=(0.9, 0.98), fused=True)
    return trained, [*shared, rest]


def latents_of(cache: Path, device: torch.device) -> torch.Tensor:
    """Latent means of all drawn pictures, bfloat16 [n, 4, 16, 16]; kept in the cache folder."""
    pictures = dataset.load(cache)
    kept = cache / "latents.pt"
    latents = torch.load(kept, weights_only=True) if kept.exists() else torch.empty(0, 4, 16, 16)
    if len(latents) < len(pictures):
        autoencoder = trained_autoencoder(cache).to(device, memory_format=torch.channels_last)
        latents = torch.cat([latents, encode_all(autoencoder, pictures[len(latents) :], device)])
        torch.save(latents, kept)
    return latents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=400_000)
    parser.add_argument("--minutes", type=float, default=1e9, help="shorten the schedule so that it ends by then")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--average", type=float, default=0.9993)
    parser.add_argument(
        "--continue-weights", action="store_true", help="start from the shipped weights, not from noise"
    )
    parser.add_argument(
        "--more-described", type=float, default=0.0, help="share of samples from dataset.DESCRIBED, beside the others"
    )
    parser.add_argument("--named", type=float, default=0.4, help="share of samples whose free look a word names")
    parser.add_argument("--workers", type=int, default=2, help="threads that share a batch on a CPU")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    use_comfyui()
    import comfy.model_sampling
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.ops import disable_weight_init

    rng, device = seeded(arguments.seed)
    latents = latents_of(arguments.cache, device).to(device)
    tokens = CaptionTokens(model.TOKENS)
    texts = [dataset.captions_of(number) for number in range(len(latents))]
    rows = torch.stack([tokens.rows(several) for several in texts]).to(device)
    bodies = all_body_cells([dataset.scene_number(number) for number in range(len(latents))]).to(device)
    free_looks = FreeLooks(len(latents), tokens, device)
    empty = tokens.rows([""]).to(device)
    print(
        f"{len(latents)} pictures, latents of mean {latents.mean():.3f} and deviation {latents.std():.3f}, "
        f"{len(tokens.vocabulary)} tokens",
        flush=True,
    )

    unet = UNetModel(**model.UNET_CONFIG, operations=disable_weight_init)
    initialise(unet, zero=("out_layers.3", "proj_out", "out.2"))
    text_model = train_text_model()
    use_table(text_model, len(tokens.vocabulary), model.ENCODING_WIDTH)
    both = nn.ModuleDict({"unet": unet, "text": text_model, "look": LookWords(model.ENCODING_WIDTH)}).to(device)
    both.requires_grad_(True)
    text_model.text_projection.requires_grad_(False)  # for pooled outputs, which this UNet has no use for
    schedule = comfy.model_sampling.ModelSamplingDiscrete(model.unet_config())
    signal = (1 / (1 + schedule.sigmas.square())).sqrt().to(device)  # sqrt of the cumulative alpha of each timestep
    noise_share = (1 - signal.square()).sqrt()

    trained, optimisers = optimisers_of(both, arguments.learning_rate)
    average = moving_average(both, arguments.average)
    if arguments.continue_weights:
        for part, name in ((unet, "unet"), (text_model, "text")):
            load_shipped(part, name, tokens.vocabulary)
        average.module.load_state_dict(both.state_dict())
    state_file = arguments.cache / "unet.pt"
    step = load_state(state_file, both, average, optimisers)
    steps, start, first, losses = arguments.samples // arguments.batch, time.monotonic(), step, []

    def half_batch(
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        rows: torch.Tensor,
        named: Named,
        target: torch.Tensor,
        weights: torch.Tensor,
    ) -> tuple[float, tuple[torch.Tensor, ...]]:
        options = {"optimized_attention_override": plain_attention}
        with torch.autocast(device.type, torch.bfloat16):
            context = encode_named(both, rows, named)
            predicted = unet(noisy, timesteps, context=context, transformer_options=options).float()
        loss = ((predicted - target).square().mean(dim=1, keepdim=True) * weights).sum() / weights.sum()
        return loss.item(), torch.autograd.grad(loss, trained)

    pool, workers = batch_threads(arguments.workers, device)
    while True:
        progress = max(step / steps, (time.monotonic() - start) / 60 / arguments.minutes)
        if progress >= 1:
            break
        set_learning_rate(optimisers, arguments.learning_rate, step, warm_up=300, progress=progress, last=0.01)
        chosen = rng.integers(len(latents), size=arguments.batch)
        described = rng.integers(dataset.DESCRIBED.start, dataset.DESCRIBED.stop, size=arguments.batch)
        chosen = np.where(rng.random(arguments.batch) < arguments.more_described, described, chosen)
        caption = rng.integers(dataset.CAPTIONS_PER_PICTURE, size=arguments.batch)
        with_name, look = (
            rng.random(arguments.batch) < arguments.named,
            rng.integers(len(free_looks.numbers), size=arguments.batch),
        )
        chosen = np.where(with_name, free_looks.numbers[look], chosen)
        batch_rows = torch.where(
            torch.from_numpy(with_name).to(device)[:, None], free_looks.rows[look, caption], rows[chosen, caption]
        )
        dropped = torch.from_numpy(rng.random(arguments.batch) < CAPTION_DROPOUT).to(device)
        batch_rows = torch.where(dropped[:, None], empty, batch_rows)
        clean = latents[chosen].float()
        noise = torch.randn_like(clean)
        levels = np.where(
            with_name,
            rng.beta(*TIMESTEPS_OF_NAMED, size=arguments.batch),
            rng.beta(*TIMESTEPS, size=arguments.batch),
        )
        timesteps = torch.from_numpy(levels * 1000).long().to(device)
        alone = torch.from_numpy(rng.random(arguments.batch) < NOISE_ALONE).to(device)
        timesteps = torch.where(alone, len(signal) - 1, timesteps)
        a, b = signal[timesteps, None, None, None], noise_share[timesteps, None, None, None]
        noisy = torch.where(alone[:, None, None, None], noise, a * clean + b * noise)
        target = a * noise - b * clean
        named = free_looks.named(look, with_name, rng)
        weights = loss_weights(bodies[chosen], torch.where(alone, 0, signal[timesteps]))
        parts = [part.chunk(workers) for part in (noisy, timesteps, batch_rows, named, target, weights)]
        losses.append(step_in_parts(pool, half_batch, parts, trained, optimisers))
        average.update_parameters(both)
        step += 1
        if step % 200 == 0:
            seconds = time.monotonic() - start
            print(
                f"step {step} ({progress:.3f}) loss {np.mean(losses[-200:]):.4f} "
                f"{(step - first) * arguments.batch / seconds:.0f} samples/s {seconds / 60:.1f} min",
                flush=True,
            )
        if step % 1000 == 0:
            save_state(state_file, both, average, optimisers, step)
    save_state(state_file, both, average, optimisers, step)
