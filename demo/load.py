"""Loads the embedded demo model through the host's classes: MODEL, CLIP and VAE as any checkpoint loader gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import numpy as np
import torch

from ..nodes.host.old_hosts import core_patcher, outside_dynamic_memory
from ..perfusion_core.captions import CAPTIONS_ATTACHMENT
from . import model
from .eight_bits import read_weights
from .model import WEIGHTS
from .world.captions import caption
from .world.scenes import random_scene


def load_demo_model(folder: Path = WEIGHTS) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """The demo model as MODEL, CLIP and VAE; folder: of the files of UNet and autoencoder, if not those that ship.

    Raises FileNotFoundError where a weight file is missing."""
    return load_unet(folder), load_clip(), load_vae(folder)


def load_unet(folder: Path = WEIGHTS, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The UNet as the host's MODEL; disable_dynamic: without the host's dynamic memory."""
    config = model.unet_config()
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    config.set_inference_dtype(torch.float32, None)  # the model is tiny: half precision would save nothing
    base = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.V_PREDICTION, device=offload)
    base.diffusion_model.load_state_dict(read_weights(folder / "unet.safetensors"))
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else core_patcher()
    patcher = kind(base, load_device=device, offload_device=offload)
    patcher.cached_patcher_init = (load_unet, (folder,))  # how the host makes a second one, for its Train LoRA node
    return patcher


def load_clip(disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """The text encoder as the host's CLIP, with its compact table of embeddings spread over the stock vocabulary;
    disable_dynamic: without the host's dynamic memory."""
    weights = read_weights(WEIGHTS / "text.safetensors")
    compact = weights.pop("text_model.embeddings.token_embedding.weight")
    numbers = torch.tensor(json.loads((WEIGHTS / "vocabulary.json").read_text()))
    # A word that the demo world does not know means nothing in particular: the mean of those that it does.
    table = compact.mean(dim=0).repeat(model.CLIP_CONFIG["vocab_size"], 1)
    table[numbers] = compact
    weights["text_model.embeddings.token_embedding.weight"] = table
    options = {"dtype": torch.float32, "clip_l_model_config": dict(model.CLIP_CONFIG)}
    clip = comfy.sd.CLIP(_ClipTarget(), model_options=options, **outside_dynamic_memory(disable_dynamic))
    clip.cond_stage_model.clip_l.transformer.load_state_dict(weights, strict=False)
    clip.patcher.set_attachments(CAPTIONS_ATTACHMENT, world_captions)
    clip.patcher.cached_patcher_init = (_load_clip_patcher, ())  # as of the UNet
    return clip


def _load_clip_patcher(disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    return load_clip(disable_dynamic).patcher


def world_captions(count: int = 1500) -> list[str]:
    """Captions of the demo world, on which its text statistics are measured: it has few words in common with others."""
    rng = np.random.default_rng(0)
    return [caption(random_scene(rng), rng) for _ in range(count)]


def load_vae(folder: Path = WEIGHTS) -> comfy.sd.VAE:
    """The autoencoder as the host's VAE."""
    vae = comfy.sd.VAE(sd=read_weights(folder / "vae.safetensors"), config=model.VAE_CONFIG, dtype=torch.float32)
    model.set_vae_groups(vae.first_stage_model)
    return vae


class _Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The stock tokenizer with the demo model's shorter prompts and narrower vectors."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        def tokenizer(**settings: Any) -> comfy.sd1_clip.SDTokenizer:
            return comfy.sd1_clip.SDTokenizer(max_length=model.TOKENS, embedding_size=model.ENCODING_WIDTH, **settings)

        super().__init__(
            embedding_directory=embedding_directory, tokenizer_data=tokenizer_data or {}, tokenizer=tokenizer
        )


class _ClipTarget:
    """What comfy.sd.CLIP asks of a text encoder family."""

    params: dict[str, Any] = {}
    clip = comfy.sd1_clip.SD1ClipModel
    tokenizer = _Tokenizer
