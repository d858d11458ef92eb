"""Makes pictures with the demo model while or after it trains, for the recogniser to learn from.

    python demo/making/run.py make_generated --cache DIR --varied 2000 --generated 2000

Both from the averaged weights in DIR/unet.pt and the autoencoder in DIR/vae_ema.pt:
varied: drawn pictures of individuals that are noised half-way and denoised again, so that they look generated while
what they show is known;
generated: pictures from noise alone, after prompts that state everything.  A model obeys imperfectly, so a label is
what was asked where the present recogniser, looking at several disturbed copies, agrees; what it sees where it is very
sure of something else; and unknown otherwise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import model
from ..world.captions import caption, full_caption
from ..world.scenes import Scene, random_object, random_scene
from .host import use_comfyui
from .initial_weights import fresh_autoencoder
from .recogniser import load_recogniser
from .recogniser_data import ATTRIBUTES, UNKNOWN, VIEWS, as_tensor, disturbed, individuals, labels_of, view
from .text import CaptionTokens
from .text_model import encode, train_text_model, use_table
from .train_vae import decode, split_moments

FIRST = 5_000_000  # numbers of the prompted scenes: neither training pictures nor held out
BATCH = 16
STEPS = 20  # of a whole denoising
AGREED, SURE = 0.6, 0.97  # mean probability from which a label is believed that was asked, that was not


class Painter:
    """The demo model as it stands in the cache folder: captions and noise to pictures, with Euler's method."""

    def __init__(self, cache: Path) -> None:
        use_comfyui()
        import comfy.model_sampling
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
        from comfy.ops import disable_weight_init

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokens = CaptionTokens(model.TOKENS)
        unet, text_model = UNetModel(**model.UNET_CONFIG, operations=disable_weight_init), train_text_model()
        use_table(text_model, len(self.tokens.vocabulary), model.ENCODING_WIDTH)
        self.both = nn.ModuleDict({"unet": unet, "text": text_model})
        state = torch.load(cache / "unet.pt", weights_only=True, mmap=True)
        average = {
            name.removeprefix("module."): weight
            for name, weight in state["average"].items()
            if name.startswith(("module.unet.", "module.text."))
        }
        self.both.load_state_dict(average)
        self.autoencoder = fresh_autoencoder()
        self.autoencoder.load_state_dict(torch.load(cache / "vae_ema.pt", weights_only=True))
        for part in (self.both, self.autoencoder):
            part.to(self.device, memory_format=torch.channels_last).eval()
        self.sigmas = comfy.model_sampling.ModelSamplingDiscrete(model.unet_config()).sigmas
        print(f"demo model after {state['step']} steps", flush=True)

    @torch.no_grad()
    def paint(
        self,
        texts: list[str],
        scale: float,
        generator: torch.Generator,
        pictures: Tensor | None = None,
        start: int = 999,
    ) -> np.ndarray:
        """Pictures uint8 [B, H, W, 3] after the texts with guidance `scale`: from noise, or from `pictures` [B, 3, H,
        W] in 0..1 with the noise of timestep `start`."""
        with torch.autocast(self.device.type, torch.bfloat16):
            encodings = encode(self.both["text"], self.tokens.rows([*texts, *[""] * len(texts)]).to(self.device))
            latents = torch.zeros(len(texts), 4, 16, 16)
            if pictures is not None:
                latents = split_moments(self.autoencoder, pictures.to(self.device) * 2 - 1)[0].cpu()
            timesteps = np.linspace(start, 0, max(2, STEPS * (start + 1) // 1000 + 1)).round().astype(int)
            x = (latents + torch.randn(latents.shape, generator=generator) * self.sigmas[start]).to(self.device)
            for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
                sigma = float(self.sigmas[now])
                scaled = (x / (sigma**2 + 1) ** 0.5).repeat(2, 1, 1, 1).contiguous(memory_format=torch.channels_last)
                times = torch.full((len(scaled),), int(now), device=self.device)
                with_text, without = (
                    self.both["unet"](scaled, times, context=encodings, transformer_options={}).float().chunk(2)
                )
                velocity = without + scale * (with_text - without)
                clean = x / (sigma**2 + 1) - velocity * sigma / (sigma**2 + 1) ** 0.5
                x = clean if following is None else clean + (x - clean) * float(self.sigmas[following]) / sigma
            shown = torch.cat([decode(self.autoencoder, part) for part in x.split(8)])
        return ((shown / 2 + 0.5).clamp(0, 1) * 255).round().byte().movedim(1, -1).contiguous().cpu().numpy()


def prompted_scene(number: int) -> Scene:
    """Scene of prompt `number`, with a main object that words describe."""
    rng = np.random.default_rng(FIRST + number)
    return random_scene(rng, random_object(rng, free_looks=0))


@torch.no_grad()
def believed_labels(pictures: np.ndarray, asked: np.ndarray, copies: int = 4) -> np.ndarray:
    """The labels [n, attributes] that the present recogniser confirms (see the head of this file)."""
    recogniser, generator = load_recogniser(), torch.Generator().manual_seed(0)
    labels = np.full_like(asked, UNKNOWN)
    for start in range(0, len(pictures), 64):
        shown, part = as_tensor(pictures[start : start + 64]), slice(start, start + 64)
        looks = [shown, *(disturbed(shown, generator) for _ in range(copies - 1))]
        logits = [recogniser(look)[0] for look in looks]
        for i, name in enumerate(ATTRIBUTES):
            probability = torch.stack([each[name].softmax(dim=-1) for each in logits]).mean(dim=0).numpy()
            wanted = asked[part, i]
            confirmed = probability[np.arange(len(wanted)), wanted.clip(min=0)] >= AGREED
            sure = np.where(probability.max(axis=1) >= SURE, probability.argmax(axis=1), UNKNOWN)
            labels[part, i] = np.where(wanted == UNKNOWN, UNKNOWN, np.where(confirmed, wanted, sure))
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--varied", type=int, default=2000)
    parser.add_argument("--generated", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, generator = np.random.default_rng([arguments.seed, 21]), torch.Generator().manual_seed(arguments.seed)
    painter = Painter(arguments.cache)

    single = individuals(arguments.cache, max(1, -(-arguments.varied // VIEWS)))
    varied: list[np.ndarray] = []
    for first in range(0, arguments.varied, BATCH):
        numbers = range(first, min(first + BATCH, arguments.varied))
        texts = [caption(view(number // VIEWS, number % VIEWS), rng, detail=1.0) for number in numbers]
        varied.append(
            painter.paint(
                texts,
                rng.uniform(1.5, 4.5),
                generator,
                as_tensor(single.pictures[numbers.start : numbers.stop]),
                start=int(rng.integers(200, 480)),
            )
        )
    if varied:
        np.savez(arguments.cache / f"varied-{arguments.seed}.npz", pictures=np.concatenate(varied))
        print(f"{arguments.varied} pictures varied", flush=True)

    scenes = [prompted_scene(arguments.seed * 1_000_000 + number) for number in range(arguments.generated)]
    generated: list[np.ndarray] = []
    for first in range(0, arguments.generated, BATCH):
        texts = [full_caption(scene) for scene in scenes[first : first + BATCH]]
        generated.append(painter.paint(texts, rng.uniform(1.5, 5.5), generator))
    if generated:
        pictures, asked = np.concatenate(generated), np.array([labels_of(scene) for scene in scenes])
        labels = believed_labels(pictures, asked)
        np.savez(arguments.cache / f"generated-{arguments.seed}.npz", pictures=pictures, labels=labels, asked=asked)
        stated = asked != UNKNOWN
        print(
            json.dumps(
                {
                    name: {
                        "as asked": round(float((labels == asked)[:, i][stated[:, i]].mean()), 3),
                        "unknown": round(float((labels == UNKNOWN)[:, i][stated[:, i]].mean()), 3),
                    }
                    for i, name in enumerate(ATTRIBUTES)
                }
            ),
            flush=True,
        )
