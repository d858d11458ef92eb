#!/usr/bin/env python3
"""What a training step of Anima holds in memory, against the host's Train LoRA node, as one Markdown table.

    python benchmarks/anima_training_memory.py [--width 2048] [--blocks 2] [--latent 32] [--output TABLE.md]

Counted, not measured: the bytes of all tensors made during two steps, for as long as they live, at their most; so
nothing of the machine's load is in it, and the models themselves are not. `TrainingJob` with its text encoder, and
`TrainLoraNode` with the defaults of its schema train the same Anima of few blocks, with its adapter at full width, from
the same prompt; weights are random. On ComfyUI 0.33.0 the node alone fails on Anima ("Trying to backward through
comfy_kitchen.rms_rope_split_half"), so it has torch's form of that kernel; its bypass mode fails all the same, on a
LoRA of an embedding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "host")]

from cost import ANIMA  # noqa: E402
from training_cost import MEMORY_BARS, run_node  # noqa: E402

TEXT_WIDTH, STEPS, PROMPT = 1024, 2, "a photo of a teddy"
NODE = "Train LoRA"


def make_model(width: int, blocks: int) -> Any:
    """A MODEL of Anima's class, whose copy, which the host's trainer makes, has modules of its own and the same
    weights: they are frozen."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    import torch
    from tiny_models import CPU, fill

    config = comfy.supported_models.Anima(
        {**ANIMA, "image_model": "anima", "model_channels": width, "num_blocks": blocks}
    )
    config.set_inference_dtype(torch.float32, None)
    base = comfy.model_base.Anima(config, device=CPU).requires_grad_(False)
    fill(base.diffusion_model, 0, 0.02)

    def copy(**_options: Any) -> Any:
        twin = comfy.model_base.Anima(config, device=torch.device("meta"))
        twin.diffusion_model.load_state_dict(base.diffusion_model.state_dict(), assign=True)
        for path, module in twin.diffusion_model.named_modules():
            module._buffers.update(base.diffusion_model.get_submodule(path)._buffers)
        return comfy.model_patcher.ModelPatcher(twin.requires_grad_(False), CPU, CPU)

    model = comfy.model_patcher.ModelPatcher(base, CPU, CPU)
    model.cached_patcher_init = (copy, ())
    return model


def make_clip() -> Any:
    """Qwen3 of full width, with 2 of its 28 layers."""
    import comfy.sd
    import comfy.supported_models_base
    import comfy.text_encoders.anima
    from tiny_models import fill

    texts = comfy.text_encoders.anima
    target = comfy.supported_models_base.ClipTarget(texts.AnimaTokenizer, texts.te())
    clip = comfy.sd.CLIP(target, model_options={"qwen3_06b_model_config": {"num_hidden_layers": 2}})
    fill(clip.cond_stage_model, 1, 0.02)
    return clip


def train_ours(model: Any, clip: Any, pictures: int, latent: int) -> None:
    """Two steps of a training of a concept, with the default settings of the trainer but for validations."""
    import torch
    from perfusion_pack.nodes.host.gate.refined_text import refined_text
    from perfusion_pack.nodes.host.text.statistics import encoder_hash
    from perfusion_pack.nodes.host.training.job import TrainingJob
    from perfusion_pack.nodes.host.training.request import TrainingRequest
    from perfusion_pack.perfusion_core.text_statistics import TextStatistics
    from perfusion_pack.perfusion_core.training import TrainingSettings
    from tiny_transformers import tiny_video_vae

    identity = torch.eye(TEXT_WIDTH)
    # At a rate that does something in two steps, without which a training does not end well.
    settings = TrainingSettings(steps=STEPS, batch_size=pictures, validate_every=0, value_learning_rate=0.2)
    request = TrainingRequest(
        model=model, clip=clip, vae=tiny_video_vae(), images=torch.rand(2, 8 * latent, 8 * latent, 3), word="<hugsy>",
        superclass="teddy", settings=settings,
        statistics=TextStatistics(identity, identity, 0.0, encoder_hash(clip, refined_text(model)), 1),
    )  # fmt: skip
    TrainingJob(request).train()


def kernel_in_torch() -> Any:
    """While it is open, the host's models use the differentiable form of the one kernel that stops Train LoRA."""
    import comfy.quant_ops
    from comfy_kitchen.backends import eager

    return mock.patch.object(comfy.quant_ops.ck, "rms_rope_split_half", eager.rms_rope_split_half)


def held(action: Callable[[], object]) -> int:
    """The most bytes of tensors made during an action that live at once."""
    from perfusion_pack.perfusion_core.live_memory import LiveMemory

    with LiveMemory() as memory:
        action()
    return memory.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=2048, help="of the blocks; Anima has 2048")
    parser.add_argument("--blocks", type=int, default=2, help="Anima has 28")
    parser.add_argument("--latent", type=int, default=32, help="side of the latent, a multiple of 2 (32 is 256 px)")
    parser.add_argument("--pictures", type=int, default=1, help="in a batch")
    parser.add_argument("--output", type=Path, help="write the table into this file too")
    arguments = parser.parse_args()
    from open_pack import open_pack

    open_pack()
    import torch
    from tiny_models import encode

    torch.set_num_threads(1)
    model, clip = make_model(arguments.width, arguments.blocks), make_clip()
    latents = torch.randn(2, 16, 1, arguments.latent, arguments.latent)
    with torch.inference_mode():
        positive = encode(clip, PROMPT)
        ours = held(lambda: train_ours(model, clip, arguments.pictures, arguments.latent))
        lines = [
            f"Width {arguments.width}, {arguments.blocks} blocks, {8 * arguments.latent} px, pictures in a batch:"
            f" {arguments.pictures}; a concept: {ours / 1e6:.0f} MB beyond the models.",
            "",
            "| against | MB beyond the models | ours, of it | bar | |",
            "| --- | ---: | ---: | ---: | --- |",
        ]
        print("\n".join(lines), flush=True)
        with kernel_in_torch():
            theirs = held(
                lambda: run_node(
                    model, {}, arguments.pictures, arguments.latent, STEPS, lambda: None, latents, positive
                )
            )
        bar, ratio = MEMORY_BARS[NODE], ours / theirs
        lines.append(
            f"| {NODE} | {theirs / 1e6:.0f} | {ratio:.3f} | <= {bar:.2f} | {'met' if ratio <= bar else 'MISSED'} |"
        )
        print(lines[-1], flush=True)
    if arguments.output:
        head = ["# What a training step of Anima holds", "", *__doc__.split("\n\n", 1)[1].splitlines()[2:], ""]
        arguments.output.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
