#!/usr/bin/env python3
"""What a training needs in memory and arithmetic, counted for every family, as Markdown.

    python benchmarks/memory.py [--families "SD1.5, 512 px" ...] [--output benchmarks/memory.md]

Needs the environment of a ComfyUI (COMFYUI_PATH, or ~/comfy/ComfyUI) and nothing else: the tensors are fake ones that
have a shape and no content, so minutes and a laptop will do. UNets and text encoders have their full depth and run the
code of the trainer's forward and backward pass.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "host")]

from unet_shapes import SD15_UNET  # noqa: E402

OPERATIONS_A_SECOND = 80e12  # a guess for a fast consumer card
CARDS = (4, 6, 8, 10, 12, 16, 24)  # GB


def _clip(width: int, layers: int, heads: int, activation: str) -> dict[str, Any]:
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * width, "hidden_act": activation, "max_position_embeddings": 77, "eos_token_id": 49407,
    }  # fmt: skip


CLIP_L, CLIP_H = _clip(768, 12, 12, "quick_gelu"), _clip(1024, 24, 16, "gelu")
CLIP_G = _clip(1280, 32, 20, "gelu")

SD15 = {**SD15_UNET, "num_heads": 8, "num_head_channels": -1}
SD21 = {
    **SD15_UNET, "num_heads": -1, "num_head_channels": 64, "context_dim": 1024, "use_linear_in_transformer": True,
}  # fmt: skip
SDXL = {
    **SD21, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "context_dim": 2048,
    "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10, "num_classes": "sequential", "adm_in_channels": 2816,
}  # fmt: skip

# UNet, side of the latent, text encoders.
FAMILIES: Mapping[str, tuple[Mapping[str, Any], int, tuple[Mapping[str, Any], ...]]] = {
    "SD1.5, 512 px": (SD15, 64, (CLIP_L,)),
    "SD2.1, 768 px": (SD21, 96, (CLIP_H,)),
    "SDXL, 1024 px": (SDXL, 128, (CLIP_L, CLIP_G)),
}
# How the UNet's weights are stored, and what they are computed in.
STORAGES = {"fp16": ("float16", "float16"), "bf16": ("bfloat16", "bfloat16"), "fp8": ("float8_e4m3fn", "bfloat16")}


@dataclass(frozen=True)
class Count:
    """Of one forward and backward pass: bytes at most beyond the weights, and operations; and bytes of the weights.

    unet: of the weights, those of the UNet alone.
    """

    memory: int
    weights: int
    unet: int
    operations: int = 0


class FakeModels:
    """UNet and text encoders of a family as fake tensors, with the trainer's cures; a context manager."""

    def __init__(self, family: str, storage: str) -> None:
        self._family, self._storage = family, storage
        self._open = ExitStack()

    def __enter__(self) -> FakeModels:
        import comfy.clip_model
        import comfy.ops
        import torch
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
        from perfusion_pack.nodes.host.gate.projection_swap import swapped_forwards
        from perfusion_pack.nodes.host.training.autograd import differentiable_text_encoder, recast_layers
        from torch._subclasses.fake_tensor import FakeTensorMode

        config, self.latent, encoders = FAMILIES[self._family]
        stored, self.dtype = (getattr(torch, name) for name in STORAGES[self._storage])
        operations = comfy.ops.disable_weight_init if stored == self.dtype else comfy.ops.manual_cast
        self._open.enter_context(FakeTensorMode())
        self.unet = UNetModel(**config, dtype=stored, device="cpu", operations=operations).requires_grad_(False)
        self.unet.dtype = self.dtype  # of the input, as the host casts it
        self.unet.adm_in_channels = config["adm_in_channels"]
        half = torch.float16  # as the host holds them; they are computed in float32
        self.encoders = [
            comfy.clip_model.CLIPTextModel(dict(one), half, "cpu", comfy.ops.manual_cast).requires_grad_(False)
            for one in encoders
        ]
        for encoder in self.encoders:
            self._open.enter_context(differentiable_text_encoder(encoder))
        for module in (self.unet, *self.encoders):
            self._open.enter_context(swapped_forwards(recast_layers(module)))
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def weights(self) -> tuple[int, int]:
        """Bytes of all weights, and of the UNet's."""
        sizes = [sum(p.nbytes for p in module.parameters()) for module in (self.unet, *self.encoders)]
        return sum(sizes), sizes[0]

    def step(self, pictures: int, checkpointing: bool) -> None:
        """The passes of a training step, text encoders included. Each picture has a template of its own, the most that
        a step can take."""
        import torch

        encodings = []
        for encoder in self.encoders:
            words = torch.zeros(pictures, 77, encoder.text_model.final_layer_norm.weight.shape[0]).requires_grad_()
            encodings.append(encoder.text_model(embeds=words * 1, num_tokens=[8] * pictures)[0])
        unet_step(self.unet, torch.cat(encodings, dim=-1).to(self.dtype), self.latent, checkpointing)


def unet_step(unet: Any, context: Any, latent: int, checkpointing: bool) -> None:
    """Forward and backward pass of a UNet for encodings [B, 77, d], with every cross-attention layer edited as the
    trainer edits it."""
    import torch
    from comfy.ldm.modules.attention import attention_pytorch
    from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
    from perfusion_pack.nodes.host.gate.projection_swap import swapped_forwards
    from perfusion_pack.nodes.host.training.gradient_checkpointing import checkpointed_forwards
    from perfusion_pack.perfusion_core.edit import add_value_targets

    pictures, half = len(context), {"dtype": context.dtype}
    gates = torch.zeros(pictures, 77, 1).requires_grad_()
    layers = cross_attention_layers(unet)
    targets = {name: torch.zeros(1, layer.to_v.out_features).requires_grad_() for name, layer in layers.items()}
    replacements: list[Any] = []
    for name, layer in layers.items():
        keys, values, target = layer.to_k.forward, layer.to_v.forward, targets[name]
        replacements += [
            (layer.to_k, lambda _context, keys=keys: keys(context)),
            (layer.to_v, lambda _context, v=values, target=target: add_value_targets(v(context), gates, target)),
        ]
    if checkpointing:
        replacements += checkpointed_forwards(unet, replacements)
    pooled = torch.zeros(pictures, unet.adm_in_channels, **half) if unet.adm_in_channels else None
    # As the trainer has it, whatever the host chose.
    options = {"optimized_attention_override": lambda _function, *args, **more: attention_pytorch(*args, **more)}
    with swapped_forwards(replacements):
        noisy, times = torch.zeros(pictures, 4, latent, latent, **half), torch.zeros(pictures)
        predicted = unet(noisy, times, context=context, y=pooled, transformer_options=options)
    predicted.float().square().mean().backward()


def count(family: str, storage: str, pictures: int, checkpointing: bool, operations: bool = False) -> Count:
    """Count a step; its operations only where they are asked for, in a run of their own, since their counter would
    keep tensors."""
    from perfusion_pack.perfusion_core.live_memory import LiveMemory

    with FakeModels(family, storage) as models:
        with LiveMemory() as memory:
            models.step(pictures, checkpointing)
        made = operations_of(lambda: models.step(1, checkpointing)) if operations else 0
        return Count(memory.peak, *models.weights(), made)


def operations_of(action: Callable[[], object]) -> int:
    """How many additions and multiplications an action takes in convolutions, matrix products and attention."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # the counter knows only those of GPUs
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    formulas = {
        attention: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
        backward: lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4]),
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        action()
    return counter.get_total_flops()


def standard_within(size: float, off: Count, on: Count) -> tuple[Any, float]:
    """How preset Standard trains where there are so many bytes in all, and how many it then takes by these counts."""
    from perfusion_pack.nodes.training_settings import DEFAULTS
    from perfusion_pack.perfusion_core.memory_plan import PictureCost, memory_plan

    costs = PictureCost(off.memory), PictureCost(on.memory)
    plan = memory_plan(DEFAULTS.batch_size, int(size - off.weights), *costs)
    return plan, off.weights + plan.micro_batch * plan.cost.memory


def minutes(operations: int) -> float:
    """Of the steps of preset Standard, at the assumed speed."""
    from perfusion_pack.nodes.training_settings import DEFAULTS

    return DEFAULTS.steps * DEFAULTS.samples_of_a_step * operations / OPERATIONS_A_SECOND / 60


def tables(families: list[str]) -> tuple[str, str]:
    """Both tables: what a picture takes, and what Standard does on cards of several sizes."""
    head = (
        "| model | UNet stored in | weights, GB | one picture, GB | with checkpointing, GB | 10^12 operations | with |"
    )
    lines, cards = [head, "| --- | --- | ---: | ---: | ---: | ---: | ---: |"], []
    for family in families:
        operations: dict[bool, int] = {}
        for storage in STORAGES:
            counted = not operations
            off, on = (count(family, storage, 1, checkpointing, counted) for checkpointing in (False, True))
            operations = operations or {False: off.operations, True: on.operations}
            cells = [family, storage, f"{off.weights / 1e9:.2f} (UNet {off.unet / 1e9:.2f})"]
            cells += [f"{one.memory / 1e9:.2f}" for one in (off, on)]
            cells += [f"{operations[one] / 1e12:.1f}" for one in (False, True)]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
            if storage in ("fp16", "fp8"):
                cards += card_rows(family, storage, off, on, operations)
    cards[:0] = ["| model | UNet stored in | memory, GB | at once | checkpointing | takes, GB | minutes |"]
    cards.insert(1, "| --- | --- | ---: | ---: | --- | ---: | ---: |")
    return "\n".join(lines), "\n".join(cards)


def card_rows(family: str, storage: str, off: Count, on: Count, operations: Mapping[bool, int]) -> list[str]:
    """What Standard does where there are so many GB; equal rows but the first are left out."""
    rows, seen = [], set()
    for size in CARDS:
        plan, takes = standard_within(size * 1e9, off, on)
        decided = plan.micro_batch, plan.gradient_checkpointing
        if not plan.fits or decided in seen:
            continue
        seen.add(decided)
        cells = [family, storage, f"{size}", f"{plan.micro_batch}", "on" if plan.gradient_checkpointing else "off"]
        cells += [f"{takes / 1e9:.1f}", f"{minutes(operations[plan.gradient_checkpointing]):.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--output", type=Path, help="write the page into this file too")
    arguments = parser.parse_args()
    from open_pack import open_pack

    open_pack()
    pictures, cards = tables(arguments.families)
    page = f"{HEAD}\n{pictures}\n{CARDS_HEAD}\n{cards}\n"
    print(page)
    if arguments.output:
        arguments.output.write_text(page, encoding="utf-8")


HEAD = """\
# What a training needs in memory and arithmetic

Written by `python benchmarks/memory.py --output benchmarks/memory.md`: counted on torch's fake tensors, on UNets and
text encoders of the full depth, through the trainer's own layers. **Counted, not measured: no GPU was at hand.**

*One picture* is the most that its forward and backward pass hold at once beyond the weights, text encoders included,
without what a device's allocator wastes. Weights are the UNet's and the text encoders', these in fp16. Operations are
those of convolutions, matrix products and attention, of one picture; they are the same in every type.
"""

CARDS_HEAD = f"""
## What preset Standard makes of it

The trainer measures one picture at the start and takes as many at once as find room beside the models, ten percent
left over, and gradient checkpointing where not even one does. *Memory* is what the training may have in all: of a card,
what the system, the VAE and the host's reserve leave. Sizes that are left out do the same as the one above, or hold no
picture. What is learned does not depend on any of it.

Minutes are arithmetic: 300 steps of 8 pictures at **assumed** {OPERATIONS_A_SECOND / 1e12:.0f} x 10^12 operations a
second, which is a guess for a fast consumer card. Small batches are slower than that on large cards, and VAE,
validations and samples come on top.
"""


if __name__ == "__main__":
    main()
