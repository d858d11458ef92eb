#!/usr/bin/env python3
"""What the patch costs: steps with 0, 1, 2, 4 and 8 concepts taken in turn within one run, as one Markdown table.

    python benchmarks/cost.py [--smallest] [--shapes sd15 sdxl anima] [--latent 32] [--rounds 10] [--output TABLE.md]

Needs the environment of a ComfyUI (COMFYUI_PATH, or ~/comfy/ComfyUI), 6 GB of memory and ten minutes of a machine that
does nothing else. The networks are SD1.5's, SDXL's with two transformer blocks where it has ten, and Anima's with 2 of
its 28, of full width, with random weights; cond and uncond share a batch of 2. One thread on the CPU, in its own time.

Bars: a step <= 1.00 of the base's with 1 concept, <= 1.01 with 8; putting concepts on MODEL and CLIP <= 20 ms, which is
what changing a bias takes too; peak memory of a run, weights included, <= 1 % more.
`--smallest` tries everything in a minute on networks of a fifth of the width; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cost_shapes import ANIMA, SHAPES

COUNTS = (0, 1, 2, 4, 8)

# What is wanted: a step in units of the base's, by number of concepts; milliseconds; memory in units of the base's.
STEP_BARS = {1: 1.00, 8: 1.01}
APPLYING_BAR = 20
MEMORY_BAR = 1.01

EXPLAINED = """\
Written by `python benchmarks/cost.py --output benchmarks/cost.md`. Steps of the base and of the same MODEL with
concepts are taken in turn within one run, on networks of SD1.5's shape, of SDXL's with two transformer blocks where it
has ten, and of Anima's with 2 blocks of its 28, at full width, filled at random; cond and uncond share a batch of 2. On
a CPU one thread, in processor time.

- **of the base's**: the middle one of the rounds' ratios, and the half of them around it; **shortest**: the shortest
  step over the shortest of the base. Below 1 because keys and values of a prompt are projected once, not in every step.
- **first step**: with the edits and the projections that later steps reuse, in units of a later step of the base.
- **applying**: the concepts put on MODEL and CLIP, as also a change of bias does. No weight is read or moved.
- **peak memory** of a run, weights included, in a process of its own."""


def text_width(shape: str) -> int:
    """Width of the text as the cross-attention layers get it."""
    return SHAPES[shape][1].get("context_dim", ANIMA["crossattn_emb_channels"])


def channels(shape: str, smallest: bool) -> int:
    """Width of the network."""
    small, full = (256, 2048) if shape == "anima" else (64, 320)
    return small if smallest else full


def fill(module: Any, seed: int) -> None:
    """Fill every parameter with random numbers that keep activations of ordinary size."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            noise *= parameter[0].numel() ** -0.5
        else:
            noise = noise * 0.02 + (1.0 if name.endswith("weight") else 0.0)
        parameter.data.copy_(noise)


def make_model(shape: str, smallest: bool) -> Any:
    """Return a MODEL of the shape with random weights that keep activations of ordinary size."""
    import comfy.model_management
    import comfy.supported_models
    import torch
    from perfusion_pack.nodes.host.old_hosts import core_patcher

    family, unet_config = SHAPES[shape]
    config = getattr(comfy.supported_models, family)({**unet_config, "model_channels": channels(shape, smallest)})
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    config.set_inference_dtype(torch.float32 if device.type == "cpu" else torch.float16, None)
    base = config.get_model({}, "", device=offload)
    fill(base.diffusion_model, 0)
    return core_patcher()(base, load_device=device, offload_device=offload)


def make_clip(shape: str) -> Any:
    """Return a CLIP with the true tokenizers of the shape; its encoders are tiny, as none of them runs here."""
    from tiny_models import tiny_clip, tiny_sdxl_clip

    if shape == "anima":
        from tiny_transformers import tiny_anima_clip

        return tiny_anima_clip()
    return tiny_sdxl_clip() if shape == "sdxl" else tiny_clip()


def make_stack(model: Any, count: int, width: int, clip: Any) -> tuple:
    """Return that many concepts with random target inputs, each for a token of its own in `make_conditioning`."""
    import torch
    from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
    from perfusion_pack.nodes.host.text.encoders import text_encoders
    from perfusion_pack.perfusion_core.concept import Concept, GatedConcept

    vectors = {key: torch.ones(1, encoder.width) for key, encoder in text_encoders(clip).items()}

    encodings = make_conditioning(width, 1)[0][0][0]
    layers = cross_attention_layers(model.model.diffusion_model, width)
    stack = []
    for index in range(count):
        target_input = encodings[4 + index].clone()
        concept = Concept(
            word=f"<c{index}>",
            superclass="dog",
            base_model="sd1",
            encoding_width=width,
            clip_layer=None,
            form="unlocked",
            bias=0.85,
            temperature=0.15,
            statistics_hash="0",
            training={},
            target_input=target_input,
            inverse_target_input=target_input / target_input.square().sum(),
            superclass_encoding=encodings[40 + index].clone(),
            word_vectors=vectors,
            superclass_vectors=vectors,
            value_targets={name: torch.ones(layer.to_v.out_features) * 0.1 for name, layer in layers.items()},
        )
        stack.append(GatedConcept(concept, 0.85, 0.15))
    return tuple(stack)


def make_conditioning(width: int, seed: int) -> list:
    """Return the random encoding of one prompt as stock nodes hand it on."""
    import torch

    encoding = torch.randn(1, 77, width, generator=torch.Generator().manual_seed(seed))
    return [[encoding, {"pooled_output": encoding[:, 0, :1280]}]]


def with_steps(models: list, width: int, latent: int, then: Callable, steps: tuple = ()) -> None:
    """Call `then` with one function for each MODEL that takes a step of a sampling run of it.

    All runs are open at the same time, one inside the other, so that their steps can be taken in turn.
    """
    import comfy.sample
    import comfy.samplers
    import torch

    if not models:
        then(steps)
        return

    class OpenRun(comfy.samplers.Sampler):
        def sample(self, model, sigmas, extra_args, callback, noise, *args: Any, **kwargs: Any) -> Any:
            options = {key: extra_args[key] for key in ("model_options", "seed")}

            def step(index: int) -> None:
                model(noise * sigmas[index], sigmas[index : index + 1], **options)

            with_steps(models[1:], width, latent, then, (*steps, step))
            return noise

    guider = comfy.samplers.CFGGuider(models[0])
    guider.set_conds(make_conditioning(width, 1), make_conditioning(width, 2))
    guider.set_cfg(5.0)
    form = models[0].model.latent_format
    empty = torch.zeros(1, form.latent_channels, *(1,) * (form.latent_dimensions - 2), latent, latent)
    sigmas = comfy.samplers.calculate_sigmas(models[0].get_model_object("model_sampling"), "normal", 50)
    guider.sample(comfy.sample.prepare_noise(empty, 7), empty, OpenRun(), sigmas, disable_pbar=True, seed=7)


def clock() -> float:
    """Return processor time in seconds, or wall time once the GPU has done its work."""
    import comfy.model_management
    import torch

    if comfy.model_management.get_torch_device().type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure_steps(models: list, width: int, latent: int, rounds: int) -> dict[str, list[list[float]]]:
    """Return seconds of every MODEL's first step and of its later ones, [model][round]."""
    times: dict[str, list[list[float]]] = {"first": [[] for _ in models], "later": [[] for _ in models]}

    def alternate(steps: tuple) -> None:
        for round_ in range(rounds + 1):
            order = [(index + round_) % len(steps) for index in range(len(steps))]
            for index in order:
                started = clock()
                steps[index](round_)
                times["later" if round_ else "first"][index].append(clock() - started)

    with_steps(models, width, latent, alternate)
    return times


def measure_apply(model: Any, clip: Any, stack: tuple) -> float:
    """Return milliseconds for putting the concepts on MODEL and CLIP, the middle one of nine tries."""
    from perfusion_pack.nodes.host.gate.patch import apply_concepts
    from perfusion_pack.nodes.host.text.words import add_words

    seconds = []
    for _ in range(9):
        started = clock()
        apply_concepts(model, stack)
        add_words(clip, stack)
        seconds.append(clock() - started)
    return statistics.median(seconds) * 1000


def peak_memory(shape: str, count: int, arguments: argparse.Namespace) -> float:
    """Return the peak of memory in bytes over a short run in a process of its own: of the GPU, or of the process."""
    command = [sys.executable, __file__, "--memory-of", shape, str(count), "--latent", str(arguments.latent)]
    done = subprocess.run([*command, *(["--smallest"] if arguments.smallest else [])], capture_output=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak_memory(shape: str, count: int, arguments: argparse.Namespace) -> None:
    import comfy.model_management
    import torch
    from perfusion_pack.nodes.host.gate.patch import apply_concepts

    model, width = make_model(shape, arguments.smallest), text_width(shape)
    model = apply_concepts(model, make_stack(model, count, width, make_clip(shape)))
    on_gpu = comfy.model_management.get_torch_device().type == "cuda"
    if not on_gpu:
        forget_peak()  # making the model may have taken more than a run does
    with_steps([model], width, arguments.latent, lambda steps: [steps[0](index) for index in range(3)])
    print(torch.cuda.max_memory_allocated() if on_gpu else resident_peak())


def forget_peak() -> None:
    """Let Linux count the peak of this process anew; elsewhere it cannot be forgotten."""
    gc.collect()
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> int:
    """Return bytes of this process in Linux' own count: VmRSS for those at present, VmHWM for the most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def resident_peak() -> int:
    """Return the peak of this process' memory in bytes."""
    if sys.platform == "linux":
        return resident("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


class Row(NamedTuple):
    """One line of the table. Ratios are to the base in the same run; peak_memory only where it was measured."""

    shape: str
    concepts: int
    seconds: float
    ratio: float
    middle_half: tuple[float, float]
    shortest: float
    first: float
    applying_ms: float
    peak_memory: float | None

    def __str__(self) -> str:
        low, high = self.middle_half
        memory = "" if self.peak_memory is None else f"{self.peak_memory:.4f}"
        return (
            f"| {self.shape} | {self.concepts} | {self.seconds:.3f} | {self.ratio:.3f} | {low:.3f} to {high:.3f}"
            f" | {self.shortest:.3f} | {self.first:.3f} | {self.applying_ms:.1f} | {memory} |"
        )


def measure(shape: str, arguments: argparse.Namespace) -> list[Row]:
    """Return the table's rows for one shape, and print each."""
    from perfusion_pack.nodes.host.gate.patch import apply_concepts

    # In processes of their own, before this one takes its share.
    memory = {count: peak_memory(shape, count, arguments) for count in (COUNTS[0], COUNTS[-1])}
    model, clip, width = make_model(shape, arguments.smallest), make_clip(shape), text_width(shape)
    stacks = [make_stack(model, count, width, clip) for count in COUNTS]
    times = measure_steps([apply_concepts(model, stack) for stack in stacks], width, arguments.latent, arguments.rounds)
    base = times["later"][0]
    rows = []
    for index, count in enumerate(COUNTS):
        mine = times["later"][index]
        ratios = sorted(one / other for one, other in zip(mine, base, strict=True))
        quarter = len(ratios) // 4
        rows.append(
            Row(
                shape=shape,
                concepts=count,
                seconds=statistics.median(mine),
                ratio=statistics.median(ratios),
                middle_half=(ratios[quarter], ratios[-1 - quarter]),
                shortest=min(mine) / min(base),
                first=times["first"][index][0] / statistics.median(base),
                applying_ms=measure_apply(model, clip, stacks[index]) if count else 0.0,
                peak_memory=memory[count] / memory[0] if count in memory else None,
            )
        )
        print(rows[-1], flush=True)
    return rows


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Return a line for each bar: what was wanted, what was found."""
    found = [
        (f"a step, concepts: {row.concepts}, {row.shape}", row.ratio, STEP_BARS[row.concepts])
        for row in rows
        if row.concepts in STEP_BARS
    ]
    found.append(("putting concepts on MODEL and CLIP, ms", max(row.applying_ms for row in rows), APPLYING_BAR))
    found += [
        (f"peak memory, concepts: {row.concepts}, {row.shape}", row.peak_memory, MEMORY_BAR)
        for row in rows
        if row.concepts and row.peak_memory is not None
    ]
    return [
        f"- {name}: {number:.4f}, wanted at most {bar:g}: {'met' if number <= bar else '**missed**'}"
        for name, number, bar in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="try everything on tiny networks, with few rounds")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["sd15", "sdxl", "anima"])
    parser.add_argument("--latent", type=int, help="side of the latent, a multiple of 8 (32 is 256 px)")
    parser.add_argument("--rounds", type=int, help="steps of every model that are measured")
    parser.add_argument("--output", type=Path, help="write the table into this file too")
    parser.add_argument("--memory-of", nargs=2, metavar=("SHAPE", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.latent = arguments.latent or (8 if arguments.smallest else 32)
    arguments.rounds = arguments.rounds or (3 if arguments.smallest else 10)

    from open_pack import open_pack

    open_pack()
    import comfy.model_management
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        if arguments.memory_of:
            print_peak_memory(arguments.memory_of[0], int(arguments.memory_of[1]), arguments)
            return
        device = comfy.model_management.get_torch_device_name(comfy.model_management.get_torch_device())
        head = [
            f"{device}, latent {arguments.latent} x {arguments.latent}, batch 2, {arguments.rounds} rounds"
            + (", SMALLEST: these numbers mean nothing" if arguments.smallest else ""),
            "",
            "| network | concepts | step, s | of the base's | middle half | shortest, of the base's"
            " | first step, of the base's | applying, ms | peak memory, of the base's |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        print("\n".join(head), flush=True)
        rows = [row for shape in arguments.shapes for row in measure(shape, arguments)]
        judged = verdicts(rows)
        print("", *judged, sep="\n")
    if arguments.output:
        lines = ["# What concepts cost", "", EXPLAINED, "", *head, *map(str, rows), "", *judged]
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
