"""Does the look move from one concept to the other along the slider of Blend Perfusion Concepts?

    python benchmarks/blending.py [--pairs hugsy-bruno hugsy-sippy] [--seeds 6] [--sheet FILE]

Blends each pair of demo things at five shares and paints every blend in the same scenes at the same seeds.  Things that
do not ship as concepts are trained first, with the preset Standard (kept in --cache).

    to A, to B    distance between the mean colour of the painted body and that of the thing's own pictures as the
                  autoencoder shows them, in RGB (0..441); the body is what the recogniser takes for it
    look          cosine of the look's embedding, to A and to B
    kind          share of the pictures in which the recogniser reads the kind of A, and that of B
    steps         share of the steps of all pictures in which the distance to A rises, and that to B falls
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from demo_trainings import DemoTrainings
from open_pack import open_pack
from PIL import Image
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SCENES = ("a photo of a {}", "a photo of a {} on the beach", "a photo of a {} in the snow")
STEPS, CFG = 20, 3.0


class Seen(NamedTuple):
    """Of the pictures at one share: distances in colour and cosines of the look to A and B, [B, 2]; kinds, [2]."""

    distances: Tensor
    looks: Tensor
    kinds: Tensor


class Bench:
    """The trainings, and the recogniser that looks at what the blends paint."""

    def __init__(self, folder: Path, steps: int) -> None:
        from perfusion_pack.demo.making.recogniser import load_recogniser

        self.recogniser = load_recogniser()
        self.trainings = DemoTrainings(folder, steps, self.recogniser)

    def concept(self, thing: str) -> Any:
        from perfusion_pack.perfusion_core.concept_file import load_concept

        shipped = REPOSITORY / "demo" / "concepts" / f"demo_{thing}.safetensors"
        return load_concept(shipped) if shipped.exists() else self.trainings.concept(f"{thing}-0", thing, 0, {})

    @torch.inference_mode()
    def paint(self, gated: Any, seeds: int) -> Tensor:
        """Pictures [scenes * seeds, 3, 128, 128] of a blend."""
        import comfy.sample
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words

        of = self.trainings
        model, clip = apply_concepts(of.model, (gated,)), add_words(of.clip, (gated,))
        negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        latents, pictures = torch.zeros(seeds, 4, 16, 16), []
        for number, scene in enumerate(SCENES):
            text = scene.format(gated.concept.word)
            positive = clip.encode_from_tokens_scheduled(clip.tokenize(text))
            noise = comfy.sample.prepare_noise(latents, number)
            made = comfy.sample.sample(
                model, noise, STEPS, CFG, "euler", "normal", positive, negative, latents, disable_pbar=True, seed=number
            )
            pictures.append(of.vae.decode(made).movedim(-1, 1).clamp(0, 1))
        return torch.cat(pictures)

    @torch.inference_mode()
    def colour_of(self, thing: str) -> Tensor:
        """The mean colour of its body, [3], as the autoencoder shows it."""
        from perfusion_pack.demo.making.candidates import thing_tensors

        pictures, masks = thing_tensors(thing)
        through = self.trainings.vae.decode(self.trainings.vae.encode(pictures.movedim(1, -1))).movedim(-1, 1)
        return mean_colours(through, masks).mean(dim=0)

    def seen(self, pictures: Tensor, things: tuple[str, str]) -> Seen:
        from perfusion_pack.demo.world.things import THINGS

        own = mean_colours(pictures, self.recogniser.body_mask(pictures))
        distances = torch.stack([(own - self.colour_of(thing)).norm(dim=-1) * 255 for thing in things], dim=-1)
        looks = self.recogniser.embed(pictures) @ torch.stack([self.trainings.candidates[one] for one in things]).T
        read = [one.category for one in self.recogniser.read(pictures)]
        kinds = [sum(one == THINGS[thing].category for one in read) / len(read) for thing in things]
        return Seen(distances, looks, torch.tensor(kinds))


def mean_colours(pictures: Tensor, masks: Tensor) -> Tensor:
    """Mean colour inside soft masks: [B, 3, H, W], [B, H, W] -> [B, 3]."""
    return (pictures * masks[:, None]).sum(dim=(2, 3)) / masks.sum(dim=(1, 2)).clamp(min=1)[:, None]


def table(things: tuple[str, str], seen: list[Seen]) -> str:
    a, b = things
    count = len(seen[0].distances)
    heads = (f"{a} to {b}, {count} pictures", "to A", "to B", "look A", "look B", "kind A", "kind B")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for share, one in zip(SHARES, seen, strict=True):
        colours = " | ".join(f"{value:.0f}" for value in one.distances.mean(dim=0).tolist())
        others = (*one.looks.mean(dim=0).tolist(), *one.kinds.tolist())
        lines.append(f"| {share:g} | {colours} | " + " | ".join(f"{value:.2f}" for value in others) + " |")
    moves = torch.stack([one.distances for one in seen]).diff(dim=0)
    rises, falls = (moves[..., 0] > 0).float().mean(), (moves[..., 1] < 0).float().mean()
    return "\n".join([*lines, f"| steps | {rises:.2f} rise | {falls:.2f} fall | | | | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=["hugsy-bruno", "hugsy-sippy"])
    parser.add_argument("--seeds", type=int, default=6, help="pictures of each scene")
    parser.add_argument("--steps", type=int, default=300, help="of the trainings")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "perfusion-benchmarks" / "blending")
    parser.add_argument("--sheet", type=Path, help="draw a row of shares for each pair into this file")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    open_pack()
    from perfusion_pack.perfusion_core.concept import alone
    from perfusion_pack.perfusion_core.concept_blend import blend_concepts, default_word

    bench, rows = Bench(arguments.cache, arguments.steps), []
    for pair in arguments.pairs:
        a, b = pair.split("-")
        one, other = (alone(bench.concept(thing))[0] for thing in (a, b))
        word, seen, strip = default_word(one.concept, other.concept), [], []
        for share in SHARES:
            pictures = bench.paint(blend_concepts(one, other, share, word), arguments.seeds)
            seen.append(bench.seen(pictures, (a, b)))
            strip.append(torch.cat([*pictures[:: arguments.seeds]], dim=-2))
        rows.append(torch.cat(strip, dim=-1))
        print("\n" + table((a, b), seen), flush=True)
    if arguments.sheet:
        shown = (torch.cat(rows, dim=-2).movedim(0, -1) * 255).round().to(torch.uint8)
        Image.fromarray(shown.numpy()).save(arguments.sheet, quality=88)


if __name__ == "__main__":
    main()
