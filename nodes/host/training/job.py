"""Training a concept inside the host's process on the models of its sockets."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ....perfusion_core.concept import RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE, Concept, normalise_word
from ....perfusion_core.concept_check import check_learned, check_saved
from ....perfusion_core.concept_file import round_for_file
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.out_of_memory import CLOSE_OTHERS, memory_for
from ....perfusion_core.step_choice import Validation
from ....perfusion_core.text_statistics import TextStatistics
from ....perfusion_core.training import ConceptTrainer, StepReport, TrainingSettings
from ....perfusion_core.training_run import best_step_within_memory, train
from ..gate.cross_attention import cross_attention_layers
from ..gate.patch import applied_concepts
from ..model_family import check_text_conditioned, model_family
from ..text.encoders import encode_superclass_vectors, text_encoders
from ..text.words import known_words
from .attention_mask import attention_masks
from .autograd import host_in_training
from .concept_effect import check_effect
from .denoising_task import HostDenoisingTask, latent_masks
from .dynamic_memory import trainable_clip, trainable_model
from .files import TrainingFiles
from .judge import LikenessJudge
from .weight_hash import model_hash, tensor_hash, vae_hash

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """A trained concept, rounded as its file holds it.

    losses: of every step.  effect: by how much the concept changes the model's prediction, relative to that.
    path: of its file, None where none was asked for.  masks: the weights of the loss, [P, 1, h, w] in 0..1 at the size
    of the latents, on the CPU; None where every place counted the same.  chosen_step: the one whose tensors the concept
    holds.  validations: by which it was chosen.
    """

    concept: Concept
    losses: list[float]
    seconds: float
    effect: float
    path: Path | None = None
    masks: Tensor | None = None
    chosen_step: int = 0
    validations: tuple[Validation, ...] = ()


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
    files: TrainingFiles | None = None,
    picture: bytes | None = None,
    automatic_mask: bool = False,
    on_preview: Callable[[Concept], None] | None = None,
    preview_every: int = 0,
    gradient_checkpointing: bool = False,
    clip_vision: ClipVisionModel | None = None,
    sample_cfg: float = 3.0,
) -> TrainingResult:
    """Learn the word for what the pictures show.

    images: [P, H, W, 3] in 0..1.  masks: [P, H, W] or None.  `on_step` is called after every step and may raise to
    stop.  files: where the work is kept as it goes and the concept is saved; None keeps nothing.  picture: small JPEG
    for the file.  automatic_mask: whether, without masks, the model's attention to the superclass takes their place.
    on_preview: is given the concept as it is after every `preview_every` steps, 0 for never, to sample with; not after
    the last step.  gradient_checkpointing: whether blocks run again in the backward pass, for less memory and the same
    concept.  clip_vision: chooses the best step, from pictures painted with CFG `sample_cfg`, in place of the
    validation error; see `LikenessJudge`.
    Raises PerfusionError for inputs that cannot be trained on, and where the training led to nothing.  The models keep
    their values bit for bit.
    """
    word, superclass = normalise_word(word), " ".join(superclass.split())
    _check_inputs(model, clip, word, superclass)
    started = time.monotonic()
    masked = "given" if masks is not None else "attention" if automatic_mask else "none"
    smaller = f"train on smaller or fewer pictures, or {CLOSE_OTHERS}"
    with memory_for("the VAE encoded the pictures", smaller):
        latents = vae.encode(_fitting(images, vae)[:, :, :, :3])
    judge = None
    if clip_vision is not None and settings.validate_every:
        with memory_for("clip_vision looked at the pictures", f"disconnect clip_vision, or {CLOSE_OTHERS}"):
            shape = tuple(latents.shape[1:])
            judge = LikenessJudge(clip_vision, model, clip, vae, images, superclass, shape, sample_cfg)
    with torch.inference_mode(False), torch.enable_grad(), host_in_training():
        with memory_for("the models were loaded for the training"):
            trained_model, trained_clip = trainable_model(model), trainable_clip(clip)
            superclass_vectors = encode_superclass_vectors(trained_clip, superclass)
        weights = None if masks is None else latent_masks(masks.clone(), len(latents), latents.shape[-2:])
        inverse = statistics.inverse.clone()
        with HostDenoisingTask(trained_model, trained_clip, latents, weights, word, superclass_vectors) as task:
            task.gradient_checkpointing = gradient_checkpointing
            vectors = {key: value.to(task.device) for key, value in superclass_vectors.items()}
            if masks is None and automatic_mask:
                task.masks = attention_masks(task, vectors, at_once=settings.batch_size)
            with memory_for("the superclass was encoded"):
                trainer = ConceptTrainer(task, settings, vectors, inverse)

            def concept_at(step: int | None = None) -> Concept:
                return _concept(
                    trainer,
                    step,
                    word=word,
                    superclass=superclass,
                    base_model=model_family(model, text_encoders(clip)),
                    clip_layer=clip.layer_idx,
                    statistics_hash=statistics.hash(),
                    superclass_vectors=superclass_vectors,
                    pictures=len(images),
                    masked=masked,
                    judged=judge is not None,
                    picture=picture,
                )

            def keep(concept: Concept | None = None, finished: bool = False) -> None:
                if files is not None:
                    files.save(trainer, concept or concept_at(), finished)

            def follow(report: StepReport) -> None:
                on_step(report)
                if on_preview and preview_every and report.step % preview_every == 0 and report.step < report.steps:
                    _preview(on_preview, concept_at(), task)

            if files is not None:
                fixed = _what_must_not_change(concept_at(), settings, images, masks, masked)
                fixed |= {"VAE": vae_hash(vae), "model": model_hash(model)}
                if judge is not None:
                    fixed |= {"vision model": judge.fingerprint, "sample_cfg": sample_cfg}
                files.open(trainer, fixed)
            if judge is not None:
                trainer.measure = lambda: _unlikeness(judge, concept_at(), task)
            with files.telling_where(trainer) if files else nullcontext():
                release_memory = comfy.model_management.soft_empty_cache
                losses = train(trainer, follow, keep, release_memory)
                chosen = best_step_within_memory(trainer, release_memory)
                learned = concept_at(chosen)
                keep(learned)
            used_masks = None if task.masks is None else task.masks.cpu()
    concept = round_for_file(learned)
    with files.telling_where(trainer) if files else nullcontext():
        check_learned({name: trainer.start[f"value.{name}"] for name in concept.value_targets}, concept)
        if files is not None:
            check_saved(files.path, concept)
        again = f"turn resume on to try only this again, and {CLOSE_OTHERS}"
        with memory_for("the trained concept was tried out", again):
            effect = check_effect(model, clip, concept, tuple(latents.shape[1:]))
        keep(learned, finished=True)
    seconds = time.monotonic() - started
    logger.info(
        "Trained %s to step %d in %.1f s and took step %d; loss %.4f at first, %.4f at last; effect %.0f %%.",
        word,
        len(losses),
        seconds,
        chosen,
        losses[0],
        losses[-1],
        100 * effect,
    )
    validations = tuple(trainer.choice.validations)
    path = files.path if files else None
    return TrainingResult(concept, losses, seconds, effect, path, used_masks, chosen, validations)


def _preview(on_preview: Callable[[Concept], None], concept: Concept, task: HostDenoisingTask) -> None:
    """Show the concept; what goes wrong there is told and does not stop the training, which Cancel does."""
    try:
        on_preview(concept)
    except comfy.model_management.InterruptProcessingException:  # an ordinary Exception in hosts older than 0.20
        raise
    except Exception:
        logger.exception("The preview at step %s failed; the training goes on.", concept.training["steps"])
    finally:
        task.load()


def _unlikeness(judge: LikenessJudge, concept: Concept, task: HostDenoisingTask) -> float:
    """The error of a concept by which the best step is chosen: what its harmonic mean of likenesses lacks to 1."""
    try:
        return 1.0 - judge.likeness(concept).harmonic_mean
    finally:
        task.load()


def _concept(
    trainer: ConceptTrainer, step: int | None, *, pictures: int, masked: str, judged: bool, **described: Any
) -> Concept:
    """The concept as the trainer has it at present, or as it was at the best step."""
    learned = trainer.learned(step)
    settings = {**dataclasses.asdict(trainer.settings), "steps": trainer.step_number, "pictures": pictures}
    settings |= {"masks": masked, "chosen_step": trainer.step_number if step is None else step}
    if judged:
        settings["chosen_by"] = "harmonic mean of CLIP similarities"
    return Concept(
        encoding_width=len(learned.target_input),
        form=trainer.settings.form,
        bias=RECOMMENDED_BIAS,
        temperature=RECOMMENDED_TEMPERATURE,
        training=settings,
        target_input=learned.target_input,
        inverse_target_input=learned.inverse_target_input,
        superclass_encoding=learned.superclass_encoding,
        word_vectors=learned.word_vectors,
        value_targets=learned.value_targets,
        **described,
    )


def _what_must_not_change(
    concept: Concept, settings: TrainingSettings, images: Tensor, masks: Tensor | None, masked: str
) -> dict[str, Any]:
    """All that a training needs to be the same when it goes on, by names for the user.  More steps may be asked for."""
    fixed = {name: value for name, value in dataclasses.asdict(settings).items() if name != "steps"}
    return {
        "pictures": tensor_hash(images),
        "masks": tensor_hash(masks) or masked,
        "word": concept.word,
        "superclass": concept.superclass,
        "model family": concept.base_model,
        "CLIP layer": concept.clip_layer,
        "text statistics": concept.statistics_hash,
        **fixed,
    }


def _check_inputs(model: ModelPatcher, clip: CLIP, word: str, superclass: str) -> None:
    check_text_conditioned(model)
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
