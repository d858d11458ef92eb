"""What can be told of a training's inputs at once, before anything long is done with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE

from ....perfusion_core.concept import MAX_TEXT_LENGTH
from ....perfusion_core.errors import PerfusionError, quoted
from ....perfusion_core.text_statistics import TextStatistics
from ....perfusion_core.training import TrainingSettings
from ..gate.cross_attention import cross_attention_layers, refined_from
from ..gate.patch import applied_concepts
from ..gate.refined_text import refined_text
from ..model_family import check_text_conditioned
from ..text.encoders import text_encoders
from ..text.statistics import encoder_hash
from ..text.words import known_words


def check_models(model: ModelPatcher, clip: CLIP, vae: VAE) -> None:
    """Raise PerfusionError for a MODEL that cannot be trained on, and for a CLIP or a VAE that is of another one.

    Widths and channels are compared as the modules give them, so nothing is loaded or encoded for it.
    """
    check_text_conditioned(model)
    if applied_concepts(model) is not None:
        raise PerfusionError(
            "The model input already has concepts applied, which would be learned around; connect it from before the"
            " gate node."
        )
    network = model.get_model_object("diffusion_model")
    layers = cross_attention_layers(network)
    check_what_it_sees(model)
    if hasattr(network, "mlp_t5"):
        raise PerfusionError(
            f"The model input needs a model that is given one text encoding, but {type(model.model).__name__} is given"
            " two side by side, through which nothing can be trained here; use a model of the SD1, SD2 or SDXL family,"
            " Anima, Cosmos-Predict2 or Wan."
        )
    needed = refined_from(network) or next(iter(layers.values())).to_k.in_features
    encoders = text_encoders(clip)
    width = sum(encoder.width for encoder in encoders.values())
    if width != needed:
        raise PerfusionError(
            f"The clip input was expected to give encodings of width {needed}, as the model input"
            f" ({type(model.model).__name__}) needs, but its text encoders ({', '.join(sorted(encoders))}) give width"
            f" {width}; connect the CLIP that belongs to this MODEL."
        )
    channels = model.model.latent_format.latent_channels
    found = getattr(vae, "latent_channels", channels)  # a VAE of another pack may not say
    if found != channels:
        raise PerfusionError(
            f"The vae input was expected to give latents of {channels} channels, as the model input"
            f" ({type(model.model).__name__}) needs, but it gives {found}; connect the VAE that belongs to this MODEL."
        )


def check_what_it_sees(model: ModelPatcher) -> None:
    """Raise PerfusionError for a MODEL that must be shown something that is neither noisy latent, prompt nor mask, such
    as the small picture that an upscaler makes large, or a depth map.

    Such a model has more channels than the host's own conditioning fills."""
    latent = torch.zeros(1, model.model.latent_format.latent_channels, 8, 8)
    beside = model.model.concat_cond(noise=latent, latent_image=latent, device=latent.device)
    filled = latent.shape[1] + (0 if beside is None else beside.shape[1])
    seen = getattr(model.model.diffusion_model, "in_channels", filled)
    if seen != filled:
        raise PerfusionError(
            f"The model input was expected to paint from a prompt alone, in {filled} channels, but"
            f" {type(model.model).__name__} sees {seen}, in which it has to be shown another picture; use the"
            " model of the SD1, SD2 or SDXL family that it was made from."
        )


def check_words(clip: CLIP, word: str, superclass: str) -> None:
    """Raise PerfusionError where the word is known already, or the superclass is none."""
    if word in known_words(clip):
        raise PerfusionError(
            f"The clip input already has concepts applied, which would be learned around; connect it from before the"
            f" gate node to train {word}."
        )
    check_superclass(superclass)


def check_statistics(statistics: TextStatistics | None, model: ModelPatcher, clip: CLIP) -> None:
    """Raise PerfusionError for statistics of encodings of another width, and for those of the CLIP alone where the
    MODEL makes something else of the text."""
    at_layers = refined_text(model)
    if statistics is None:
        return
    if at_layers is None:
        expected, found = sum(one.width for one in text_encoders(clip).values()), len(statistics.inverse)
        if found != expected:
            raise PerfusionError(
                f"The statistics input was expected to be of encodings of width {expected}, which the clip input gives,"
                f" but it is of width {found}; connect this clip to Measure Text Statistics, or leave statistics open."
            )
        return
    if statistics.encoder_hash != encoder_hash(clip, at_layers):
        raise PerfusionError(
            f"The statistics input was expected to be of the text as {type(model.model).__name__} sees it, which"
            " makes something else of its CLIP's encodings, but it is of another model or of the CLIP alone; connect"
            " this model to Measure Text Statistics too, or leave statistics open."
        )


def check_superclass(superclass: str) -> None:
    """Raise PerfusionError for an empty one, and for one that no file could hold; blanks around it do not count."""
    if not superclass.strip():
        raise PerfusionError(
            "The superclass must be a plain word for the kind of thing, such as teddy or dog, but it is empty; type"
            " one."
        )
    plain = " ".join(superclass.split())
    if len(plain) > MAX_TEXT_LENGTH or not plain.isprintable():
        raise PerfusionError(
            f"The superclass must be at most {MAX_TEXT_LENGTH} signs long, all of which can be seen, but it is"
            f" {quoted(plain)}; type it anew."
        )


def check_aim(settings: TrainingSettings, mask_source: str) -> None:
    """Raise PerfusionError where attention is to be drawn into masks that there will not be."""
    if settings.attention_weight and mask_source == "none":
        raise PerfusionError(
            "The input attention_weight needs masks of the thing, but the pictures have none; connect masks, turn"
            " automatic_mask on, or set it to 0."
        )


def check_captions(clip: CLIP, templates: Sequence[str | None], superclass: str) -> None:
    """Raise PerfusionError for a caption that is longer than one prompt.  templates: with {0} where the word is."""
    for number, template in enumerate(templates, start=1):
        if template is None:
            continue
        chunks = max(map(len, clip.tokenize(template.format(superclass)).values()))
        if chunks > 1:
            raise PerfusionError(
                f"The caption of picture {number} is longer than one prompt of this CLIP can be; shorten it to a"
                " sentence."
            )
