"""What tests/host/test_on_a_gpu.py runs in a process of its own, since the tests' own process has its host on the CPU.

    python tests/host/gpu_training.py node|memory|least|standard FOLDER

Prints what was found as one line of JSON. FOLDER: for the concepts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "benchmarks"))

LATENT = 64  # 512 px
AIM = 6e9  # bytes in which a step of one picture must find room, the models included


def node(folder: str) -> dict[str, Any]:
    """The trainer node, with previews, a sample and gradient checkpointing, on a tiny model in bf16."""
    import folder_paths
    import torch
    from perfusion_pack.perfusion_core.concept_file import load_concept
    from perfusion_pack.perfusion_core.text_statistics import TextStatistics
    from random_sd15 import CONTEXT, make_clip, make_model
    from training_inputs import TrainingInputs, run_node, tiny_vae

    folder_paths.set_output_directory(folder)
    draw = torch.Generator().manual_seed(6)
    with torch.inference_mode():
        pictures, masks = torch.rand(3, 64, 64, 3, generator=draw), torch.ones(3, 64, 64)
        model, clip, vae = make_model(smallest=True), make_clip(smallest=True), tiny_vae()
        statistics = TextStatistics(torch.eye(CONTEXT), torch.eye(CONTEXT), 0.0, "random", 1)
    inputs = TrainingInputs(model, clip, vae, pictures, masks, statistics)
    before = _weights(inputs)
    stack, losses, _, path = run_node(inputs, steps=4, samples=1, preview_every=2, validate_every=2)
    checkpointed = run_node(inputs, steps=4, gradient_checkpointing=True, validate_every=2)
    concept = load_concept(path)
    weight = model.model.diffusion_model.out[2].weight
    return {
        "device": weight.device.type,
        "dtype": str(weight.dtype),
        "losses": losses["loss"],
        "checkpointed losses": checkpointed[1]["loss"],
        "file is socket": all(torch.equal(v.cpu(), concept.value_targets[n]) for n, v in _values(stack).items()),
        "models unchanged": before == _weights(inputs),
        "report": Path(path).with_suffix(".report.jpg").is_file(),
    }


def memory(_folder: str) -> dict[str, Any]:
    """A training of 16 pictures at a time where there is only room for fewer, for less than one, and for all again."""
    import torch
    from perfusion_pack.perfusion_core.errors import PerfusionError
    from random_sd15 import make_clip, make_model
    from training_cost import run_ours

    with torch.inference_mode():
        model, clip = make_model(smallest=True), make_clip(smallest=True)

        def learn(pictures: int) -> tuple[list[float], list[str], int]:
            """Losses, warnings, and the most memory that torch had taken."""
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            with _warnings() as said:
                losses = run_ours(model, clip, pictures, LATENT, 3, lambda: None).losses
            return losses, list(said), torch.cuda.max_memory_reserved()

        _, _, least = learn(1)
        free, _, most = learn(16)
        torch.cuda.empty_cache()
        held = torch.cuda.memory_reserved()
        with _room_for((least + most) // 2):
            narrow, said, _ = learn(16)
        refused = ""
        with _room_for(held + (least - held) // 4):
            try:
                learn(16)
            except PerfusionError as error:
                refused = str(error)
        again, _, _ = learn(16)
    return {"free": free, "narrow": narrow, "said": said, "refused": refused, "again": again}


def least(_folder: str) -> dict[str, Any]:
    """One picture of 512 px with gradient checkpointing on an SD1.5 with random weights, where there is no more room
    than the aim. The VAE stands aside: the host encodes with it before, and may move it away."""
    import torch
    from random_sd15 import make_clip, make_model
    from training_cost import run_ours

    with torch.inference_mode(), _room_for(int(AIM)):
        model, clip = make_model(smallest=False), make_clip(smallest=False)
        torch.cuda.reset_peak_memory_stats()
        with _warnings() as said:
            losses = run_ours(model, clip, 1, LATENT, 3, lambda: None, gradient_checkpointing=True).losses
    return {
        "losses": losses,
        "said": said,
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
    }


def standard(_folder: str) -> dict[str, Any]:
    """Preset Standard on SD1.5 and SDXL of full size with random weights in fp16, within 4 and 10 GB in all."""
    import comfy.model_management
    import torch
    from gpu import MODELS, make_clip, make_model, measured_training, within

    found = {}
    with torch.inference_mode():
        for family, (_, _, _, size) in MODELS.items():
            comfy.model_management.unload_all_models()
            with within(size), _warnings() as said:
                model, clip = make_model(family, "fp16", dry=False), make_clip(family, dry=False)
                result, given, taken, seconds = measured_training(family, model, clip, dry=False)
            found[family] = {
                "losses": result.losses,
                "plan": result.memory_plan.text(),
                "said": said,
                "size": size,
                "allocated": given,
                "reserved": taken,
                "seconds": seconds,
            }
            del model, clip
    return found


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """Let torch take no more than `size` bytes of the device; what it is refused is a real out of memory."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(size / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """The training's warnings that memory ran out."""
    said: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, handler = logging.getLogger("perfusion_pack.perfusion_core.training_run"), Note(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _values(stack: Any) -> dict[str, Any]:
    return stack[0].concept.value_targets


def _weights(inputs: Any) -> str:
    """Hash of every parameter and buffer of MODEL, CLIP and VAE."""
    import torch

    digest = hashlib.sha256()
    for module in (inputs.model.model, inputs.clip.cond_stage_model, inputs.vae.first_stage_model):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    from open_pack import open_pack

    open_pack()
    import utils.extra_config  # noqa: F401  first, as in main.py: nodes.py puts comfy/ with its utils.py before it

    action = {"node": node, "memory": memory, "least": least, "standard": standard}[sys.argv[1]]
    print(json.dumps(action(sys.argv[2])))


if __name__ == "__main__":
    main()
