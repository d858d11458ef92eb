#!/usr/bin/env python3
"""What recording attention maps costs: steps of a MODEL with a concept, plain and recorded, taken in turn in one run.

    python benchmarks/attention_cost.py [--shapes sd15 sdxl] [--latent 32] [--rounds 10] [--output TABLE.md]

Models, steps and clock are those of `cost.py`: full width, random weights, cond and uncond in a batch of 2 of which the
positive row is watched; processor time of one thread on a CPU, wall time on a GPU.  Bar: a step <= 1.05 of the plain.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from cost import SHAPES, make_clip, make_model, make_stack, measure_steps

BAR = 1.05
UNETS = ("sd15", "sd15-shallow", "sdxl")  # of transformers no maps are recorded

EXPLAINED = """\
Written by `python benchmarks/attention_cost.py`. Steps of a MODEL with a concept and of the same MODEL with its
attention maps recorded are taken in turn within one run, on the UNets of [cost](cost.md), *shallow* with one block at
each level instead of two; cond and uncond share a batch of 2, of which the positive row is watched. On a CPU one
thread, in processor time.

- **of the plain**: the middle one of the rounds' ratios, and the half of them around it; **shortest**: the shortest
  step over the shortest plain one.
- **maps**: memory of the maps of one picture, in how many tenths of a run."""


def measure(shape: str, arguments: argparse.Namespace) -> tuple[str, float]:
    """The table's row for one shape, and the ratio that is judged."""
    from perfusion_pack.nodes.host.attention.recording import record_attention
    from perfusion_pack.nodes.host.gate.patch import apply_concepts

    model, width = make_model(shape, arguments.smallest), SHAPES[shape][1]["context_dim"]
    plain = apply_concepts(model, make_stack(model, 1, width, make_clip(shape)))
    recording, recorded = record_attention(plain)
    times = measure_steps([plain, recording], width, arguments.latent, arguments.rounds)["later"]
    ratios = sorted(mine / base for base, mine in zip(*times, strict=True))
    quarter = len(ratios) // 4
    middle, shortest = statistics.median(ratios), min(times[1]) / min(times[0])
    row = (
        f"| {shape} | {statistics.median(times[0]):.3f} | {middle:.3f} | {ratios[quarter]:.3f} to"
        f" {ratios[-1 - quarter]:.3f} | {shortest:.3f} | {recorded.record.nbytes() / 1e6:.2f} MB in"
        f" {len(recorded.record.parts())} |"
    )
    print(row, flush=True)
    return row, middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="try everything on tiny UNets, with few rounds")
    parser.add_argument("--shapes", nargs="+", choices=UNETS, default=("sd15", "sdxl"))
    parser.add_argument("--latent", type=int, default=32, help="side of the latent, a multiple of 8 (32 is 256 px)")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each that are measured")
    parser.add_argument("--output", type=Path, help="write the table into this file too")
    arguments = parser.parse_args()

    from open_pack import open_pack

    open_pack()
    import comfy.model_management
    import torch

    torch.set_num_threads(1)
    device = comfy.model_management.get_torch_device_name(comfy.model_management.get_torch_device())
    head = [
        f"{device}, latent {arguments.latent} x {arguments.latent}, batch 2, {arguments.rounds} rounds"
        + (", SMALLEST: these numbers mean nothing" if arguments.smallest else ""),
        "",
        "| UNet | plain step, s | of the plain | middle half | shortest | maps |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(head), flush=True)
    with torch.inference_mode():
        measured = {shape: measure(shape, arguments) for shape in arguments.shapes}
    judged = [
        f"- {shape}: {ratio:.3f}, wanted at most {BAR:g}: {'met' if ratio <= BAR else '**missed**'}"
        for shape, (_, ratio) in measured.items()
    ]
    print("", *judged, sep="\n")
    if arguments.output:
        lines = ["# What recording attention maps costs", "", EXPLAINED, "", *head]
        lines += [*(row for row, _ in measured.values()), "", *judged]
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
