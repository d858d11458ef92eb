#!/usr/bin/env python3
"""What `(<hugsy>:1.2)` does: similarity, gate and pictures of a concept as functions of its word's weight.

    python benchmarks/word_weights.py [--things hugsy sippy] [--pictures 6] [--sheet SHEET.jpg]

On the embedded demo model, with the concepts that ship, at their recommended bias and temperature. For every weight:
the similarity and the gate at the word, what the values hold of the learned target o_V and the keys of the superclass
(their component along it, mean over layers, 1 = all of it), and how like the thing the pictures look. Prints a
Markdown table for each thing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "demo"))

from candidates import thing_tensors  # noqa: E402
from host import load_pack, use_comfyui  # noqa: E402
from PIL import Image  # noqa: E402
from recogniser import load_recogniser  # noqa: E402

WEIGHTS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
PICTURE_WEIGHTS = (0.0, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5)
PROMPT = "a photo of a ({}:{:g}) on the beach"


def at_the_word(model: Any, clip: Any, gated: Any, prompt: str) -> dict[str, float]:
    """Return similarity, gate, and the parts of o_V in the values and of the locked key in the keys, at the word."""
    from perfusion_pack.nodes.host.cross_attention import cross_attention_layers
    from perfusion_pack.nodes.host.text_encoders import word_positions
    from perfusion_pack.perfusion_core.edit import add_value_targets, edit_encoding

    concept = gated.concept
    tokens = clip.tokenize(prompt)
    position = word_positions(tokens, concept.word)[0]
    edited = edit_encoding(clip.encode_from_tokens(tokens), [gated.edit()])
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
        "keys along the locked key": sum(keys) / len(keys),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--things", nargs="+", default=["hugsy", "sippy"])
    parser.add_argument("--pictures", type=int, default=6, help="pictures for each weight; 0 = none")
    parser.add_argument("--sheet", type=Path, help="draw the first pictures of each thing into this file")
    arguments = parser.parse_args()
    use_comfyui()
    load_pack()
    from perfusion_pack.demo.load import load_demo_model
    from perfusion_pack.nodes.host.concept_words import add_words
    from perfusion_pack.nodes.host.gate_patch import apply_concepts
    from perfusion_pack.nodes.host.sampling import sample_pictures
    from perfusion_pack.perfusion_core.concept import GatedConcept
    from perfusion_pack.perfusion_core.concept_file import load_concept

    model, clip, vae = load_demo_model()
    recogniser = load_recogniser()
    sheet = Image.new("RGB", (128 * len(PICTURE_WEIGHTS), 128 * len(arguments.things)))
    for row, thing in enumerate(arguments.things):
        concept = load_concept(REPOSITORY / "demo" / "concepts" / f"demo_{thing}.safetensors")
        gated = GatedConcept(concept, concept.bias, concept.temperature)
        spoken, patched = add_words(clip, (gated,)), apply_concepts(model, (gated,))
        references, masks = thing_tensors(thing)
        print(f"\n{thing}, bias {concept.bias:g}, temperature {concept.temperature:g}\n")
        print("| weight | similarity | gate | values along o_V | keys along the locked key | look | colours |")
        print("| ---: |" + " ---: |" * 6)
        for weight in WEIGHTS:
            prompt = PROMPT.format(concept.word, weight)
            cells = [f"{number:.3f}" for number in at_the_word(model, spoken, gated, prompt).values()]
            if arguments.pictures and weight in PICTURE_WEIGHTS:
                shape = (4, 16, 16)
                painted = sample_pictures(patched, spoken, vae, [prompt] * arguments.pictures, shape, seed=100)
                like = recogniser.likeness(painted.float().cpu(), references, masks)
                cells += [f"{float(like.look.mean()):.3f}", f"{float(like.colours.mean()):.3f}"]
                picture = Image.fromarray((painted[0].float().cpu().numpy() * 255).round().astype("uint8"))
                sheet.paste(picture, (128 * PICTURE_WEIGHTS.index(weight), 128 * row))
            print(f"| {weight:.1f} | " + " | ".join([*cells, "", ""][:6]) + " |", flush=True)
    if arguments.sheet:
        sheet.save(arguments.sheet, quality=88)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
