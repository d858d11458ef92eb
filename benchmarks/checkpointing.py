#!/usr/bin/env python3
"""What gradient checkpointing saves and costs in a training step, counted, as one Markdown table.

    python benchmarks/checkpointing.py [--shapes sd15 sdxl] [--latent 64] [--batches 1 4 8]

Needs the environment of a ComfyUI (COMFYUI_PATH, or ~/comfy/ComfyUI) and nothing else: the tensors are fake ones that
have a shape and no content, so a minute and a laptop will do. Memory is that of all tensors which live at once between
the noisy latent and the gradients, without weights, text encoder and VAE, which are the same either way, and without
what a device's allocator wastes. Cost is the arithmetic of convolutions, matrix products and attention. bf16; UNets of
the full depth. Memory and arithmetic are counted in two runs: the counter of the one holds tensors of the other.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

# The shape of cost.py has two transformer blocks where SDXL has ten.
FULL_DEPTH = {
    "sdxl": {
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    }
}


def make_live_memory() -> Any:
    """A mode that adds up the bytes of the tensors made under it while they live; `peak` is the most."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveMemory(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self._known: weakref.WeakSet = weakref.WeakSet()

        def _storages(self, values: Any) -> Iterable[Any]:
            found = [v.untyped_storage() for v in tree_leaves(values) if hasattr(v, "untyped_storage")]
            return [storage for storage in found if storage not in self._known]

        def _gone(self, size: int) -> None:
            self.now -= size

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            for storage in self._storages((args, kwargs)):
                self._known.add(storage)  # from before: weights and inputs
            result = function(*args, **(kwargs or {}))
            for storage in self._storages(result):
                if storage in self._known:  # twice in one result
                    continue
                self._known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
            self.peak = max(self.peak, self.now)
            return result

    return LiveMemory()


def step(unet: Any, batch: int, latent: int, checkpointing: bool) -> None:
    """The forward and backward pass of a training step, with every cross-attention layer edited as the trainer does."""
    import torch
    from comfy.ldm.modules.attention import attention_pytorch
    from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
    from perfusion_pack.nodes.host.gate.projection_swap import swapped_forwards
    from perfusion_pack.nodes.host.training.gradient_checkpointing import checkpointed_forwards
    from perfusion_pack.perfusion_core.edit import add_value_targets

    layers = cross_attention_layers(unet)
    half = {"dtype": torch.bfloat16}
    context = torch.zeros(batch, 77, next(iter(layers.values())).to_k.in_features, **half).requires_grad_()
    gates = torch.zeros(batch, 77, 1).requires_grad_()
    targets = {name: torch.zeros(1, layer.to_v.out_features).requires_grad_() for name, layer in layers.items()}
    replacements = []
    for name, layer in layers.items():
        keys, values, target = layer.to_k.forward, layer.to_v.forward, targets[name]
        replacements += [
            (layer.to_k, lambda _context, keys=keys: keys(context)),
            (layer.to_v, lambda _context, v=values, target=target: add_value_targets(v(context), gates, target)),
        ]
    if checkpointing:
        replacements += checkpointed_forwards(unet, replacements)
    pooled = torch.zeros(batch, unet.adm_in_channels, **half) if getattr(unet, "adm_in_channels", None) else None
    # As the trainer has it, whatever the host chose.
    options = {"optimized_attention_override": lambda _function, *args, **more: attention_pytorch(*args, **more)}
    with swapped_forwards(replacements):
        noisy, times = torch.zeros(batch, 4, latent, latent, **half), torch.zeros(batch)
        predicted = unet(noisy, times, context=context, y=pooled, transformer_options=options)
    predicted.float().square().mean().backward()


def measure(shape: str, batch: int, latent: int, checkpointing: bool) -> tuple[float, float, float]:
    """Peak memory in GB, arithmetic in 10^12 operations of one step, and the size of the weights in GB."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.ops
    import torch
    from cost import SHAPES
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    config = {**SHAPES[shape][1], **FULL_DEPTH.get(shape, {})}
    heads = {"num_heads": 8, "num_head_channels": -1} if shape == "sd15" else {"num_heads": -1, "num_head_channels": 64}
    with FakeTensorMode():
        unet = openaimodel.UNetModel(
            **config, **heads, dtype=torch.bfloat16, device="cpu", operations=comfy.ops.disable_weight_init
        )
        unet.adm_in_channels = config["adm_in_channels"]
        unet.requires_grad_(False)
        attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # the counter knows only those of GPUs
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        formulas = {
            attention: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
            backward: lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4]),
        }
        memory, counter = make_live_memory(), FlopCounterMode(display=False, custom_mapping=formulas)
        for counted in (memory, counter):
            with counted:
                step(unet, batch, latent, checkpointing)
        weights = sum(parameter.nbytes for parameter in unet.parameters())
    return memory.peak / 1e9, counter.get_total_flops() / 1e12, weights / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=("sd15", "sdxl"), default=["sd15"])
    parser.add_argument("--latent", type=int, default=64, help="side of the latent (64 is 512 px)")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8])
    arguments = parser.parse_args()
    from open_pack import open_pack

    open_pack()
    print("| UNet | latent | pictures | weights, GB | memory off, GB | memory on, GB | 10^12 operations off | on |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in arguments.shapes:
        for batch in arguments.batches:
            off, on = (measure(shape, batch, arguments.latent, checkpointing) for checkpointing in (False, True))
            numbers = [f"{number:.2f}" for number in (off[2], off[0], on[0], off[1], on[1])]
            print(f"| {' | '.join([shape, str(arguments.latent), str(batch), *numbers])} |", flush=True)


if __name__ == "__main__":
    main()
