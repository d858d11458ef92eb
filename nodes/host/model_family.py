"""The name of a model's family, for files and messages; what fits is decided by structure, never by this name."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from .text_encoders import text_encoders

_BY_ENCODERS = {("clip_l",): "sd1", ("clip_h",): "sd2", ("clip_g", "clip_l"): "sdxl", ("clip_g",): "sdxl_refiner"}


def model_family(model: ModelPatcher, clip: CLIP) -> str:
    """The family: sd1, sd2, sdxl, sdxl_refiner, what the model's configuration calls itself, or its class."""
    configuration = model.model.model_config
    named = getattr(configuration, "perfusion_family", None)
    return named or _BY_ENCODERS.get(tuple(sorted(text_encoders(clip)))) or type(configuration).__name__.lower()
