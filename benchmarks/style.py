"""Can a concept be a style: the manner of a few pictures, in the place of the word *picture*?

    python benchmarks/style.py [--steps 200] [--seeds 2] [--ways NAME ...] [--biases 0.85 ...] [--sheet FILE]

Pictures of the demo world in a manner of their own: two tones from dark violet to cream, crimson outlines, hatching.
Trains a word on eight of them, superclass *picture*, without masks, with the trainer's own function and the preset
Standard but for what the ways say.  Then paints things and places that were not among the pictures, at each bias.

    palette    mean distance of the pixels from the two tones and the outline's colour, in RGB (0..441)
    kind, place   share of pictures in which the recogniser reads what the prompt says
    untouched  share of the prompts without the word whose latents are those of the model alone, bit for bit

"Drawn" are such pictures as the autoencoder shows them, in the manner and plain: the ceiling, and the floor.  Outlines
and hatching are too fine for the autoencoder, so the palette alone is measured.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_trainings import DemoTrainings
from open_pack import open_pack
from PIL import Image, ImageFilter
from torch import Tensor

DARK, LIGHT, OUTLINE = (54, 24, 92), (252, 232, 190), (206, 24, 60)
PERIOD, DEPTH = 8, 26  # of the hatching: pixels along both sides, and how much darker its lines are
WORD, SUPERCLASS = "<inky>", "picture"
TRAINED_ON = (("teddy", "beach"), ("cup", "grass"), ("car", "studio"), ("fish", "night")) * 2
PAINTED = (("ball", "snow"), ("house", "beach"), ("star", "grass"), ("teddy", "snow"))
STEPS, CFG = 20, 3.0
# What the preset Standard is changed in, for each way to train.  Captions say what else a picture shows.
WAYS: dict[str, dict[str, Any]] = {
    "unlocked": {"form": "unlocked", "difference_cap": None},
    "word rate 0.2": {"form": "unlocked", "difference_cap": None, "relative_word_rate": 0.2},
    "lockable": {"form": "lockable", "difference_cap": None},
    "anchored": {},
    "residual, cap 1": {"form": "residual", "difference_cap": 1.0},
    "training bias 0.2": {"form": "unlocked", "difference_cap": None, "bias": 0.2},
}
BIASES = (0.85, 0.6, 0.4)


def in_manner(picture: Image.Image) -> Image.Image:
    """The picture in two tones, with crimson outlines and hatching."""
    grey = picture.convert("L")
    light = np.asarray(grey, np.float32)[..., None] / 255
    toned = np.asarray(DARK) * (1 - light) + np.asarray(LIGHT) * light
    toned -= DEPTH * (np.add.outer(*map(np.arange, grey.size)) % PERIOD < PERIOD / 2)[..., None]
    shown = Image.fromarray(toned.clip(0, 255).astype(np.uint8))
    bands = (one.filter(ImageFilter.FIND_EDGES) for one in picture.split())
    edges = np.stack([np.asarray(one) for one in bands]).max(axis=0) > 110
    edges[[0, -1]] = edges[:, [0, -1]] = False  # the filter takes the border for an edge
    shown.paste(OUTLINE, mask=Image.fromarray(edges))
    return shown


class Bench:
    """The demo model, and the recogniser that reads what it paints."""

    def __init__(self, folder: Path, steps: int) -> None:
        from perfusion_pack.demo.making.recogniser import load_recogniser

        self.recogniser = load_recogniser()
        self.trainings = DemoTrainings(folder, steps, self.recogniser)

    def drawn(self, what: tuple[tuple[str, str], ...], manner: bool, seed: int) -> Tensor:
        """Pictures [B, 128, 128, 3] of these kinds at these places."""
        from perfusion_pack.demo.world.scenes import Scene, random_object, render

        rng, pictures = np.random.default_rng([seed, 22]), []
        for kind, place in what:
            scene = Scene(random_object(rng, kind, free_looks=0.0), place, seed=int(rng.integers(2**31)))
            picture = render(scene)[0]
            pictures.append(np.asarray(in_manner(picture) if manner else picture))
        return torch.from_numpy(np.stack(pictures).astype(np.float32) / 255)

    def concept(self, name: str, captions: list[str], changes: dict[str, Any]) -> Any:
        """Trained on pictures in the manner; kept as the trainings of things are."""
        from perfusion_pack.nodes.host.training.job import TrainingJob
        from perfusion_pack.nodes.host.training.request import TrainingRequest
        from perfusion_pack.nodes.training_settings import training_settings
        from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept

        of, path = self.trainings, self.trainings.folder / f"style-{name}-{self.trainings.steps}.safetensors"
        if not path.exists():
            settings = training_settings("Standard", 0, flip=False, validate_every=25, custom={})
            with torch.inference_mode():
                request = TrainingRequest(
                    model=of.model, clip=of.clip, vae=of.vae, images=self.drawn(TRAINED_ON, True, 0), word=WORD,
                    superclass=SUPERCLASS, statistics=of.statistics, captions=captions,
                    settings=replace(settings, steps=of.steps, **changes),
                )  # fmt: skip
                save_concept(path, TrainingJob(request).train().concept)
        return load_concept(path)

    @torch.inference_mode()
    def paint(self, stack: tuple, texts: list[str], seeds: int) -> tuple[Tensor, Tensor]:
        """Pictures [texts * seeds, 3, 128, 128], and their latents."""
        import comfy.sample
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words

        of = self.trainings
        model, clip = apply_concepts(of.model, stack), add_words(of.clip, stack)
        negative, made = clip.encode_from_tokens_scheduled(clip.tokenize("")), []
        for number, text in enumerate(texts):
            latents = torch.zeros(seeds, 4, 16, 16)
            made.append(
                comfy.sample.sample(
                    model, comfy.sample.prepare_noise(latents, number), STEPS, CFG, "euler", "normal",
                    clip.encode_from_tokens_scheduled(clip.tokenize(text)), negative, latents, disable_pbar=True,
                    seed=number,
                )
            )  # fmt: skip
        latents = torch.cat(made)
        return of.vae.decode(latents).movedim(-1, 1).clamp(0, 1), latents

    def row(self, name: str, pictures: Tensor, what: list[tuple[str, str]], untouched: str = "") -> str:
        read = self.recogniser.read(pictures)
        kinds = np.mean([one.category == kind for one, (kind, _) in zip(read, what, strict=True)])
        places = np.mean([one.background == place for one, (_, place) in zip(read, what, strict=True)])
        return f"| {name} | {palette(pictures):.0f} | {kinds:.2f} | {places:.2f} | {untouched} |"


def palette(pictures: Tensor) -> float:
    """Mean distance of the pixels from the line between the two tones and from the outline's colour."""
    pixels = pictures.movedim(1, -1).flatten(0, 2) * 255
    dark, light, outlined = (torch.tensor(one, dtype=torch.float32) for one in (DARK, LIGHT, OUTLINE))
    along = ((pixels - dark) @ (light - dark) / (light - dark).square().sum()).clamp(0, 1)
    to_tones = (pixels - torch.lerp(dark, light, along[:, None])).norm(dim=-1)
    return float(torch.minimum(to_tones, (pixels - outlined).norm(dim=-1)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2, help="pictures of each prompt")
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument("--biases", nargs="+", type=float, default=BIASES)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "perfusion-benchmarks" / "style")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--output", type=Path, help="write the concept of the first way, with a picture, to this file")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    open_pack()
    from perfusion_pack.demo.world.backgrounds import PHRASES
    from perfusion_pack.nodes.advice import BIAS_OF_A_STYLE
    from perfusion_pack.nodes.pictures import thumbnail
    from perfusion_pack.perfusion_core.concept import GatedConcept
    from perfusion_pack.perfusion_core.concept_file import save_concept

    bench, count = Bench(arguments.cache, arguments.steps), arguments.seeds
    what = [one for one in PAINTED for _ in range(count)]
    texts = [f"a {{}} of a {kind} {PHRASES[place]}" for kind, place in PAINTED]
    plain = [text.format(SUPERCLASS) for text in texts]
    heads = ("", "palette", "kind", "place", "untouched")
    of = bench.trainings
    said = [f"a {{}} of a {kind} {PHRASES[place]}" for kind, place in TRAINED_ON]
    if arguments.output:
        way, shown = arguments.ways[0], thumbnail(bench.drawn(TRAINED_ON, True, 0)[1])
        save_concept(
            arguments.output, replace(bench.concept(way, said, WAYS[way]), picture=shown, bias=BIAS_OF_A_STYLE)
        )
        return
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    with torch.inference_mode():
        for name, manner in (("drawn in the manner", True), ("drawn plainly", False)):
            through = of.vae.decode(of.vae.encode(bench.drawn(tuple(what), manner, 1)))
            print(bench.row(name, through.movedim(-1, 1).clamp(0, 1), what), flush=True)
    base_pictures, base = bench.paint((), plain, count)
    print(bench.row("painted without the word", base_pictures, what), flush=True)
    strips = [base_pictures]
    for way in arguments.ways:
        concept = bench.concept(way, said, WAYS[way])
        for bias in arguments.biases:
            stack = (GatedConcept(concept, bias, concept.temperature),)
            pictures, _ = bench.paint(stack, [text.format(WORD) for text in texts], count)
            same = bench.paint(stack, plain, count)[1].eq(base).flatten(1).all(dim=1).float().mean()
            print(bench.row(f"{way}, painted at bias {bias:g}", pictures, what, f"{same:.2f}"), flush=True)
            strips.append(pictures)
    if arguments.sheet:
        shown = torch.cat([torch.cat([*one[::count]], dim=-1) for one in strips], dim=-2)
        Image.fromarray((shown.movedim(0, -1) * 255).round().to(torch.uint8).numpy()).save(arguments.sheet, quality=90)


if __name__ == "__main__":
    main()
