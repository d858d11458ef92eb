"""The name of a model's family, for files and messages; what fits is decided by structure, never by this name."""

from __future__ import annotations

from collections.abc import Iterable

import comfy.model_base
import comfy.model_sampling
from comfy.model_patcher import ModelPatcher

from ...perfusion_core.errors import PerfusionError

_BY_ENCODERS = {("clip_l",): "sd1", ("clip_h",): "sd2", ("clip_g", "clip_l"): "sdxl", ("clip_g",): "sdxl_refiner"}

_WITH_A_TEXT_OF_THEIR_OWN = ("anima", "wan", "ltx", "pixart", "hydit")

_STEP = 64  # pixels: a latent has 8, and the networks of these families are given latents of multiples of 8
# The demo model has seen squares of one size alone and fails at others (benchmarks/mixed_sizes.md): a step as large as
# the resolution means such a square for every picture.
_SIZES = {
    "sdxl": (1024, _STEP),
    "sdxl_refiner": (1024, _STEP),
    "perfusion_demo": (128, 128),
    "anima": (1024, _STEP),
    "cosmos_predict2": (1024, _STEP),
    "wan2.1": (640, _STEP),  # about the area of 832 x 480
    "ltxv": (640, _STEP),
}


def model_family(model: ModelPatcher, encoders: Iterable[str]) -> str:
    """The family: sd1, sd2, sdxl, sdxl_refiner, what the model's configuration or the host calls it ("anima"), or its
    class.

    encoders: embedding keys of the CLIP's text encoders, as `text_encoders` gives them."""
    configuration = model.model.model_config
    # Of the class: the host's configurations warn of every attribute that an instance does not have.
    named = getattr(type(configuration), "perfusion_family", None)
    by_name = type(configuration).__name__.lower()
    image_model = getattr(type(configuration), "unet_config", {}).get("image_model", by_name)  # the host's own name
    return named or _BY_ENCODERS.get(tuple(sorted(encoders))) or image_model


def makes_its_own_text(family: str) -> bool:
    """Whether models of this family make something else of the text before their layers look at it; of a MODEL that is
    there, `refined_from` says it."""
    return family.startswith(_WITH_A_TEXT_OF_THEIR_OWN)


def training_size(model: ModelPatcher, encoders: Iterable[str]) -> tuple[int, int]:
    """The resolution that models of this family were trained at, and the pixels of which sides are multiples.

    SD2 has two: 768 for the models that predict v, 512 for those that predict the noise.
    """
    family = model_family(model, encoders)
    if family == "sd2" and model.model.model_type == comfy.model_base.ModelType.V_PREDICTION:
        return 768, _STEP
    return _SIZES.get(family, (512, _STEP))


def check_text_conditioned(model: ModelPatcher) -> None:
    """Raise PerfusionError for a MODEL that does not paint what a prompt says, though its layers look like a text
    model's, so that a concept of the same width would be taken, and mean nothing.

    Stable Video Diffusion (it has layers that attend over time) and Zero123 (a projection of the picture beside the
    UNet) see a picture where others see the prompt; Lotus, which measures depth, starts from a picture, not from noise.
    """
    over_time = any(name.rpartition(".")[2] == "time_stack" for name, _ in model.model.diffusion_model.named_modules())
    if over_time or hasattr(model.model, "cc_projection"):
        raise PerfusionError(
            f"The MODEL needs cross-attention layers for text, but {type(model.model).__name__} sees a picture where"
            " others see the prompt; use a model of the SD1, SD2 or SDXL family, or another one with text"
            " cross-attention of its own such as Anima."
        )
    if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.IMG_TO_IMG):
        raise PerfusionError(
            f"The MODEL needs to paint pictures from noise and a prompt, but {type(model.model).__name__} turns one"
            " picture into another; use a model of the SD1, SD2 or SDXL family."
        )
