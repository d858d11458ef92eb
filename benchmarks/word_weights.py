#!/usr/bin/env python3
"""What `(<hugsy>:1.2)` does: similarity, gate and pictures of a concept as functions of its word's weight.

    python benchmarks/word_weights.py [--things hugsy] [--pictures 6] [--picture FILE.jpg]

On the embedded demo model, with a concept that ships, at its recommended bias and temperature. For every weight: the
similarity and the gate at the word, what the values hold of the learned target o_V and the keys of the superclass
(their component along it, mean over layers, 1 = all of it), and how like the thing the pictures look. Prints a Markdown
table for each thing, and for each column whether it ever falls while the weight grows; draws one labelled row of
pictures for each thing, of one seed at every weight, into benchmarks/pictures/word-weights.jpg.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURE = REPOSITORY / "benchmarks" / "pictures" / "word-weights.jpg"
PICTURE_BYTES = 60_000

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
FINE_STEP = 0.05  # of the weights between which the gate is searched for a jump
PROMPT = "a photo of a ({}:{:g}) on the beach"
CELL, MARGIN, HEADING, LABEL = 128, 4, 24, 34

Row = dict[str, float]


def at_the_word(model: Any, clip: Any, gated: Any, weight: float) -> Row:
    """Return similarity, gate, and the parts of o_V in the values and of the locked key in the keys, at the word."""
    from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
    from perfusion_pack.nodes.host.gate.run import GateRun
    from perfusion_pack.nodes.host.text.encoders import word_positions
    from perfusion_pack.nodes.host.text.own_tokens import marks_of
    from perfusion_pack.perfusion_core.edit import add_value_targets

    concept = gated.concept
    tokens = clip.tokenize(PROMPT.format(concept.word, weight))
    position = word_positions(tokens, concept.word)[0]
    ((encoding, extra),) = clip.encode_from_tokens_scheduled(tokens)
    edited = GateRun((gated,), False, False, marks_of([extra])).edited(encoding, (0,))
    values, keys = [], []
    for name, layer in cross_attention_layers(model.model.diffusion_model).items():
        target = concept.value_targets[name].float()
        value = add_value_targets(layer.to_v(edited.value_context), edited.value_gates, target[None])[0, position]
        key, locked = layer.to_k(edited.key_context)[0, position], layer.to_k(concept.superclass_encoding)
        values.append(float(value @ target / (target @ target)))
        keys.append(float(key @ locked / (locked @ locked)))
    return {
        "similarity": float(edited.similarities[0, position, 0]),
        "gate": float(edited.gates[0, position, 0]),
        "values along o_V": sum(values) / len(values),
        "keys along the superclass'": sum(keys) / len(keys),
    }


def largest_step(model: Any, clip: Any, gated: Any) -> tuple[float, float]:
    """Return the largest change of the gate between two weights FINE_STEP apart, and the first of them."""
    weights = [FINE_STEP * i for i in range(round(WEIGHTS[-1] / FINE_STEP) + 1)]
    gates = [at_the_word(model, clip, gated, weight)["gate"] for weight in weights]
    return max((abs(after - before), weight) for (before, after), weight in zip(pairwise(gates), weights, strict=False))


def falls(numbers: Sequence[float]) -> str:
    """Say whether the numbers, one for each weight, ever fall while the weight grows, and where they fall most."""
    drop, start = max((before - after, index) for index, (before, after) in enumerate(pairwise(numbers)))
    if drop <= 0:
        return "never falls"
    return f"falls, most by {drop:.3f} from weight {WEIGHTS[start]:g} to {WEIGHTS[start + 1]:g}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows, one for each weight, as a Markdown table."""
    lines = ["| weight | " + " | ".join(rows[0]) + " |", "| ---: |" + " ---: |" * len(rows[0])]
    for weight, row in zip(WEIGHTS, rows, strict=True):
        lines.append(f"| {weight:g} | " + " | ".join(f"{number:.3f}" for number in row.values()) + " |")
    return "\n".join(lines)


def measure(thing: str, models: tuple[Any, Any, Any], count: int, steps: int) -> tuple[list[Row], list[Image.Image]]:
    """Print what the weights do to the word of a thing's concept; return the table's rows and a picture of each.

    models: the demo's MODEL, CLIP and VAE.  count: pictures for each weight, at least 1.
    """
    from perfusion_pack.demo.making.candidates import thing_tensors
    from perfusion_pack.demo.making.recogniser import load_recogniser
    from perfusion_pack.nodes.host.gate.patch import apply_concepts
    from perfusion_pack.nodes.host.text.words import add_words
    from perfusion_pack.nodes.host.training.sampling import sample_pictures
    from perfusion_pack.perfusion_core.concept import GatedConcept
    from perfusion_pack.perfusion_core.concept_file import load_concept

    model, clip, vae = models
    concept = load_concept(REPOSITORY / "demo" / "concepts" / f"demo_{thing}.safetensors")
    gated = GatedConcept(concept, concept.bias, concept.temperature)
    knowing, patched = add_words(clip, (gated,)), apply_concepts(model, (gated,))
    recogniser, (references, masks) = load_recogniser(), thing_tensors(thing)
    rows, pictures = [], []
    for weight in WEIGHTS:
        prompts = [PROMPT.format(concept.word, weight)] * count
        painted = sample_pictures(patched, knowing, vae, prompts, (4, 16, 16), seed=100, steps=steps).float().cpu()
        like = recogniser.likeness(painted, references, masks)
        likeness = {"look": float(like.look.mean()), "colours": float(like.colours.mean())}
        rows.append(at_the_word(model, knowing, gated, weight) | likeness)
        pictures.append(Image.fromarray((painted[0].numpy() * 255).round().astype("uint8")))
    prompt = PROMPT.replace(":g", "").format(concept.word, "weight")
    print(f"\n{thing}, `{prompt}`, bias {concept.bias:g}, temperature {concept.temperature:g}, {count} pictures each\n")
    print(table(rows), end="\n\n")
    for column in rows[0]:
        print(f"- {column}: {falls([row[column] for row in rows])} while the weight grows")
    change, weight = largest_step(model, knowing, gated)
    print(f"- the gate changes by at most {change:.3f} in a step of {FINE_STEP:g}, at weight {weight:.2f}", flush=True)
    return rows, pictures


def labelled(strips: dict[str, tuple[list[Row], list[Image.Image]]]) -> Image.Image:
    """Return a row of pictures for each thing, with the weight, the gate and the likeness below each picture."""
    width = len(WEIGHTS) * (CELL + MARGIN) + MARGIN
    drawn = Image.new("RGB", (width, len(strips) * (HEADING + CELL + LABEL)), (250, 250, 248))
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(13)
    for index, (thing, (rows, pictures)) in enumerate(strips.items()):
        top = index * (HEADING + CELL + LABEL)
        heading = PROMPT.replace(":g", "").format(f"<{thing}>", "weight")
        draw.text((MARGIN, top + 4), f"“{heading}”", fill=(30, 30, 36), font=font)
        for column, (weight, row, picture) in enumerate(zip(WEIGHTS, rows, pictures, strict=True)):
            left = MARGIN + column * (CELL + MARGIN)
            drawn.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, top + HEADING))
            text = f"weight {weight:g}\ngate {row['gate']:.2f}, look {row['look']:.2f}"
            draw.multiline_text((left, top + HEADING + CELL + 1), text, fill=(30, 30, 36), font=font, spacing=1)
    return drawn


def save_small(picture: Image.Image, path: Path) -> None:
    """Write a JPEG file of at most PICTURE_BYTES, as good as that allows, in one piece."""
    for quality in range(90, 20, -5):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= PICTURE_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data.getvalue())
    os.replace(temporary, path)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and draw as the command line says; the host and the pack must be loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--things", nargs="+", default=["hugsy"])
    parser.add_argument(
        "--pictures", type=int, default=6, help="pictures that the likeness at each weight is the mean of"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw the first pictures of each thing")
    arguments = parser.parse_args(words)
    from perfusion_pack.demo.load import load_demo_model

    with torch.inference_mode():
        models = load_demo_model()
        strips = {thing: measure(thing, models, arguments.pictures, arguments.steps) for thing in arguments.things}
    save_small(labelled(strips), arguments.picture)
    print(f"\n{arguments.picture}")


if __name__ == "__main__":
    from open_pack import open_pack

    open_pack()
    main()
