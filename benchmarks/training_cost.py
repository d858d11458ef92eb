#!/usr/bin/env python3
"""What a training step costs beside one of the host's own Train LoRA node, taken in turn in one run, as Markdown.

    python benchmarks/training_cost.py [--smallest] [--pictures 1 4] [--latent 32] [--rounds 5] [--output TABLE.md]

Both sides are the real thing: `TrainingJob` with its text encoder and its default settings, and `TrainLoraNode` with
the defaults of its schema (rank 8, bf16, gradient checkpointing), as it is and in bypass mode. They train the same UNet
of SD1.5's structure with random weights. "Like ours" is the node in the model's own float32 and without checkpointing,
which is no bar and is there because a CPU is not equally fast at bf16.

Time is processor time of one thread on a CPU, wall time on a GPU; every call makes one step more than are counted, the
first. Memory is the most that a process of its own held above what it held with the models loaded: of the GPU, or
resident on Linux, where freed tensors are given back at once for the purpose. The second copy of the model that the
node loads shares its weights with the first here, so it counts neither way.

With `--smallest` everything is tried on a tiny UNet; its numbers mean nothing. On a GPU the UNet is
bf16, the latents are those of 512 px, and two lines more tell what the preset Paper's 400 steps of 16 take, all of them
made (`--paper-steps` makes fewer, which the line then says), and the least memory of a step.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from cost import clock, forget_peak, resident  # noqa: E402
from random_sd15 import CONTEXT, make_clip, make_model  # noqa: E402

OURS, FORWARD = "ours", "forward"
FLOAT32 = {"training_dtype": "fp32", "lora_dtype": "fp32", "gradient_checkpointing": False}
NODES: dict[str, dict[str, Any]] = {
    "Train LoRA": {},
    "Train LoRA, bypass": {"bypass_mode": True},
    "Train LoRA, like ours": FLOAT32,
    "Train LoRA, bypass, like ours": {"bypass_mode": True, **FLOAT32},
}
TIME_BARS = {"Train LoRA": 0.25, "Train LoRA, bypass": 0.90, FORWARD: 2.05}
MEMORY_BARS = {"Train LoRA": 0.6, "Train LoRA, bypass": 0.9}
TEXT_ENCODER_BAR = 0.05
PICTURES = 5  # to train on; a step draws from them


def run_ours(
    model: Any,
    clip: Any,
    pictures: int,
    latent: int,
    steps: int,
    on_step: Callable,
    gradient_checkpointing: bool = False,
    settings: Any = None,
) -> Any:
    """Train a concept for so many steps and return the result; the VAE stands aside, since it encodes the pictures
    once, before the steps.  settings: of the training; otherwise the default ones, without validations."""
    import torch
    from perfusion_pack.nodes.host.training.job import TrainingJob
    from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
    from perfusion_pack.perfusion_core.text_statistics import TextStatistics
    from perfusion_pack.perfusion_core.training import TrainingSettings

    draw = torch.Generator().manual_seed(2)
    latents = torch.randn(PICTURES, 4, latent, latent, generator=draw)
    images, masks = (torch.rand(PICTURES, 8 * latent, 8 * latent, *last, generator=draw) for last in ((3,), ()))
    vae = SimpleNamespace(downscale_ratio=8, encode=lambda _images: latents)
    request = TrainingRequest(
        model=model,
        clip=clip,
        vae=vae,
        images=images,
        masks=masks,
        word="<hugsy>",
        superclass="teddy",
        settings=settings or TrainingSettings(steps=steps, batch_size=pictures, validate_every=0),
        statistics=TextStatistics(torch.eye(CONTEXT), torch.eye(CONTEXT), 0.0, "random", 1),
        gradient_checkpointing=gradient_checkpointing,
    )
    return TrainingJob(request, TrainingHooks(lambda _report: on_step())).train()


def run_node(
    model: Any, changes: dict[str, Any], pictures: int, latent: int, steps: int, on_step: Callable,
    batch: Any = None, positive: Any = None,
) -> None:  # fmt: skip
    """Run the host's Train LoRA node for so many steps with the defaults of its schema and these changes.

    batch: latents, and positive: their conditioning; otherwise random ones of SD1.5's shape."""
    import comfy.utils
    import torch
    from comfy_extras.nodes_train import TrainLoraNode

    draw = torch.Generator().manual_seed(2)
    inputs = {entry.id: getattr(entry, "default", None) for entry in TrainLoraNode.define_schema().inputs}
    batch = torch.randn(PICTURES, 4, latent, latent, generator=draw) if batch is None else batch
    inputs |= {
        "model": model,
        "positive": positive or [[torch.randn(1, 77, CONTEXT, generator=draw), {}]],
        "batch_size": pictures,
        "steps": steps,
        **changes,
    }
    before = comfy.utils.PROGRESS_BAR_HOOK, comfy.utils.PROGRESS_BAR_ENABLED
    comfy.utils.set_progress_bar_global_hook(lambda *_progress, **_more: on_step())
    comfy.utils.set_progress_bar_enabled(False)
    try:
        lists = {name: [value] for name, value in inputs.items()}
        # One by one: hosts of 0.3.75's age fail on a single batch.
        lists["latents"] = [{"samples": picture} for picture in batch.split(1)]
        TrainLoraNode.execute(**lists)
    finally:
        comfy.utils.set_progress_bar_global_hook(before[0])
        comfy.utils.set_progress_bar_enabled(before[1])


def run_forwards(model: Any, pictures: int, latent: int, steps: int, on_step: Callable) -> None:
    """Predict without gradients, as often as the others make steps."""
    import comfy.model_management
    import torch
    from comfy.ldm.modules.attention import attention_pytorch

    comfy.model_management.load_models_gpu([model], force_full_load=True)
    draw, device = torch.Generator().manual_seed(3), model.load_device
    context = torch.randn(pictures, 77, CONTEXT, generator=draw).to(device)
    noisy = torch.randn(pictures, 4, latent, latent, generator=draw).to(device)
    sigma = torch.ones(pictures, device=device)
    options = {"optimized_attention_override": lambda _function, *args, **more: attention_pytorch(*args, **more)}
    with torch.inference_mode(False), torch.no_grad():
        for _ in range(steps):
            model.model.apply_model(noisy, sigma, c_crossattn=context, transformer_options=options)
            on_step()


@contextmanager
def text_encoder_clock(seconds: list[float]) -> Iterator[None]:
    """Note the text encoder's time in our training, forward and backward of each call, while the block is open.

    Backward it is the last: it begins with the gradient of its output and ends with that of the word's vectors.
    """
    from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask

    encode = HostDenoisingTask.encode

    def timed(task: Any, word_vectors: Any, templates: Any) -> Any:
        started = clock()
        encodings, positions = encode(task, word_vectors, templates)
        forward = clock() - started
        if encodings.requires_grad:
            begun: list[float] = []

            def ended(_vectors: Any) -> None:
                seconds.append(forward + clock() - begun.pop())
                handle.remove()

            encodings.register_hook(lambda _gradient: begun.append(clock()))
            handle = next(iter(word_vectors.values())).register_post_accumulate_grad_hook(ended)
        return encodings, positions

    with mock.patch.object(HostDenoisingTask, "encode", timed):
        yield


def run(name: str, model: Any, clip: Any, pictures: int, latent: int, steps: int, on_step: Callable) -> None:
    """Run one of the sides."""
    if name == OURS:
        run_ours(model, clip, pictures, latent, steps, on_step)
    elif name == FORWARD:
        run_forwards(model, pictures, latent, steps, on_step)
    else:
        run_node(model, NODES[name], pictures, latent, steps, on_step)


def step_seconds(run_side: Callable[[Callable], None]) -> list[float]:
    """Seconds of every step but the first of what `run_side` runs, which is given the function to call after a step."""
    marks: list[float] = []
    run_side(lambda: marks.append(clock()))
    gc.collect()
    return [after - before for before, after in zip(marks[:-1], marks[1:], strict=True)]


def measure_times(model: Any, clip: Any, sides: list[str], pictures: int, arguments: Any) -> dict[str, list[float]]:
    """Seconds of a step by side, the middle one of each round; and the text encoder's, under "text encoder"."""
    times: dict[str, list[float]] = {name: [] for name in (*sides, "text encoder")}
    for round_ in range(arguments.rounds):
        order = [sides[(index + round_) % len(sides)] for index in range(len(sides))]
        for name in order:
            encoder: list[float] = []
            with text_encoder_clock(encoder):
                seconds = step_seconds(
                    lambda on_step, side=name: run(
                        side, model, clip, pictures, arguments.latent, arguments.steps + 1, on_step
                    )
                )
            times[name].append(statistics.median(seconds))
            if name == OURS:
                times["text encoder"].append(statistics.median(encoder[1:]))
        print(
            f"round {round_ + 1}: " + ", ".join(f"{name} {seconds[-1]:.2f} s" for name, seconds in times.items()),
            file=sys.stderr,
            flush=True,
        )
    return times


def peak_above(action: Callable[[], None]) -> int:
    """The most bytes held during the action, above those held before it."""
    import comfy.model_management
    import torch

    gc.collect()
    if comfy.model_management.get_torch_device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    forget_peak()
    before = resident("VmRSS")
    action()
    return resident("VmHWM") - before


def memory_of(name: str, pictures: int, arguments: Any) -> float:
    """Peak memory of two steps of one side in GB, above the loaded models, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, str(pictures), "--latent", str(arguments.latent)]
    command += ["--smallest"] if arguments.smallest else []
    # A fixed threshold: otherwise glibc keeps what was freed, for later, and more and more of it.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1])) / 1e9


def print_memory_of(name: str, pictures: int, arguments: Any) -> None:
    import comfy.model_management
    import torch
    from perfusion_pack.nodes.host.training.autograd import make_differentiable

    model, clip = make_model(arguments.smallest), make_clip(arguments.smallest)
    comfy.model_management.load_models_gpu([model, clip.patcher], force_full_load=True)
    with torch.inference_mode(False):
        make_differentiable(clip.cond_stage_model)
        make_differentiable(model.model)
    print(peak_above(lambda: run(name, model, clip, pictures, arguments.latent, 2, lambda: None)))


def row(pictures: Any, what: str, ours: str, theirs: str, ratios: list[float], bar: float | None) -> str:
    """A line of the table; the ratio is the middle one."""
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}" if len(ratios) > 1 else ""
    verdict = "" if bar is None else "met" if ratio <= bar else "MISSED"
    return (
        f"| {pictures} | {what} | {ours} | {theirs} | {ratio:.3f} | {spread}"
        f" | {'' if bar is None else f'<= {bar:.2f}'} | {verdict} |"
    )


def time_rows(times: dict[str, list[float]], pictures: int) -> list[str]:
    """The table's lines about time."""

    def against(name: str, what: str, bar: float | None, numerator: str = OURS) -> str:
        ratios = [one / other for one, other in zip(times[numerator], times[name], strict=True)]
        ours, theirs = (f"{statistics.median(times[side]):.2f} s" for side in (numerator, name))
        return row(pictures, what, ours, theirs, ratios, bar)

    lines = [against(name, f"step / step of {name}", TIME_BARS.get(name)) for name in times if name in NODES]
    lines.append(against(FORWARD, "step / forward pass", TIME_BARS[FORWARD]))
    lines.append(against(OURS, "text encoder / step", TEXT_ENCODER_BAR, "text encoder"))
    return lines


def memory_rows(sides: list[str], pictures: int, memory: Callable[[str], float]) -> list[str]:
    """The table's lines about memory; `memory` gives a side's, in GB."""
    ours = memory(OURS)
    lines = []
    for name in (side for side in sides if side in NODES):
        theirs = memory(name)
        what = f"memory / memory of {name}"
        lines.append(row(pictures, what, f"{ours:.2f} GB", f"{theirs:.2f} GB", [ours / theirs], MEMORY_BARS.get(name)))
    return lines


def gpu_lines(model: Any, clip: Any, arguments: Any) -> list[str]:
    """Time and memory of the paper's training, and the least memory that a step takes."""
    import torch
    from perfusion_pack.nodes.training_settings import training_settings

    paper = training_settings("Paper", seed=0, flip=True, validate_every=25, custom={})
    made = dataclasses.replace(paper, steps=min(arguments.paper_steps, paper.steps))
    peaks, seconds = [], 0.0
    for settings, options in ((made, {}), (None, {"gradient_checkpointing": True})):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        started = clock()
        run_ours(model, clip, 1, arguments.latent, 2, lambda: None, settings=settings, **options)
        seconds = seconds or clock() - started
        peaks.append(torch.cuda.max_memory_allocated() / 1e9)
    total = f"{seconds:.0f} s in all" if made == paper else (
        f"{seconds * paper.steps / made.steps:.0f} s in all, EXTRAPOLATED from {made.steps} steps that took"
        f" {seconds:.1f} s"
    )  # fmt: skip
    return [
        f"- Preset Paper, {paper.steps} steps of {paper.batch_size * paper.accumulation} ({paper.batch_size} x"
        f" {paper.accumulation}), validations and checks included: {total} (aim 75 s), peak memory {peaks[0]:.2f} GB,"
        " models included.",
        f"- Least memory, one picture with gradient checkpointing, models included: {peaks[1]:.2f} GB (aim 6 GB).",
    ]


def sides_for(pictures: int, nodes: list[str]) -> list[str]:
    """The sides to measure; like ours only for one picture, since the node needs much memory for several in float32."""
    return [OURS, FORWARD, *(name for name in nodes if pictures == 1 or "like ours" not in name)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="try everything on a tiny UNet, with few rounds")
    parser.add_argument("--pictures", nargs="+", type=int, default=[1, 4], help="in a batch")
    parser.add_argument("--nodes", nargs="*", choices=NODES, default=list(NODES), help="the other sides")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="otherwise a GPU where there is one")
    parser.add_argument("--latent", type=int, help="side of the latent, a multiple of 8 (32 is 256 px)")
    parser.add_argument("--rounds", type=int, help="calls of every side")
    parser.add_argument("--steps", type=int, default=2, help="measured steps in a call")
    parser.add_argument(
        "--paper-steps", type=int, default=400, help="on a GPU: of preset Paper; of fewer than 400 the rest is inferred"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave the processes out that measure memory")
    parser.add_argument("--output", type=Path, help="write the table into this file too")
    parser.add_argument("--memory-of", nargs=2, metavar=("SIDE", "PICTURES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    from open_pack import open_pack

    open_pack()
    if arguments.device == "cpu":
        from comfy.cli_args import args

        args.cpu = True
    import comfy.model_management
    import torch

    device = comfy.model_management.get_torch_device()
    if arguments.device == "cuda" and device.type != "cuda":
        raise SystemExit("No GPU was found that torch can use.")
    on_cpu = device.type == "cpu"
    arguments.latent = arguments.latent or (8 if arguments.smallest else 32 if on_cpu else 64)
    arguments.rounds = arguments.rounds or (1 if arguments.smallest else 5)
    torch.set_num_threads(1)
    with torch.inference_mode():
        if arguments.memory_of:
            print_memory_of(arguments.memory_of[0], int(arguments.memory_of[1]), arguments)
            return
        model, clip = make_model(arguments.smallest), make_clip(arguments.smallest)
        lines = [
            f"{comfy.model_management.get_torch_device_name(device)}, {'one thread, ' if on_cpu else ''}"
            f"{8 * arguments.latent} px, {arguments.rounds} rounds of {arguments.steps} steps"
            + (", SMALLEST: these numbers mean nothing" if arguments.smallest else ""),
            "",
            "| pictures | what | ours | against | ratio, middle | lowest to highest | bar | |",
            "| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        print("\n".join(lines))
        for pictures in arguments.pictures:
            sides = sides_for(pictures, arguments.nodes)
            memory = {}
            if not arguments.no_memory:  # before the times: after them this process itself holds what torch freed
                memory = {name: memory_of(name, pictures, arguments) for name in sides if name != FORWARD}
            found = time_rows(measure_times(model, clip, sides, pictures, arguments), pictures)
            if memory:
                found += memory_rows(sides, pictures, memory.__getitem__)
            print("\n".join(found), flush=True)
            lines += found
        if not on_cpu:
            lines += ["", *gpu_lines(model, clip, arguments)]
            print("\n".join(lines[-3:]))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
