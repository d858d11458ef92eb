#!/usr/bin/env python3
"""How far the gate opens at a concept's word, by where the word stands in the prompt.

    python benchmarks/word_in_prompt.py [--concepts FILE ...] [--bias 0.85]

Encodes the 30 prompts of `perfusion_core/varied_prompts.py` with the embedded demo model's text encoder, and reads the
gate of the concepts that ship, at the temperature of their files: measured plainly, and against the word as it stands
in each prompt.  "Others": the widest gate at any other token of a prompt.  No picture is painted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

CONCEPTS = Path(__file__).resolve().parents[1] / "demo" / "concepts"


def measured(clip: Any, gated: Any) -> dict[str, tuple[float, float, float]]:
    """Lowest, middle and highest similarity and gate at the word over the prompts, and gate at the other tokens."""
    from perfusion_pack.nodes.host.gate.run import GateRun
    from perfusion_pack.nodes.host.text.encoders import word_positions
    from perfusion_pack.nodes.host.text.own_tokens import CONDITIONING_KEY, marks_of
    from perfusion_pack.nodes.host.text.words import add_words
    from perfusion_pack.perfusion_core.varied_prompts import VARIED_PROMPTS

    knowing = add_words(clip, (gated,))
    rows: dict[str, list[torch.Tensor]] = {}
    for prompt in VARIED_PROMPTS:
        tokens = knowing.tokenize(prompt.format(gated.concept.word))
        ((encoding, extra),) = knowing.encode_from_tokens_scheduled(tokens)
        own = torch.zeros(encoding.shape[1], dtype=torch.bool)
        own[word_positions(tokens, gated.concept.word)] = True
        for name, marks in (("plainly", {}), ("relative", marks_of([extra]))):
            assert name == "plainly" or CONDITIONING_KEY in extra
            edited = GateRun((gated,), False, False, marks).edited(encoding, (0,))
            if name == "plainly":
                rows.setdefault("similarity", []).append(edited.similarities[0, own, 0])
            rows.setdefault(f"gate, {name}", []).append(edited.gates[0, own, 0])
            rows.setdefault(f"others, {name}", []).append(edited.gates[0, ~own, 0].max()[None])
    return {name: spread(torch.cat(found)) for name, found in rows.items()}


def spread(found: torch.Tensor) -> tuple[float, float, float]:
    return found.min().item(), found.median().item(), found.max().item()


def table(rows: Sequence[tuple[str, dict[str, tuple[float, float, float]]]]) -> str:
    """As Markdown: the middle, and from the lowest to the highest."""
    names = list(rows[0][1])
    lines = ["| concept | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for concept, found in rows:
        cells = (f"{middle:.2f} ({low:.2f} to {high:.2f})" for low, middle, high in found.values())
        lines.append(f"| {concept} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure as the command line says; the host and the pack must be loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", nargs="+", type=Path, default=sorted(CONCEPTS.glob("*.safetensors")))
    parser.add_argument("--bias", type=float, default=0.85)
    arguments = parser.parse_args(words)
    from perfusion_pack.demo.load import load_demo_model
    from perfusion_pack.perfusion_core.concept import GatedConcept
    from perfusion_pack.perfusion_core.concept_file import load_concept

    rows = []
    with torch.inference_mode():
        _, clip, _ = load_demo_model()
        for path in arguments.concepts:
            concept = load_concept(path)
            found = measured(clip, GatedConcept(concept, arguments.bias, concept.temperature))
            rows.append((f"{concept.word}, {concept.form} ({path.stem})", found))
    print(table(rows))


if __name__ == "__main__":
    from open_pack import open_pack

    open_pack()
    main()
