"""One training inside the host's process, from the models of a node's sockets to a concept that was tried out.

    prepare   pictures, models and trainer are made ready, and what was kept of the training is gone on with
    run       all steps, and the choice of the best one
    verify    is it in the file, and does it change the model's prediction?
    result    what came of it

Nothing here knows of a node; what a node shows are hooks, what it keeps are files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import torch

from ....perfusion_core.concept import RECOMMENDED_TEMPERATURE, Concept
from ....perfusion_core.concept_check import check_learned
from ....perfusion_core.concept_file import round_for_file
from ....perfusion_core.memory_plan import MemoryPlan
from ....perfusion_core.out_of_memory import CLOSE_OTHERS, memory_for
from ....perfusion_core.step_choice import Validation
from ....perfusion_core.step_pace import StepPace
from ....perfusion_core.training import ConceptTrainer
from ....perfusion_core.training_pictures import PerPicture, per_picture
from ....perfusion_core.training_run import best_step_within_memory, train
from ....perfusion_core.training_status import StepReport
from ....perfusion_core.varied_prompts import recommended_bias
from ..text.encoders import encode_superclass_vectors
from .attention_mask import attention_masks
from .autograd import host_in_training, ordinary
from .concept_effect import check_effect
from .denoising_task import HostDenoisingTask
from .dynamic_memory import trainable_clip, trainable_model
from .files import NoFiles, TrainingFiles
from .inpainting import cut_out, paints_into_pictures
from .judge import LikenessJudge
from .latents import encoded_pictures, picture_weights
from .measured_memory import plan_memory
from .request import TrainingHooks, TrainingRequest
from .word_similarity import word_similarity

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """A trained concept, rounded as its file holds it.

    losses: of every step.  effect: by how much the concept changes the model's prediction, relative to that.
    path: of its file, None where none was asked for.  masks: the weights of the loss, [1, h, w] by picture in 0..1 at
    the size of the latents, on the CPU; None where every place counted the same.  chosen_step: the one whose tensors
    the concept holds.  validations: by which it was chosen.  memory_plan: how the pictures of a step went through the
    model; None where no step was left to make.
    """

    concept: Concept
    losses: list[float]
    seconds: float
    effect: float
    path: Path | None = None
    masks: PerPicture | None = None
    chosen_step: int = 0
    validations: tuple[Validation, ...] = ()
    memory_plan: MemoryPlan | None = None


class TrainingJob:
    """A training that was asked for.

    hooks: what is watched.  files: where the work is kept as it goes and the concept is saved.
    The acts raise PerfusionError for inputs that cannot be trained on, and where the training led to nothing.  The
    models keep their values bit for bit.
    """

    def __init__(
        self,
        request: TrainingRequest,
        hooks: TrainingHooks | None = None,
        files: TrainingFiles | NoFiles | None = None,
    ) -> None:
        self.request = request
        self.hooks = hooks or TrainingHooks()
        self.files = files or NoFiles()
        self.judge: LikenessJudge | None = None
        self.memory_plan: MemoryPlan | None = None
        self.task: HostDenoisingTask
        self.trainer: ConceptTrainer

    def train(self) -> TrainingResult:
        """The four acts, one after the other."""
        with self.prepare():
            self.run()
        self.verify()
        return self.result()

    @contextmanager
    def prepare(self) -> Iterator[None]:
        """Make pictures, models and trainer ready; until the block ends the models are in training."""
        request = self.request
        request.check()
        self._started = time.monotonic()
        latents = encoded_pictures(request.pictures, request.vae)
        mirrored = encoded_pictures(request.pictures, request.vae, mirrored=True) if request.settings.flip else None
        self._weights = picture_weights(request.pictures, latents)
        self.judge = judge = self._judge()
        with torch.inference_mode(False), torch.enable_grad(), host_in_training():
            with memory_for("the models were loaded for the training"):
                model, clip = trainable_model(request.model), trainable_clip(request.clip)
                self._superclass_vectors = encode_superclass_vectors(clip, request.superclass)
            vectors = self._superclass_vectors
            task = HostDenoisingTask(
                model, clip, latents, None, request.word, vectors, request.pictures.fits, mirrored, request.superclass
            )
            with task as self.task:
                self.trainer = self._trainer()
                self.files.open(self.trainer, self._what_must_not_change())
                self._plan_memory()
                task.masks = self._masks_of_the_loss()
                if task.masks is not None and paints_into_pictures(request.model):
                    task.holes = cut_out(request.pictures, request.vae, task.masks, mirrored=request.settings.flip)
                    task.load()  # the VAE may have taken the models' place
                if judge is not None:
                    self.trainer.measure = lambda: self._unlikeness(judge)
                yield

    def run(self) -> None:
        """Make all steps and choose the best one; the work is kept as it goes."""
        release_memory = comfy.model_management.soft_empty_cache
        with self.files.telling_where(self.trainer):
            if self.files.path is not None:  # a training that was killed may not have come to keeping this step
                self.files.keep_step(self.trainer, self.concept_at)
            train(self.trainer, self._follow, self._keep, release_memory, pace=self._pace())
            self._chosen_step = best_step_within_memory(self.trainer, release_memory)
            self._learned = self.concept_at(self._chosen_step)
            self.files.save(self.trainer, lambda: self._learned)
        self._masks = None if self.task.masks is None else per_picture([mask.cpu() for mask in self.task.masks])

    def verify(self) -> None:
        """Is what was trained in the file, and does the model, which is the host's again, do something with it?"""
        concept, request = round_for_file(self._learned), self.request
        with self.files.telling_where(self.trainer):
            check_learned(self.trainer.values_at_start, concept)
            self.files.check(concept)
            again = f"turn resume on to try only this again, and {CLOSE_OTHERS}"
            with memory_for("the trained concept was tried out", again):
                self._effect = check_effect(request.model, request.clip, concept, request.latent_shape)
            self.files.save(self.trainer, lambda: self._learned, finished=True)
        self._verified = concept

    def result(self) -> TrainingResult:
        """What came of it."""
        result = TrainingResult(
            concept=self._verified,
            losses=list(self.trainer.losses),
            seconds=time.monotonic() - self._started,
            effect=self._effect,
            path=self.files.path,
            masks=self._masks,
            chosen_step=self._chosen_step,
            validations=tuple(self.trainer.choice.validations),
            memory_plan=self.memory_plan,
        )
        logger.info(
            "Trained %s to step %d in %.1f s and took step %d; loss %.4f at first, %.4f at last; effect %.0f %%.",
            result.concept.word,
            len(result.losses),
            result.seconds,
            result.chosen_step,
            result.losses[0],
            result.losses[-1],
            100 * result.effect,
        )
        return result

    def concept_at(self, step: int | None = None) -> Concept:
        """The concept as the trainer has it at present, or as it was at the best step."""
        request, number = self.request, self.trainer.step_number
        training = {**request.settings.recorded(), "steps": number, "pictures": len(request.pictures)}
        training |= {"masks": request.mask_source, "chosen_step": number if step is None else step}
        training |= self.trainer.recorded_rates
        if self.judge is not None:
            training["chosen_by"] = "harmonic mean of CLIP similarities"
        learned = self.trainer.learned(step)
        similarity = word_similarity(self.task, learned)
        training |= {} if similarity is None else similarity.recorded()
        return Concept(
            word=request.word,
            superclass=request.superclass,
            base_model=request.family,
            encoding_width=len(learned.target_input),
            clip_layer=request.clip.layer_idx,
            form=request.settings.form,
            lock=request.settings.lock,
            bias=recommended_bias(request.settings.form, similarity)
            if request.bias_in_use is None
            else request.bias_in_use,
            temperature=RECOMMENDED_TEMPERATURE,
            statistics_hash=request.measured_statistics.hash(),
            training=training,
            superclass_vectors=self._superclass_vectors,
            picture=request.picture,
            **vars(learned),
        )

    def _judge(self) -> LikenessJudge | None:
        request = self.request
        if request.clip_vision is None or not request.settings.validate_every:
            return None
        with memory_for("clip_vision looked at the pictures", f"disconnect clip_vision, or {CLOSE_OTHERS}"):
            return LikenessJudge(
                request.clip_vision,
                request.model,
                request.clip,
                request.vae,
                request.pictures.pictures,
                request.superclass,
                request.latent_shape,
                request.sample_cfg,
            )

    def _trainer(self) -> ConceptTrainer:
        task, settings = self.task, self.request.settings
        task.pooled_lock = settings.pooled_lock
        vectors = {key: value.to(task.device) for key, value in self._superclass_vectors.items()}
        captions = self.request.caption_templates
        with memory_for("the superclass was encoded"):
            return ConceptTrainer(task, settings, vectors, self.request.measured_statistics.inverse.clone(), captions)

    def _plan_memory(self) -> None:
        if self.trainer.step_number >= self.request.settings.steps:  # all that is left is to choose among what was kept
            return
        with memory_for("the models were loaded for the training"):
            self.memory_plan = plan_memory(self.trainer, self.task, self.request.gradient_checkpointing)
        logger.info("Training %s with %s.", self.request.word, self.memory_plan.text())
        self.hooks.on_memory_plan(self.memory_plan)

    def _pace(self) -> StepPace | None:
        """What a step should take; none on a CPU, whose time belongs to others too."""
        cost = self.memory_plan and self.memory_plan.cost
        if cost is None or self.task.device.type == "cpu":
            return None
        return StepPace(cost.seconds * self.request.settings.samples_of_a_step)

    def _masks_of_the_loss(self) -> PerPicture | None:
        """The given masks, and for pictures without one the model's attention, or the same weight everywhere."""
        given = self._weights
        if "attention" in self.request.mask_source:
            vectors = {key: value.to(self.task.device) for key, value in self._superclass_vectors.items()}
            found = attention_masks(self.task, vectors, at_once=self.trainer.micro_batch)
        elif any(mask is not None for mask in given):
            found = [torch.ones_like(latent.flatten(0, -3)[:1]) for latent in self.task.latents]
        else:
            return None
        pairs = zip(given, found, strict=True)
        masks = per_picture([own if mask is None else ordinary(mask).to(own) for mask, own in pairs])
        self.hooks.on_masks(masks)
        return masks

    def _what_must_not_change(self) -> Mapping[str, object]:
        fixed = self.request.what_must_not_change()
        if self.judge is not None:
            fixed |= {"vision model": self.judge.fingerprint, "sample_cfg": self.request.sample_cfg}
        return fixed

    def _keep(self) -> None:
        self.files.save(self.trainer, self.concept_at)

    def _follow(self, report: StepReport) -> None:
        self.files.keep_step(self.trainer, self.concept_at)
        self.hooks.on_step(report)
        every = self.hooks.preview_every
        if every and report.step % every == 0 and report.step < report.steps:
            self._preview()

    def _preview(self) -> None:
        """Show the concept; what goes wrong there is told and does not stop the training, which Cancel does."""
        concept = self.concept_at()
        try:
            self.hooks.on_preview(concept)
        except comfy.model_management.InterruptProcessingException:  # an ordinary Exception in hosts older than 0.20
            raise
        except Exception:
            logger.exception("The preview at step %s failed; the training goes on.", concept.training["steps"])
        finally:
            self.task.load()

    def _unlikeness(self, judge: LikenessJudge) -> float:
        """The error by which the judge chooses the best step: what the harmonic mean of likenesses lacks to 1."""
        concept = self.concept_at()
        try:
            return 1.0 - judge.likeness(concept).harmonic_mean
        finally:
            self.task.load()
