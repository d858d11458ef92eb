"""Trains the LoRA that ships with the demo model: evening light over any picture of its world.

    python demo/making/run.py make_lora

Writes demo/loras/demo_evening.safetensors, in the names that every LoRA loader of the host knows. Only the values and
outputs of the attention layers are changed, which is enough for a light and keeps the file to tens of kilobytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from . import dataset
from .host import use_comfyui

LORA = Path(__file__).resolve().parents[1] / "loras" / "demo_evening.safetensors"
FIRST = 20_000_000  # its pictures are none of those that the demo model was trained on
EVENING = (1.1, 0.72, 0.5)  # what is left of red, green and blue


def evening(pictures: np.ndarray) -> torch.Tensor:
    """Pictures uint8 [n, h, w, 3] as float [n, h, w, 3] from 0 to 1, in the light of the evening."""
    return (torch.from_numpy(pictures).float() / 255 * torch.tensor(EVENING)).clamp(max=1.0)


class Added(nn.Module):
    """What a LoRA adds to one layer: up(down(x)), nothing at first."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) * layer.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        layer.register_forward_hook(lambda _layer, given, output: output + given[0] @ self.down.T @ self.up.T)


def train(steps: int, batch: int, rank: int, rate: float, count: int) -> dict[str, torch.Tensor]:
    """The LoRA's tensors by the names of the host's loaders, float16."""
    from ..load import load_clip, load_unet, load_vae

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    pictures = evening(dataset.draw(FIRST, count))
    captions = [dataset.captions_of(FIRST + number, free_looks=False)[0] for number in range(count)]
    clip, vae, model = load_clip(), load_vae(), load_unet().model
    with torch.no_grad():
        texts = torch.cat([clip.encode_from_tokens(clip.tokenize(caption)) for caption in captions]).float()
        latents = model.process_latent_in(torch.cat([vae.encode(picture[None]) for picture in pictures])).float()
    model.requires_grad_(False)
    layers = {
        name: layer
        for name, layer in model.diffusion_model.named_modules()
        if name.endswith((".to_v", ".to_out.0")) and isinstance(layer, nn.Linear)
    }
    added = {name: Added(layer, rank) for name, layer in layers.items()}
    optimiser = torch.optim.AdamW([each for one in added.values() for each in one.parameters()], lr=rate)
    sampling = model.model_sampling
    for step in range(1, steps + 1):
        chosen = torch.randint(count, (batch,), generator=generator)
        sigma = sampling.sigmas[torch.randint(len(sampling.sigmas), (batch,), generator=generator)].clone()
        clean = latents[chosen]
        noisy = sampling.noise_scaling(sigma.view(-1, 1, 1, 1), torch.randn(clean.shape), clean, False)
        denoised = model.apply_model(noisy, sigma, c_crossattn=texts[chosen])
        # The prediction is affine in what the network says; divided by its slope the error is that of the network.
        slope = sampling.calculate_denoised(sigma, torch.ones_like(clean), noisy)
        slope = slope - sampling.calculate_denoised(sigma, torch.zeros_like(clean), noisy)
        loss = ((denoised - clean) / slope).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 20 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)
    return {
        f"diffusion_model.{name}.lora_{part}.weight": getattr(one, part).detach().half().contiguous()
        for name, one in added.items()
        for part in ("up", "down")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--pictures", type=int, default=256)
    given = parser.parse_args()
    use_comfyui()
    tensors = train(given.steps, given.batch, given.rank, given.rate, given.pictures)
    LORA.parent.mkdir(exist_ok=True)
    save_file(tensors, LORA)
    print(f"{LORA.name}: {LORA.stat().st_size / 1000:.0f} kB")
