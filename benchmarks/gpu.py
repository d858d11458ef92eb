#!/usr/bin/env python3
"""What a machine with a GPU runs first: trainings of full-size models with random weights, measured, as Markdown.

    python benchmarks/gpu.py [--minutes 8] [--output FILE] [--dry] [--parts NAME ...]

Needs the environment of a ComfyUI (COMFYUI_PATH, or ~/comfy/ComfyUI). Its parts, each in a process of its own:

    SD1.5, SDXL   preset Standard with the UNet held in bf16, fp8 and fp16, and within 4 and 10 GB in all: what the
                  trainer decided, peak memory, seconds of a step; steps of a sampler without and with the concept
    Train LoRA    a step beside one of the host's own trainer node (training_cost.py)
    dynamic VRAM  a training of the demo model through the real server, with the host's dynamic VRAM and without
    tests         those marked gpu
    compiled      the sampler's steps again, under torch.compile

A part for which no time is left is left out and said to be. `--dry` tries all of it on tiny models on a CPU; its
numbers mean nothing. The VAE stands aside: it encodes the pictures before the steps.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
sys.path.append(str(HERE))

from memory import SD15, SDXL, STORAGES  # noqa: E402  which also finds tests/host

GB = 1e9
PICTURES, STEPS, SAMPLER_STEPS = 5, 6, 8
# Class of the host, UNet, side of the latent, what all of a training must fit into.
MODELS = {"SD1.5": ("SD15", SD15, 64, 4 * GB), "SDXL": ("SDXL", SDXL, 128, 10 * GB)}
TINY = {
    "model_channels": 64, "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1], "transformer_depth_middle": 1,
}  # fmt: skip
TINY_CONTEXT = {
    "SD1.5": {"context_dim": 32},
    "SDXL": {"context_dim": 80, "adm_in_channels": 48 + 6 * 256},  # of the tiny text encoders
}
LORA = ["--pictures", "1", "4", "--rounds", "2", "--steps", "3", "--no-memory", "--paper-steps", "8"]
LORA += ["--nodes", "Train LoRA", "Train LoRA, bypass"]
DRY_LORA = ["--smallest", "--pictures", "1", "--rounds", "1", "--steps", "1", "--no-memory", "--nodes", "Train LoRA"]
DRY_LORA += ["--device", "cpu"]


def make_model(family: str, storage: str, dry: bool) -> Any:
    """A MODEL with random weights, held as it is said; in float32 where it is dry, or computed in that."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    kind, unet, _, _ = MODELS[family]
    stored, computed = (getattr(torch, name) for name in STORAGES[storage])
    if dry:
        computed = torch.float32
        stored = stored if storage == "fp8" else computed
    config = getattr(comfy.supported_models, kind)({**unet, **({**TINY, **TINY_CONTEXT[family]} if dry else {})})
    config.set_inference_dtype(stored, None if stored == computed else computed)
    device = comfy.model_management.get_torch_device()
    base = config.get_model({}, "", device=device)
    fill(base.diffusion_model, device)
    return comfy.model_patcher.ModelPatcher(base, device, comfy.model_management.unet_offload_device())


def make_clip(family: str, dry: bool) -> Any:
    """A CLIP with random weights, held in what the host holds it in."""
    import comfy.model_management
    import comfy.sd
    import comfy.sd1_clip
    import comfy.sdxl_clip
    from comfy.supported_models_base import ClipTarget

    if dry:
        from tiny_models import tiny_clip, tiny_sdxl_clip

        return tiny_sdxl_clip() if family == "SDXL" else tiny_clip()
    target = {
        "SD1.5": ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
        "SDXL": ClipTarget(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
    }[family]
    clip = comfy.sd.CLIP(target)
    fill(clip.cond_stage_model, comfy.model_management.get_torch_device())
    return clip


def fill(module: Any, device: Any) -> None:
    """Fill every parameter with random numbers, drawn on the device, that keep activations of ordinary size."""
    import torch

    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in module.named_parameters():
        if not parameter.is_floating_point():
            continue
        noise = torch.randn(parameter.shape, generator=generator, device=device)
        if parameter.dim() > 1:
            noise *= 0.02 if "embedding" in name else parameter[0].numel() ** -0.5
        else:
            noise = noise * 0.02 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        parameter.data.copy_(noise)


def train_standard(family: str, model: Any, clip: Any, dry: bool, on_step: Callable[[], None] = lambda: None) -> Any:
    """The result of a few steps of preset Standard."""
    import torch
    from perfusion_pack.nodes.host.text.encoders import text_encoders
    from perfusion_pack.nodes.host.training.job import TrainingJob
    from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
    from perfusion_pack.nodes.training_settings import training_settings
    from perfusion_pack.perfusion_core.text_statistics import TextStatistics

    side = 8 if dry else MODELS[family][2]
    draw = torch.Generator().manual_seed(2)
    latents = torch.randn(PICTURES, 4, side, side, generator=draw)
    images, masks = (torch.rand(PICTURES, 8 * side, 8 * side, *last, generator=draw) for last in ((3,), ()))
    width = sum(encoder.width for encoder in text_encoders(clip).values())
    settings = training_settings("Standard", 0, True, 25, {}, "sdxl" if family == "SDXL" else "sd1")
    request = TrainingRequest(
        model=model,
        clip=clip,
        vae=SimpleNamespace(downscale_ratio=8, encode=lambda _images: latents),
        images=images,
        masks=masks,
        word="<hugsy>",
        superclass="teddy",
        # So few steps change the model enough at ten times the rate; it costs the same.
        settings=dataclasses.replace(settings, steps=2 if dry else STEPS, relative_value_rate=0.3),
        statistics=TextStatistics(torch.eye(width), torch.eye(width), 0.0, "random", 1),
    )
    return TrainingJob(request, TrainingHooks(lambda _report: on_step())).train()


def measured_training(family: str, model: Any, clip: Any, dry: bool) -> tuple[Any, float, float, float]:
    """The result; the most bytes that torch gave out and had taken; and seconds of a step, the middle one."""
    import torch

    gc.collect()
    on_gpu = torch.cuda.is_available() and not dry
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    marks: list[float] = []
    result = train_standard(family, model, clip, dry, lambda: marks.append(time.perf_counter()))
    seconds = statistics.median(after - before for before, after in zip(marks[:-1], marks[1:], strict=True))
    peaks = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()) if on_gpu else (0, 0)
    return result, *peaks, seconds


@contextmanager
def within(size: float | None) -> Iterator[None]:
    """Let torch take no more than `size` bytes of the GPU, and the host know of no more."""
    import comfy.model_management
    import torch

    if size is None or not torch.cuda.is_available():
        yield
        return
    total, before = torch.cuda.mem_get_info()[1], comfy.model_management.EXTRA_RESERVED_VRAM
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, size / total))
    comfy.model_management.EXTRA_RESERVED_VRAM = max(before, total - size)
    try:
        yield
    finally:
        comfy.model_management.EXTRA_RESERVED_VRAM = before
        torch.cuda.set_per_process_memory_fraction(1.0)


def train_part(family: str, dry: bool) -> None:
    """Print how preset Standard does in every type and within little memory, and steps of a sampler."""
    import comfy.model_management

    limit = MODELS[family][3]
    print("| model | UNet held in | memory | what the trainer decided | given out, GB | taken, GB | seconds a step |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: |")
    clip, last = make_clip(family, dry), None
    for storage, size in [("bf16", None), ("fp8", None), ("fp16", None), ("fp16", limit)]:
        if size is None:
            last = None
            comfy.model_management.unload_all_models()
            gc.collect()
            last = make_model(family, storage, dry)
        with within(size):
            result, given, taken, seconds = measured_training(family, last, clip, dry)
        cells = [family, storage, "all" if size is None else f"{size / GB:.0f} GB", result.memory_plan.text()]
        cells += [f"{given / GB:.2f}", f"{taken / GB:.2f}", f"{seconds:.3f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{sampler_line(family, last, clip, result.concept, dry, None)}", flush=True)


def sampler_line(family: str, model: Any, clip: Any, concept: Any, dry: bool, backend: str | None) -> str:
    """Milliseconds of a sampler's step at batch 1 with CFG, without and with a concept.  backend: of torch.compile."""
    import comfy.sample
    import torch
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from perfusion_pack.nodes.host.gate.patch import apply_concepts
    from perfusion_pack.nodes.host.text.words import add_words
    from perfusion_pack.perfusion_core.concept import alone

    side = 8 if dry else MODELS[family][2]
    stack = alone(concept)
    spoken, told = add_words(clip, stack), []
    positive, negative = (
        spoken.encode_from_tokens_scheduled(spoken.tokenize(text)) for text in ("a photo of <hugsy> at sea", "")
    )
    for name, patched in (("without", model), ("with", apply_concepts(model, stack))):
        tried = patched.clone()
        if backend:
            set_torch_compile_wrapper(model=tried, backend=backend)
        noise, latent = torch.randn(1, 4, side, side), torch.zeros(1, 4, side, side)
        marks: list[float] = []
        started = time.perf_counter()
        for _ in range(2):  # the first makes what is made once
            marks.clear()
            comfy.sample.sample(
                tried, noise, SAMPLER_STEPS, 7.0, "euler", "normal", positive, negative, latent,
                callback=lambda *_, marks=marks: (synchronise(), marks.append(time.perf_counter())), disable_pbar=True,
            )  # fmt: skip
        each = statistics.median(after - before for before, after in zip(marks[:-1], marks[1:], strict=True))
        told.append(f"{1000 * each:.1f} ms {name} a concept ({time.perf_counter() - started:.0f} s in all)")
    return f"{family}, a step of a sampler{', compiled' if backend else ''}: {', '.join(told)}."


def synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compiled_part(dry: bool) -> None:
    """Print the sampler's steps under torch.compile: SD1.5's, and SDXL's where there is time."""
    import torch

    for family in MODELS:
        model, clip = make_model(family, "fp16", dry), make_clip(family, dry)
        concept = train_standard(family, model, clip, dry).concept
        print(sampler_line(family, model, clip, concept, dry, "eager" if dry else "inductor"), flush=True)
        torch._dynamo.reset()


def dynamic_part(dry: bool) -> None:
    """Print how long the real server takes for a training with dynamic VRAM, its default on NVIDIA, and without."""
    import folder_paths
    from perfusion_pack.demo.making import prompts
    from perfusion_pack.demo.making.queue_client import QueueClient
    from perfusion_pack.dev_tools.interpreters import Interpreter
    from perfusion_pack.dev_tools.server import running

    host = Path(folder_paths.base_path)
    off = "--disable-dynamic-vram"
    known = off.removeprefix("--") in (host / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    prompt = prompts.train_prompt("hugsy", preset="Custom", steps=2 if dry else 60, samples=1, preview_every=0)

    async def train(url: str) -> None:
        async with QueueClient(url) as client:
            await client.run(prompt, "train <hugsy>")

    for options in ([], [off]) if known else ([],):
        with tempfile.TemporaryDirectory() as folder:
            interpreter = Interpreter(Path(sys.executable), "cpu" if dry else "cuda", False)
            with running(host, interpreter, Path(folder), options=options) as server:
                asyncio.run(train(server.url))
                log = server.log.read_text(encoding="utf-8", errors="replace")
        dynamic = "on" if re.search(r"(?i)dynamicvram support detected and enabled", log) else "off"
        said = re.findall(r"Training <hugsy> with .*|Trained <hugsy> .*", log)
        print(f"- Options {options or 'none'}, dynamic VRAM {dynamic}: {' '.join(said)}", flush=True)


def tests_part(dry: bool) -> None:
    """Run the tests that are marked gpu, or collect them."""
    import folder_paths

    command = [sys.executable, str(REPOSITORY / "dev_tools" / "run_pytest.py"), "tests/host/test_on_a_gpu.py"]
    command += ["-q", "-p", "no:cacheprovider", *(["--collect-only"] if dry else ["-rs"])]
    environment = {**os.environ, "COMFYUI_PATH": folder_paths.base_path}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    print("\n".join(done.stdout.splitlines()[-30:]))
    raise SystemExit(done.returncode)


def lora_part(dry: bool) -> None:
    """Run training_cost.py."""
    command = [sys.executable, str(HERE / "training_cost.py"), *(DRY_LORA if dry else LORA)]
    raise SystemExit(subprocess.run(command).returncode)


PARTS: dict[str, Callable[[bool], None]] = {
    "SD1.5": lambda dry: train_part("SD1.5", dry),
    "SDXL": lambda dry: train_part("SDXL", dry),
    "Train LoRA": lora_part,
    "dynamic VRAM": dynamic_part,
    "tests": tests_part,
    "compiled": compiled_part,
}


def run_part(name: str, dry: bool) -> None:
    from open_pack import open_pack

    open_pack()
    import torch

    if dry:
        from comfy.cli_args import args

        args.cpu = True
    import utils.extra_config  # noqa: F401  first, as in main.py: nodes.py puts comfy/ with its utils.py before it

    with torch.inference_mode():  # as the host runs its nodes
        PARTS[name](dry)


def run_all(parts: list[str], dry: bool, seconds: float) -> tuple[str, bool]:
    """Run the parts within the time; returns what they printed, and whether none failed."""
    page, good, end = [f"# On {machine(dry)}"], True, time.monotonic() + seconds
    print(page[0], flush=True)
    for name in parts:
        left, started = end - time.monotonic(), time.monotonic()
        command = [sys.executable, __file__, "--part", name, *(["--dry"] if dry else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, left))
            said, failed = done.stdout, done.returncode != 0
            if failed:
                said += "\n**Failed**: " + "\n".join(done.stderr.splitlines()[-15:])
        except subprocess.TimeoutExpired as late:
            said, failed = (late.stdout or b"").decode(errors="replace") + "\n**No time was left for the rest.**", False
        good = good and not failed
        page.append(f"\n## {name}, {time.monotonic() - started:.0f} s\n\n{said.strip()}")
        print(page[-1], flush=True)
    return "\n".join(page) + "\n", good


def machine(dry: bool) -> str:
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() and not dry else "a CPU"
    return f"{where}, torch {torch.__version__}{', DRY: these numbers mean nothing' if dry else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="that all parts may take")
    parser.add_argument("--dry", action="store_true", help="try everything on a CPU, on tiny models")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, help="write what was found into this file too")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        run_part(arguments.part, arguments.dry)
        return
    import torch

    if not (arguments.dry or torch.cuda.is_available()):
        raise SystemExit("No GPU was found that torch.cuda knows (NVIDIA or ROCm); --dry tries the script on a CPU.")
    page, good = run_all(arguments.parts, arguments.dry, 60 * arguments.minutes)
    if arguments.output:
        arguments.output.write_text(page, encoding="utf-8")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
