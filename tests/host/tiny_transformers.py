"""Tiny models of the host's transformers with text cross-attention, filled at random, and CLIPs for them.

Layout and classes are the true ones, the tokenizers and vocabularies too; widths and depths are a few per cent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import comfy.latent_formats
import comfy.ldm.wan.vae
import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.cosmos
import comfy.text_encoders.wan
import torch
from tiny_models import CPU, fill

try:
    import comfy.ldm.anima.model
    import comfy.text_encoders.anima

    HAS_ANIMA = True
except ImportError:
    HAS_ANIMA = False

TEXT = 32  # width of the text encodings
LLM_SIZE = {
    "hidden_size": TEXT, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 64,
}  # fmt: skip
T5_SIZE = {"d_model": TEXT, "d_kv": 16, "d_ff": 64, "num_heads": 2, "num_layers": 2}

COSMOS = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16, "patch_spatial": 2,
    "patch_temporal": 1, "model_channels": 64, "concat_padding_mask": True, "crossattn_emb_channels": TEXT,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30,
    "use_adaln_lora": True, "adaln_lora_dim": 16, "num_blocks": 2, "num_heads": 4, "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0, "rope_w_extrapolation_ratio": 4.0, "rope_t_extrapolation_ratio": 1.0,
    "extra_h_extrapolation_ratio": 1.0, "extra_w_extrapolation_ratio": 1.0, "extra_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}  # fmt: skip
_WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 64, "out_dim": 16, "num_heads": 2, "ffn_dim": 64,
    "num_layers": 2, "patch_size": (1, 2, 2), "freq_dim": 32, "window_size": (-1, -1), "qk_norm": True,
    "cross_attn_norm": True, "eps": 1e-6, "in_dim": 16, "text_dim": TEXT,
}  # fmt: skip
_LTXV = {
    "image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 64, "attention_head_dim": 16,
    "num_attention_heads": 4, "caption_channels": TEXT, "num_layers": 2,
}  # fmt: skip
_PIXART = {
    "image_model": "pixart_sigma", "input_size": 128, "hidden_size": 64, "depth": 2, "num_heads": 4,
    "caption_channels": TEXT, "model_max_length": 300, "micro_condition": False, "pe_interpolation": 1,
}  # fmt: skip
_HUNYUAN = {
    "image_model": "hydit1", "input_size": (8, 8), "hidden_size": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0,
    "text_states_dim": TEXT, "text_states_dim_t5": TEXT, "size_cond": False, "use_style_cond": False,
}  # fmt: skip


def _model(config: Any, base: Callable[..., Any], seed: int, scale: float = 0.1) -> comfy.model_patcher.ModelPatcher:
    config.set_inference_dtype(torch.float32, None)
    made = base(config, device=CPU)
    made.requires_grad_(False)
    fill(made.diffusion_model, seed, scale)
    return comfy.model_patcher.ModelPatcher(made, CPU, CPU)


def tiny_cosmos_predict2(seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    config = comfy.supported_models.CosmosT2IPredict2({"image_model": "cosmos_predict2", **COSMOS, **changes})
    return _model(config, comfy.model_base.CosmosPredict2, seed)


def tiny_anima(seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    """The adapter's widths are fixed in the host, so a smaller one of its class is built in."""
    adapter = functools.partial(
        comfy.ldm.anima.model.LLMAdapter, source_dim=TEXT, target_dim=TEXT, model_dim=TEXT, num_layers=2, num_heads=2
    )
    config = comfy.supported_models.Anima({"image_model": "anima", **COSMOS, **changes})
    with mock.patch.object(comfy.ldm.anima.model, "LLMAdapter", adapter):
        return _model(config, comfy.model_base.Anima, seed)


def tiny_wan(seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    return _model(comfy.supported_models.WAN21_T2V({**_WAN, **changes}), comfy.model_base.WAN21, seed)


def tiny_ltxv(seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    return _model(comfy.supported_models.LTXV({**_LTXV, **changes}), comfy.model_base.LTXV, seed)


def tiny_pixart(seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    return _model(comfy.supported_models.PixArtSigma({**_PIXART, **changes}), comfy.model_base.PixArt, seed)


def tiny_hunyuan_dit(seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    return _model(comfy.supported_models.HunyuanDiT1({**_HUNYUAN, **changes}), comfy.model_base.HunyuanDiT, seed)


def _clip(tokenizer: Any, model: Any, options: Mapping[str, Any], seed: int, data: Any = None) -> comfy.sd.CLIP:
    target = comfy.supported_models_base.ClipTarget(tokenizer, model)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32, **options}, tokenizer_data=data or {})
    fill(clip.cond_stage_model, seed)
    return clip


def tiny_cosmos_clip(seed: int = 1) -> comfy.sd.CLIP:
    """T5 of the kind that Cosmos-Predict2 has; the encodings are padded to 512 tokens."""
    texts = comfy.text_encoders.cosmos
    return _clip(texts.CosmosT5Tokenizer, texts.te(), {"t5xxl_model_config": T5_SIZE}, seed)


def tiny_anima_clip(seed: int = 1) -> comfy.sd.CLIP:
    """Qwen3 and the tokenizer of T5; the encodings are as long as the prompt."""
    texts = comfy.text_encoders.anima
    return _clip(texts.AnimaTokenizer, texts.te(), {"qwen3_06b_model_config": dict(LLM_SIZE)}, seed)


def tiny_wan_clip(seed: int = 1) -> comfy.sd.CLIP:
    """UMT5 with the host's SentencePiece tokenizer, and another file of that kind: its own is in checkpoints alone."""
    texts = comfy.text_encoders.wan
    path = Path(texts.__file__).parent / "t5_pile_tokenizer" / "tokenizer.model"
    file = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    return _clip(
        texts.WanT5Tokenizer, texts.te(), {"umt5xxl_model_config": T5_SIZE | {"vocab_size": 32128}}, seed,
        {"spiece_model": file},
    )  # fmt: skip


def tiny_video_vae(seed: int = 4) -> comfy.sd.VAE:
    """The VAE of Wan 2.1, which Anima and Cosmos-Predict2 have too, as the host's loader makes it of a file."""
    made = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True])
    fill(made, seed)
    return comfy.sd.VAE(sd=made.state_dict(), dtype=torch.float32)
