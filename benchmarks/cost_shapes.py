"""The networks whose steps are timed: shapes of real ones, fewer blocks where a whole one takes too long."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "host"))

from unet_shapes import SD15_UNET

SDXL = {
    **SD15_UNET,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 2, 2],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 2, 2, 2],
    "transformer_depth_middle": 2,
    "context_dim": 2048,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "use_linear_in_transformer": True,
}
ANIMA = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16, "patch_spatial": 2,
    "patch_temporal": 1, "crossattn_emb_channels": 1024, "pos_emb_cls": "rope3d", "use_adaln_lora": True,
    "num_blocks": 2, "num_heads": 16, "rope_h_extrapolation_ratio": 4.0, "rope_w_extrapolation_ratio": 4.0,
}  # fmt: skip
# For machines on which a whole UNet takes too long: full width, one block at each level.
SD15_SHALLOW = {
    **SD15_UNET, "num_res_blocks": [1, 1, 1, 1], "transformer_depth": [1, 1, 1, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 0, 0],
}  # fmt: skip
SDXL_SHALLOW = {
    **SDXL, "num_res_blocks": [1, 1, 1], "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1], "transformer_depth_middle": 1,
}  # fmt: skip
SHAPES = {
    "sd15": ("SD15", SD15_UNET), "sd15-shallow": ("SD15", SD15_SHALLOW), "sdxl": ("SDXL", SDXL),
    "sdxl-shallow": ("SDXL", SDXL_SHALLOW), "anima": ("Anima", ANIMA),
}  # fmt: skip
