"""Checkpoints of real architectures in the host's file layout, filled at random, for its own checkpoint loader.

The loader tells architectures apart by shapes: width of the text encodings, of the first convolution, of the pooled
embedding, transformers per input block. These are the true ones. What it does not look at is reduced so that a test
takes seconds: all levels have the width of the first, most output blocks have no transformer, the text encoders three
layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.text_encoders.sd2_clip
import torch

HALF = torch.float16
TEXT_SIZE = {"num_hidden_layers": 3, "intermediate_size": 512}
TEXT_OPTIONS = {f"{name}_model_config": TEXT_SIZE for name in ("clip_l", "clip_g", "clip_h")}


class Architecture(NamedTuple):
    """What makes a family, and what the loader must find: its class, cross-attention layers, encoders."""

    config: type
    unet: Mapping[str, Any]
    text_model: type
    widths: Mapping[str, int]  # of the token vectors, by embedding key
    layers: int
    family: str
    velocity: bool = False


def _unet(
    depth: list[int],
    output: list[int],
    middle: int,
    context: int,
    pooled: int | None,
    width: int = 320,
    linear=True,
    channels: int = 4,
) -> dict:
    per_level = 1 if len(depth) == 3 else 2
    levels = len(depth) // per_level
    return {
        "image_size": 32, "in_channels": channels, "out_channels": 4, "model_channels": width, "num_head_channels": 64,
        "num_heads": -1, "use_spatial_transformer": True, "use_linear_in_transformer": linear, "legacy": False,
        "channel_mult": [1] * levels, "num_res_blocks": [per_level] * levels, "transformer_depth": depth,
        "transformer_depth_output": output, "transformer_depth_middle": middle, "context_dim": context,
        "adm_in_channels": pooled, "num_classes": None if pooled is None else "sequential", "dtype": HALF,
    }  # fmt: skip


INPAINTING, EDITING = 9, 8  # channels: latent, mask and masked picture; latent and the picture to change

_SD1 = _unet([1, 0, 1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], 1, 768, None, linear=False)
_SD2 = _unet([1, 0, 1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], 1, 1024, None)
_REFINER = _unet([0, 0, 4, 4, 4, 4, 0, 0], [0] * 3 + [1] + [0] * 8, 1, 1280, 2560, width=384)
_XL_WIDTHS = {"clip_l": 768, "clip_g": 1280}


def _xl(config: type, depth: list[int], output: list[int], middle: int, channels: int = 4) -> Architecture:
    unet = _unet(depth, output, middle, 2048, 2816, channels=channels)
    layers = sum(depth) + sum(output) + max(middle, 0)
    return Architecture(config, unet, comfy.sdxl_clip.SDXLClipModel, _XL_WIDTHS, layers, "sdxl")


_SDXL = ([0, 0, 2, 2, 10, 10], [0, 0, 0, 2, 0, 0, 1, 0, 0], 2)


def _unclip(config: type, pooled: int) -> Architecture:
    unet = {**_SD2, "adm_in_channels": pooled, "num_classes": "sequential"}
    return Architecture(config, unet, _sd2_text, {"clip_h": 1024}, 7, "sd2", velocity=True)


_models, _sd2_text = comfy.supported_models, comfy.text_encoders.sd2_clip.SD2ClipModel
ARCHITECTURES = {
    "SD1.x": Architecture(_models.SD15, _SD1, comfy.sd1_clip.SD1ClipModel, {"clip_l": 768}, 7, "sd1"),
    "SD2.x, eps": Architecture(_models.SD20, _SD2, _sd2_text, {"clip_h": 1024}, 7, "sd2"),
    "SD2.x, v": Architecture(_models.SD20, _SD2, _sd2_text, {"clip_h": 1024}, 7, "sd2", velocity=True),
    "SD1.x, inpainting": Architecture(
        _models.SD15, {**_SD1, "in_channels": INPAINTING}, comfy.sd1_clip.SD1ClipModel, {"clip_l": 768}, 7, "sd1"
    ),
    "SD2.x, inpainting": Architecture(
        _models.SD20, {**_SD2, "in_channels": INPAINTING}, _sd2_text, {"clip_h": 1024}, 7, "sd2"
    ),
    "SD1.x, instruct-pix2pix": Architecture(
        _models.SD15_instructpix2pix,
        {**_SD1, "in_channels": EDITING},
        comfy.sd1_clip.SD1ClipModel,
        {"clip_l": 768},
        7,
        "sd1",
    ),
    "SD2.1, unCLIP L": _unclip(_models.SD21UnclipL, 1536),
    "SD2.1, unCLIP H": _unclip(_models.SD21UnclipH, 2048),
    "SDXL": _xl(_models.SDXL, *_SDXL),
    "SDXL, inpainting": _xl(_models.SDXL, *_SDXL, channels=INPAINTING),
    "SDXL, instruct-pix2pix": _xl(_models.SDXL_instructpix2pix, *_SDXL, channels=EDITING),
    "SDXL refiner": Architecture(
        _models.SDXLRefiner, _REFINER, comfy.sdxl_clip.SDXLRefinerClipModel, {"clip_g": 1280}, 18, "sdxl_refiner"
    ),
    "SSD-1B": _xl(_models.SSD1B, [0, 0, 2, 2, 4, 4], [0, 0, 0, 1, 0, 0, 1, 0, 0], -1),
    "Segmind Vega": _xl(_models.Segmind_Vega, [0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 0, 0, 2, 0, 0], -1),
    "KOALA 700M": _xl(_models.KOALA_700M, [0, 2, 5], [0, 0, 2, 0, 0, 1], -2),
    "KOALA 1B": _xl(_models.KOALA_1B, [0, 2, 6], [0, 0, 2, 0, 0, 1], 6),
}


def random_weights(module: torch.nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """Half-precision weights of a module on the meta device, scaled to keep activations of ordinary size."""
    noise = torch.randn(2**20 + 1, generator=torch.Generator().manual_seed(0)).half()  # odd: no weight repeats in rows
    weights = {}
    for name, parameter in module.state_dict().items():
        count = parameter.numel()
        values = noise.repeat(-(-count // len(noise)))[:count].view(parameter.shape)
        if parameter.dim() < 2:
            is_norm = ("norm" in name or name.split(".")[-2] == "0") and name.endswith("weight")
            weights[prefix + name] = (values * 0.02 + is_norm).half()
        else:
            # Embeddings are looked up, one row at a time; everything else sums over its inputs.
            fan_in = 400 if "embedding" in name else parameter[0].numel()
            weights[prefix + name] = values * fan_in**-0.5
    return weights


def checkpoint(architecture: Architecture) -> dict[str, torch.Tensor]:
    """The UNet's part of a checkpoint file."""
    unet = openaimodel.UNetModel(**architecture.unet, device="meta", operations=comfy.ops.disable_weight_init)
    weights = random_weights(unet, "model.diffusion_model.")
    if architecture.velocity:  # the host tells SD2's v models by the spread of this one bias
        bias = weights["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"]
        bias *= 0.2 / bias.std()
    return weights


def text_checkpoint(architecture: Architecture, options: Mapping[str, Any] = TEXT_OPTIONS) -> dict[str, torch.Tensor]:
    """The text encoders' part of a checkpoint file, in the layout in which the host itself would save it."""
    weights = random_weights(architecture.text_model(device="meta", dtype=HALF, model_options=dict(options)))
    return architecture.config(dict(architecture.unet)).process_clip_state_dict_for_saving(weights)


def load(weights: dict[str, torch.Tensor], with_text: bool):
    """MODEL and CLIP as the host's loader makes them of a checkpoint's tensors; CLIP is None without text encoders."""
    with torch.inference_mode():
        loaded = comfy.sd.load_state_dict_guess_config(
            weights, output_vae=False, output_clip=with_text, te_model_options=TEXT_OPTIONS
        )
    return loaded[0], loaded[1]
