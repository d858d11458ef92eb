"""The demo model: ComfyUI's own UNet, autoencoder and CLIP classes in a size that trains on two CPU cores.

Three facts are not in the weights and are fixed here: the number of attention heads, the prediction type (v), and that
the autoencoder's group normalisations use 8 groups.  With the classes' 32 groups a layer of 32 channels would be
normalised channel by channel, and a picture would lose its mean colour.
"""

from __future__ import annotations

from pathlib import Path

import torch

WEIGHTS = Path(__file__).parent / "weights"
ENCODING_WIDTH = 128
TOKENS = 32
VAE_GROUPS = 8
LATENT_SCALE = 1.0  # the shipped autoencoder's latents have unit variance; see fold_latent_scale in making/train_vae.py

VAE_CONFIG = {
    "params": {
        "embed_dim": 4,
        "ddconfig": {
            "double_z": True,
            "z_channels": 4,
            "resolution": 128,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 32,
            "ch_mult": [1, 1, 2, 4],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "dropout": 0.0,
        },
    }
}

UNET_CONFIG = {
    "image_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 1, 1, 1, 0, 1],
    "num_heads": 4,
    "num_head_channels": -1,
    "context_dim": ENCODING_WIDTH,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
    "adm_in_channels": None,
    "use_checkpoint": False,
    "legacy": False,
}

CLIP_CONFIG = {
    "hidden_size": ENCODING_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 4 * ENCODING_WIDTH,
    "max_position_embeddings": TOKENS,
    "max_length": TOKENS,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "num_positions": TOKENS,
    "projection_dim": ENCODING_WIDTH,
    "eos_token_id": 49407,
    "vocab_size": 49408,
}


def set_vae_groups(autoencoder: torch.nn.Module) -> None:
    """Give every group normalisation of the autoencoder VAE_GROUPS groups (see the head of this file)."""
    for module in autoencoder.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = VAE_GROUPS


def unet_config() -> object:
    """The host's model configuration of the demo UNet: v-prediction on the scaled-linear schedule."""
    import comfy.latent_formats
    import comfy.model_base
    import comfy.supported_models_base

    class DemoLatents(comfy.latent_formats.LatentFormat):
        scale_factor = LATENT_SCALE

    class DemoConfig(comfy.supported_models_base.BASE):
        unet_extra_config = {
            "num_heads": UNET_CONFIG["num_heads"],
            "num_head_channels": UNET_CONFIG["num_head_channels"],
        }
        latent_format = DemoLatents
        perfusion_family = "perfusion_demo"

        def model_type(self, state_dict: dict, prefix: str = "") -> comfy.model_base.ModelType:
            return comfy.model_base.ModelType.V_PREDICTION

    return DemoConfig(dict(UNET_CONFIG))
