"""A MODEL and a CLIP of SD1.5's shape with random weights, for benchmarks of training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))

from cost import SHAPES, fill

FAMILY, UNET = SHAPES["sd15"]
CONTEXT = UNET["context_dim"]
SMALLEST_UNET = {
    **UNET,
    "model_channels": 64,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
}


def make_model(smallest: bool) -> Any:
    """A MODEL of SD1.5's shape, whose copy (the host's trainer makes one) has modules of its own, and the same weights:
    they are frozen."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    config = getattr(comfy.supported_models, FAMILY)(dict(SMALLEST_UNET if smallest else UNET))
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(torch.float32 if device.type == "cpu" else torch.bfloat16, None)
    base = config.get_model({}, "", device=device)
    fill(base.diffusion_model, 0)
    base.requires_grad_(False)

    def copy(**_options: Any) -> Any:
        twin = config.get_model({}, "", device="meta")
        twin.diffusion_model.load_state_dict(base.diffusion_model.state_dict(), assign=True)
        return comfy.model_patcher.ModelPatcher(twin.requires_grad_(False), device, device)

    model = comfy.model_patcher.ModelPatcher(base, device, device)
    model.cached_patcher_init = (copy, ())
    return model


def make_clip(smallest: bool) -> Any:
    """A CLIP of SD1.5's size with random weights, in the type the host holds it in; the smallest has one layer."""
    import comfy.sd
    import comfy.sd1_clip
    from comfy.supported_models_base import ClipTarget

    options = {"clip_l_model_config": {"num_hidden_layers": 1}} if smallest else {}
    clip = comfy.sd.CLIP(ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel), model_options=options)
    fill(clip.cond_stage_model, 1)
    return clip
