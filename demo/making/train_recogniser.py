"""Trains the recogniser on whatever pictures the cache folder holds.

    python demo/making/run.py train_recogniser --cache DIR --steps 3000      (resumes from DIR/recogniser.pt)

Run it again with more steps when more has come into DIR: the drawn pictures (dataset.py) are needed; reconstructions
are made here when the autoencoder (vae_ema.pt) is there; pictures made by the demo model come from make_generated.py.
Loss: cross-entropy of the attributes that are known, supervised contrastive loss (Khosla et al. 2020, equation 2) of
the look's embedding over pictures of the same individuals, cross-entropy of the body mask."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..world.things import THINGS
from .candidates import candidate_pictures, thing_scenes
from .recogniser import WEIGHTS, Recogniser, save_recogniser
from .recogniser_data import (
    ATTRIBUTES,
    UNKNOWN,
    VIEWS,
    Pictures,
    as_tensor,
    disturbed,
    held_out,
    individuals,
    reconstructed,
    reconstruction,
    world_pictures,
)
from .training_state import load_state, moving_average, save_state, seeded, set_learning_rate

TEMPERATURE = 0.1  # of the contrastive loss
PAIRS = 10  # pairs of individuals in a batch; see recogniser_data.individual
OTHERS = 24  # further pictures in a batch
RECONSTRUCTED = 700  # individuals whose pictures are reconstructed
RECONSTRUCTED_WORLD = 2000  # of the world's pictures, most of which have a pattern, as few individuals do


def contrastive_loss(looks: Tensor, identities: Tensor) -> Tensor:
    """Supervised contrastive loss of embeddings [n, E] of length 1 with identities [n] (Khosla et al. 2020, equation
    2)."""
    others = ~torch.eye(len(looks), dtype=torch.bool, device=looks.device)
    same = (identities[:, None] == identities) & others
    similarity = (looks @ looks.T / TEMPERATURE).masked_fill(~others, -torch.inf)
    likelihood = similarity.log_softmax(dim=1).masked_fill(~same, 0)
    return -(likelihood.sum(dim=1) / same.sum(dim=1).clamp(min=1)).mean()


def loss_of(recogniser: Recogniser, pictures: Tensor, labels: Tensor, masks: Tensor, identities: Tensor) -> Tensor:
    """The whole loss of a batch whose first len(identities) pictures are of individuals with masks [.., MASK_SIZE,
    MASK_SIZE]."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        logits, looks, body = recogniser(pictures)
    attributes = [
        F.cross_entropy(logits[name].float(), labels[:, i], ignore_index=UNKNOWN, reduction="sum")
        / (labels[:, i] != UNKNOWN).sum().clamp(min=1)
        for i, name in enumerate(ATTRIBUTES)
    ]
    known = len(identities)
    return (
        sum(attributes)
        + contrastive_loss(looks[:known], identities)
        + F.binary_cross_entropy_with_logits(body[:known].float(), masks)
    )


class Batches:
    """Draws batches: pairs of individuals in two pictures each, then pictures from the other sources in equal parts."""

    def __init__(self, single: Pictures, versions: list[np.ndarray], others: list[Pictures], seed: int) -> None:
        self.single, self.versions, self.others = single, versions, others
        self.rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures, labels, masks and identities, as `loss_of` takes them, all on the CPU."""
        rng = self.rng
        # Of every category, as in the world: batch normalisation would give away what a batch has too much of.
        reach = np.array([len(version) for version in self.versions])[rng.integers(len(self.versions), size=PAIRS)]
        pairs = rng.integers(reach // VIEWS // 2)
        numbers = np.concatenate((2 * pairs, 2 * pairs + 1))
        views = np.stack([rng.choice(VIEWS, 2, replace=False) for _ in numbers])
        chosen = (numbers[:, None] * VIEWS + views).flatten()
        pictures, labels = [self._version(i) for i in chosen], [self.single.labels[chosen]]
        for part, source in zip(np.array_split(np.arange(OTHERS), len(self.others)), self.others, strict=True):
            extra = rng.integers(len(source), size=len(part))
            pictures += list(source.pictures[extra])
            labels.append(source.labels[extra])
        return (
            as_tensor(np.stack(pictures)),
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(self.single.masks[chosen]).float() / 255,
            torch.from_numpy(self.single.identities[chosen]),
        )

    def _version(self, index: int) -> np.ndarray:
        """The picture as drawn, or as one of the models shows it."""
        there = [version for version in self.versions if index < len(version)]
        return there[self.rng.integers(len(there))][index]


@torch.no_grad()
def accuracies(recogniser: Recogniser, shown: Pictures) -> dict[str, float]:
    """Share of the known labels that are read rightly, and the mask's overlap (intersection over union) where it is
    known."""
    recogniser.eval()
    parts = [recogniser(chunk) for chunk in as_tensor(shown.pictures).to(recogniser.rows.device).split(64)]
    result = {}
    for i, name in enumerate(ATTRIBUTES):
        found = torch.cat([part[0][name] for part in parts]).argmax(dim=-1).cpu().numpy()
        known = shown.labels[:, i] != UNKNOWN
        result[name] = float((found == shown.labels[:, i])[known].mean())
    if shown.masks is not None:
        body = torch.cat([part[2] for part in parts]).cpu().numpy() > 0
        true = shown.masks > 127
        result["mask overlap"] = float(
            ((body & true).sum(axis=(1, 2)) / (body | true).sum(axis=(1, 2)).clip(min=1)).mean()
        )
    return result


def thing_accuracies(recogniser: Recogniser, show: object = None, each: int = 8) -> dict[str, float]:
    """Share of pictures of things in all kinds of scenes whose nearest candidate (things and plain looks) is the
    thing itself; `show` turns pictures [B, 3, H, W] into what a model makes of them."""
    recogniser.eval()
    candidates = recogniser.candidates(candidate_pictures())
    result: dict[str, list[float]] = {"things": [], "held-out things": []}
    for name, thing in THINGS.items():
        pictures = thing_scenes(name, each)
        found = recogniser.is_thing(show(pictures) if show else pictures, name, candidates)
        result["held-out things" if thing.held_out else "things"] += found.float().tolist()
    return {kind: float(np.mean(values)) for kind, values in result.items()}


def report(recogniser: Recogniser, cache: Path, count: int = 500) -> None:
    """Print the accuracies on held-out pictures, as drawn and as the autoencoder reconstructs them."""
    drawn = held_out(count)
    print("drawn:", _shares({**accuracies(recogniser, drawn), **thing_accuracies(recogniser)}), flush=True)
    if (cache / "vae_ema.pt").exists():
        show = reconstruction(cache / "vae_ema.pt")
        again = Pictures(reconstructed(drawn.pictures, show), drawn.labels, drawn.masks)
        print(
            "reconstructed:",
            _shares({**accuracies(recogniser, again), **thing_accuracies(recogniser, show)}),
            flush=True,
        )


def _shares(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--individuals", type=int, default=3000)
    parser.add_argument("--pictures", type=int, default=16_000, help="drawn pictures to learn from besides")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--average", type=float, default=0.995)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    _, device = seeded(arguments.seed)

    single = individuals(arguments.cache, arguments.individuals)
    versions, world = [single.pictures], world_pictures(arguments.cache, arguments.pictures)
    others = [world]
    if (arguments.cache / "vae_ema.pt").exists():
        individuals_again, world_again = (
            kept_reconstructions(arguments.cache, name, pictures)
            for name, pictures in (
                ("reconstructed.npy", single.pictures[: RECONSTRUCTED * VIEWS]),
                ("reconstructed-world.npy", world.pictures[:RECONSTRUCTED_WORLD]),
            )
        )
        versions.append(individuals_again)
        others.append(Pictures(world_again, world.labels[:RECONSTRUCTED_WORLD]))
    for file in sorted(arguments.cache.glob("varied-*.npz")):
        versions.append(np.load(file)["pictures"])
    for file in sorted(arguments.cache.glob("generated-*.npz")):
        loaded = np.load(file)
        others.append(Pictures(loaded["pictures"], loaded["labels"]))
    print(
        f"{len(single)} pictures of individuals, {[len(version) for version in versions[1:]]} of them as models show "
        f"them, {[len(source) for source in others]} other pictures",
        flush=True,
    )

    recogniser = Recogniser(ATTRIBUTES).to(device, memory_format=torch.channels_last)
    print(f"{sum(weight.numel() for weight in recogniser.parameters())} parameters", flush=True)
    optimiser = torch.optim.AdamW(
        recogniser.parameters(), lr=arguments.learning_rate, weight_decay=1e-2, betas=(0.9, 0.98)
    )
    average = moving_average(recogniser, arguments.average, use_buffers=True)
    state_file = arguments.cache / "recogniser.pt"
    first = load_state(state_file, recogniser, average, [optimiser])
    batches = Batches(single, versions, others, seed=arguments.seed + first)
    generator = torch.Generator().manual_seed(arguments.seed + first)
    start, losses = time.monotonic(), []
    for step in range(first, arguments.steps):
        progress = step / arguments.steps
        set_learning_rate([optimiser], arguments.learning_rate, step, warm_up=200, progress=progress, last=0.01)
        pictures, labels, masks, identities = (tensor.to(device) for tensor in batches.draw())
        recogniser.train()
        loss = loss_of(recogniser, disturbed(pictures, generator), labels, masks, identities)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(recogniser.parameters(), 2.0)
        optimiser.step()
        average.update_parameters(recogniser)
        losses.append(loss.item())
        if step % 100 == 99:
            print(
                f"step {step + 1}/{arguments.steps} loss {np.mean(losses[-100:]):.3f} "
                f"{(time.monotonic() - start) / (step + 1 - first):.2f} s/step",
                flush=True,
            )
        if step % 250 == 249 or step + 1 == arguments.steps:
            save_state(state_file, recogniser, average, [optimiser], step + 1)
            save_recogniser(average.module, arguments.out)
    report(average.module, arguments.cache)


def kept_reconstructions(cache: Path, name: str, pictures: np.ndarray) -> np.ndarray:
    """The reconstructions of `pictures`, kept in the cache folder in the file `name`."""
    file = cache / name
    if not file.exists() or len(np.load(file, mmap_mode="r")) < len(pictures):
        np.save(file, reconstructed(pictures, reconstruction(cache / "vae_ema.pt")))
    return np.load(file)[: len(pictures)]
