#!/usr/bin/env python3
"""What rounding does that a concept's file may be small: pictures, gate and likeness, as one Markdown table.

    python benchmarks/file_precision.py [--pictures 3] [--output benchmarks/file_precision.md]

The demo's concepts as their files keep them (values in half precision, the text side in float32), and as the files of
models with many wide layers (SDXL, Anima) keep theirs: values in 12 bits, all else in half precision. Pictures of one
seed in two scenes, by how far their numbers, 0 to 255, are apart; likeness by the recogniser. Then latents of tiny
models of SDXL's and Anima's classes with random weights, which begin with the numbers in float32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "tests" / "host"))

SCENES = ("a photo of a {} on the beach", "a photo of a {} in the snow")

EXPLAINED = """\
# How small a file may be

Written by `python benchmarks/file_precision.py --output benchmarks/file_precision.md`.

A concept's values are one vector for each cross-attention layer; its keys are those of its superclass and are not kept.
In half precision the values alone are 114,688 bytes for Anima and 166,400 for SDXL, which leaves nothing of 120 and
170 kB for the text side and a picture. So where values exceed 61,440 bytes a file keeps them in 12 bits with one scale
a layer, and all else in half precision. SD1 and SD2 have less, and their files are as they were, byte by byte.

| file, in bytes | values | text side and vectors of the words | header without a picture | in all |
| --- | ---: | ---: | ---: | ---: |
| Anima, before | 114,688 | 20,480 | 3,500 | 138,700 |
| Anima | 86,128 | 10,240 | 4,480 | 100,848 |
| SDXL, before | 166,400 | 40,960 | 9,000 | 216,400 |
| SDXL | 125,080 | 20,480 | 10,024 | 155,584 |

Of a superclass of one token; each token more is 4,096 bytes for Anima and 8,192 for SDXL. The picture has at most
4,096 bytes in such files, 5,484 as text (8,192 in small ones).

**From the numbers as they are to the file**, for a random vector: half precision puts it off by 0.00021 of its length,
12 bits by 0.0006, bfloat16 by 0.0017.
"""


def as_large_files_keep(concept: Any) -> Any:
    """The concept rounded as if its model had many wide layers."""
    from perfusion_pack.perfusion_core import concept_file

    with mock.patch.object(concept_file, "MOST_PLAIN_VALUES", 0):
        return concept_file.round_for_file(concept)


def demo_rows(count: int) -> Iterator[str]:
    """A line of the table for each of the demo's concepts."""
    from perfusion_pack.demo.load import load_demo_model
    from perfusion_pack.demo.making.candidates import thing_tensors
    from perfusion_pack.demo.making.recogniser import load_recogniser
    from perfusion_pack.nodes.host.gate.patch import apply_concepts
    from perfusion_pack.nodes.host.text.words import add_words
    from perfusion_pack.nodes.host.training.sampling import sample_pictures
    from perfusion_pack.perfusion_core.concept import alone
    from perfusion_pack.perfusion_core.concept_file import load_concept

    model, clip, vae = load_demo_model()
    recogniser = load_recogniser()
    for thing in ("hugsy", "sippy"):
        concept = load_concept(REPOSITORY / "demo" / "concepts" / f"demo_{thing}.safetensors")
        references, masks = thing_tensors(thing)
        painted, likeness = [], []
        for kept in (concept, as_large_files_keep(concept)):
            stack = alone(kept)
            patched, knowing = apply_concepts(model, stack), add_words(clip, stack)
            prompts = [scene.format(concept.word) for scene in SCENES for _ in range(count)]
            found = sample_pictures(patched, knowing, vae, prompts, (4, 16, 16), seed=100).float().cpu()
            like = recogniser.likeness(found, references, masks)
            painted.append(255 * found.clamp(0, 1))
            likeness.append(f"{like.look.mean():.4f}, {like.colours.mean():.4f}")
        apart = (painted[1] - painted[0]).abs()
        steps = (painted[1].round() != painted[0].round()).float().mean()
        yield (
            f"| demo, {thing} | {len(prompts)} | {apart.mean():.4f} | {apart.max():.3f} | {100 * steps:.2f} %"
            f" | {likeness[0]} | {likeness[1]} |"
        )


def latent_rows() -> Iterator[str]:
    """A line for each tiny model: how far latents are off, of how far the concept moves them."""
    from perfusion_pack.nodes.host.gate.patch import apply_concepts
    from perfusion_pack.nodes.host.text.words import add_words
    from perfusion_pack.perfusion_core.concept import GatedConcept
    from perfusion_pack.perfusion_core.concept_file import round_for_file
    from tiny_models import encode, make_concept, tiny_sdxl
    from transformer_families import FAMILIES, sample_family, transformer_concept

    families = {"SDXL": (tiny_sdxl(), lambda made: make_concept(*made))}
    families |= {name: (FAMILIES[name](), transformer_concept) for name in ("Anima", "Cosmos-Predict2")}
    for name, (made, make) in families.items():
        model, clip = made
        concept = make(made)
        latents = []
        for kept in (None, concept, round_for_file(concept), as_large_files_keep(concept)):
            # A gate that is half open shows most of what rounding does to it.
            stack = () if kept is None else (GatedConcept(kept, 1.0, 0.15),)
            knowing = add_words(clip, stack or (GatedConcept(concept, 1.0, 0.15),))
            positive, negative = encode(knowing, f"a photo of a {concept.word} in the snow"), encode(knowing, "blurry")
            latents.append(sample_family(apply_concepts(model, stack), positive, negative, steps=6))
        plain, exact, half, small = latents
        moved = (exact - plain).norm()
        off = [f"{(found - exact).norm() / moved:.5f}" for found in (half, small)]
        yield f"| {name} | {off[0]} | {off[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=3, help="of each scene")
    parser.add_argument("--output", type=Path, help="write the page into this file too")
    arguments = parser.parse_args()
    from open_pack import open_pack

    open_pack()
    torch.set_num_threads(1)
    lines = [
        EXPLAINED,
        "**From an ordinary file to a small one**, on the demo model; numbers of pictures from 0 to 255, likeness of"
        " look and of colours.",
        "",
        "| concept | pictures | apart, mean | apart, most | other 8-bit steps | likeness, ordinary | likeness, small |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    print("\n".join(lines[1:]), flush=True)
    with torch.inference_mode():
        for row in demo_rows(arguments.pictures):
            print(row, flush=True)
            lines.append(row)
        lines += ["", "**Latents of tiny models**, how far off, of how far the concept moves them.", ""]
        lines += ["| classes of | half precision | 12 bits, text side in half |", "| --- | ---: | ---: |"]
        for row in latent_rows():
            print(row, flush=True)
            lines.append(row)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
