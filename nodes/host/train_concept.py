"""Training a concept inside the host's process on the models of its sockets."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ...perfusion_core.concept import Concept, normalise_word
from ...perfusion_core.concept_file import round_for_file
from ...perfusion_core.errors import PerfusionError
from ...perfusion_core.statistics import TextStatistics
from ...perfusion_core.training import ConceptTrainer, StepReport, TrainingSettings
from ...perfusion_core.training_run import train
from .concept_words import known_words
from .cross_attention import cross_attention_layers
from .denoising_task import HostDenoisingTask, latent_masks
from .gate_patch import applied_concepts
from .model_family import model_family
from .text_encoders import encode_superclass_vectors

logger = logging.getLogger(__name__)

# Gate for using a concept, recommended in its file; wider than that of the training (method.md section 1.7).
RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE = 0.65, 0.15


@dataclass(frozen=True)
class TrainingResult:
    """A trained concept, rounded as its file holds it, and the loss of every step."""

    concept: Concept
    losses: list[float]
    seconds: float


def train_concept(
    model: ModelPatcher,
    clip: CLIP,
    vae: VAE,
    images: Tensor,
    masks: Tensor | None,
    word: str,
    superclass: str,
    settings: TrainingSettings,
    statistics: TextStatistics,
    on_step: Callable[[StepReport], None],
) -> TrainingResult:
    """Learn the word for what the pictures show.

    images: [P, H, W, 3] in 0..1.  masks: [P, H, W] or None.  `on_step` is called after every step and may raise to
    stop.
    Raises PerfusionError for inputs that cannot be trained on.  The models keep their values bit for bit.
    """
    word = normalise_word(word)
    _check_inputs(model, clip, word, superclass)
    started = time.monotonic()
    latents = vae.encode(_fitting(images, vae)[:, :, :, :3])
    with torch.inference_mode(False), torch.enable_grad():
        superclass_vectors = encode_superclass_vectors(clip, superclass)
        weights = None if masks is None else latent_masks(masks.clone(), len(latents), latents.shape[-2:])
        inverse = statistics.inverse.clone()
        with HostDenoisingTask(model, clip, latents, weights, word, superclass_vectors) as task:
            vectors = {key: value.to(task.device) for key, value in superclass_vectors.items()}
            trainer = ConceptTrainer(task, settings, vectors, inverse)
            losses = train(trainer, on_step)
        learned = trainer.learned()
    concept = Concept(
        word=word,
        superclass=superclass,
        base_model=model_family(model, clip),
        encoding_width=len(learned.target_input),
        clip_layer=clip.layer_idx,
        form=settings.form,
        bias=RECOMMENDED_BIAS,
        temperature=RECOMMENDED_TEMPERATURE,
        statistics_hash=statistics.hash(),
        training={**dataclasses.asdict(settings), "pictures": len(images)},
        target_input=learned.target_input,
        inverse_target_input=learned.inverse_target_input,
        superclass_encoding=learned.superclass_encoding,
        word_vectors=learned.word_vectors,
        superclass_vectors={key: value.clone() for key, value in superclass_vectors.items()},
        value_targets=learned.value_targets,
    )
    seconds = time.monotonic() - started
    logger.info(
        "Trained %s in %d steps and %.1f s; loss %.4f at first, %.4f at last.",
        word,
        len(losses),
        seconds,
        losses[0],
        losses[-1],
    )
    return TrainingResult(round_for_file(concept), losses, seconds)


def _check_inputs(model: ModelPatcher, clip: CLIP, word: str, superclass: str) -> None:
    cross_attention_layers(model.get_model_object("diffusion_model"))
    if applied_concepts(model) is not None or word in known_words(clip):
        raise PerfusionError(
            f"The model and clip inputs already have concepts applied, which would be learned around; connect them from"
            f" before the gate node to train {word}."
        )
    if not superclass.strip():
        raise PerfusionError(
            "The superclass must be a plain word for the kind of thing, such as teddy or dog, but it is empty; type "
            "one."
        )


def _fitting(images: Tensor, vae: VAE) -> Tensor:
    """The pictures cut, around their middle, to sides that the VAE can encode."""
    step = vae.downscale_ratio if isinstance(vae.downscale_ratio, int) else 8
    height, width = (side // step * step for side in images.shape[1:3])
    if min(height, width) < 8 * step:
        raise PerfusionError(
            f"The pictures must have at least {8 * step} pixels on each side, but they have {images.shape[2]} x "
            f"{images.shape[1]};"
            " use larger ones."
        )
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width].clone()
