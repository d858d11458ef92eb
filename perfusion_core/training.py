"""Learning a concept: the training loop, which knows tensors and a `DenoisingTask`, and nothing of a user interface.

What is learned (Perfusion, section 4.4): the token vectors of the word, and one target value o_V per cross-attention
layer; where it is asked for, an offset of the word's encoding too.  The target input i is not learned but follows: an
exponential moving average of the word's encoding, moved once per optimiser step.  No key is learned: keys are locked to
the superclass, the word's own (forms unlocked, residual and anchored), or now the one and now the other (form
lockable).  In residual and anchored o_V is a difference to the word's own values and starts at zero, where the word is
alone (textual inversion, Gal et al. 2022).

The gradient passes through the encoding (so the word learns through similarity, gate and subtraction) but not through
i, which is a statistic of earlier steps: letting it through was worse or made no difference (benchmarks/choices.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .attention_aim import AttentionAim
from .caption_templates import TEMPLATES, WORD_FIRST, with_captions
from .denoising import DenoisingTask
from .edit import RESIDUAL, ConceptEdit, EditedEncoding, edit_encoding, is_lock
from .encoding_offset import OFFSET, check_offset_rate, with_offset
from .errors import GradientOverflowError, PerfusionError
from .learned_tensors import LearnedTensors, learned_tensors, mean_encoding
from .learning_rates import Rate, learning_rates, recorded_rates
from .step_choice import (
    AT_ONCE,
    HELD_OUT_TEMPLATES,
    StepChoice,
    Validation,
    validation_batches,
    validation_samples,
)
from .training_batch import Batch
from .training_state import (
    MEANS,
    TrainingState,
    all_finite,
    bring_to,
    copies,
    moments,
    state_of,
    unchanged_by_failure,
)
from .training_status import StepReport
from .value_difference import hold_differences


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training.

    steps: optimiser steps.  batch_size: pictures per forward pass.  accumulation: forward passes per optimiser step.
    value_learning_rate, word_learning_rate: of Adam, for o_V and for the word's vectors, in their own units.
    relative_value_rate, relative_word_rate: the same in units of the size that each has at the start, see
    `learning_rates`; where one is given, it counts and the other does not.
    target_input_decay: of the moving average that i is.  bias, temperature: of the gate while training.
    normalise_gate: whether i is scaled, when all is learned, to a similarity of 1 with the word (`learned_tensors`).
    form: of the edit, see `edit.FORMS`.  flip: whether half of the pictures are mirrored.  seed: of everything
    random.  validate_every: steps between the validations that choose the best step; 0 takes the last one.
    noise_alone: share of the samples whose latent is noise alone, at the schedule's last level.  A sampler starts
    there, while the schedule keeps a trace of the picture.  The paper has none, and with own keys none is better.
    lock: of the keys in the form lockable, 0 to 1; None draws 0 or 1 for each sample, so that one concept serves all.
    word_first: whether some of the templates begin with the word.  The paper has none.
    pooled_lock: whether a model that is told the prompt's pooled vector, as SDXL is, is told that of the superclass.
    difference_decay, difference_cap: of the forms anchored and residual, see `hold_differences`.
    attention_weight: of the loss by which the word's attention is drawn into the masks, see `attention_aim`.
    relative_offset_rate: of the word's `encoding_offset`, in units of the superclass' encoding; None learns none.
    """

    steps: int = 300
    batch_size: int = 8
    accumulation: int = 1
    value_learning_rate: float = 0.02
    word_learning_rate: float = 0.006
    target_input_decay: float = 0.99
    bias: float = 0.75
    temperature: float = 0.1
    normalise_gate: bool = True
    form: str = "unlocked"
    flip: bool = True
    seed: int = 0
    validate_every: int = 25
    noise_alone: float = 0.0
    relative_value_rate: float | None = None
    relative_word_rate: float | None = None
    lock: float | None = None
    word_first: bool = True
    pooled_lock: bool = False
    difference_decay: float | None = None
    difference_cap: float | None = None
    attention_weight: float | None = None
    relative_offset_rate: float | None = None

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "batch_size": 1, "accumulation": 1, "validate_every": 0}.items():
            if getattr(self, name) < least:
                raise PerfusionError(
                    f"The training setting {name} must be at least {least}, but it is {getattr(self, name)}."
                )
        if not 0 <= self.noise_alone <= 1:
            raise PerfusionError(
                f"The training setting noise_alone must be a share from 0 to 1, but it is {self.noise_alone}."
            )
        for name in ("attention_weight", "relative_offset_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise PerfusionError(f"The training setting {name} must be 0 or more, but it is {value}.")
        check_offset_rate(self.relative_offset_rate, self.rates[1].at(1.0))
        for name, most in {"difference_decay": 1.0, "difference_cap": math.inf}.items():
            value = getattr(self, name)
            if value is not None and not (self.form in RESIDUAL and 0 <= value <= most):
                raise PerfusionError(
                    f"The training setting {name} must be a number from 0 to {most:g} and needs the form anchored or"
                    f" residual, but it is {value} in the form {self.form}; choose the form anchored, or set it to 0."
                )
        if self.lock is not None and not (self.form == "lockable" and is_lock(self.lock)):
            raise PerfusionError(
                f"The training setting lock must be a number from 0 to 1 and needs the form lockable, but it is"
                f" {self.lock} in the form {self.form}."
            )

    @property
    def rates(self) -> tuple[Rate, Rate]:
        """Of the values, and of the word's vectors."""
        values = Rate(self.value_learning_rate, self.relative_value_rate)
        return values, Rate(self.word_learning_rate, self.relative_word_rate)

    @property
    def offset_rate(self) -> Rate:
        """Of the offset of the word's encoding."""
        return Rate(relative=self.relative_offset_rate)

    def recorded(self) -> dict[str, Any]:
        """As files tell them, JSON values.  A setting that came later is left out where it asks for nothing, so that
        a training without it is to the byte what it was before."""
        return {name: value for name, value in asdict(self).items() if value or name != "relative_offset_rate"}

    @property
    def templates(self) -> tuple[str, ...]:
        """Of the prompts that the word is learned in."""
        return (*TEMPLATES, *WORD_FIRST) if self.word_first else TEMPLATES

    @property
    def draws_locks(self) -> bool:
        """Whether each sample has a lock of its own."""
        return self.form == "lockable" and self.lock is None

    @property
    def learns_difference(self) -> bool:
        """Whether o_V is a difference to the word's own values."""
        return self.form in RESIDUAL

    @property
    def samples_of_a_step(self) -> int:
        """Pictures per optimiser step, however they are parted."""
        return self.batch_size * self.accumulation


class ConceptTrainer:
    """A training in progress.

    task: the model.  settings: see there.  superclass_vectors: by embedding key, [m, width], where the word starts.
    inverse: C^-1 of the text statistics, [d, d].  Everything runs on the device of the task's encodings.
    captions: by picture, a template of its own or None; see `caption_templates`.

    micro_batch: pictures per forward pass at present, batch_size unless memory ran out.  losses: of all steps so far.
    choice: the validations so far and the best step.  measure: gives the error of what was learned so far, in place of
    the denoising error, where it is set.
    rates: Adam's learning rate of each of the `parameters`.  recorded_rates: as a file says them.
    encoding_offset: what is added to the word's encoding, [p, d], or None.  values_at_start: o_V at step 0, by layer.
    start: the superclass' values and encoding, by which one model is told from another.
    """

    def __init__(
        self,
        task: DenoisingTask,
        settings: TrainingSettings,
        superclass_vectors: Mapping[str, Tensor],
        inverse: Tensor,
        captions: Sequence[str | None] = (),
    ) -> None:
        self.task = task
        self.captions = captions
        self.settings = settings
        self.step_number = 0
        self.micro_batch = settings.batch_size
        self.losses: list[float] = []
        self.choice = StepChoice(settings.validate_every)
        self.measure: Callable[[], float] | None = None
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.word_vectors = {
            key: vectors.detach().clone().requires_grad_() for key, vectors in superclass_vectors.items()
        }
        with torch.no_grad():
            # The word starts as its superclass, so at step 0 both have this encoding.
            encodings, positions = task.encode(self.word_vectors, settings.templates)
            self.superclass_encoding = mean_encoding(encodings, positions)
            self.target_input = self.superclass_encoding.clone()
            self.inverse = inverse.to(self.target_input)
            of_superclass = copies(task.value_outputs(self.superclass_encoding))
            self.values_at_start = copies(of_superclass)
            if settings.learns_difference:
                self.values_at_start = {name: torch.zeros_like(value) for name, value in of_superclass.items()}
            self.value_targets = {name: value.clone().requires_grad_() for name, value in self.values_at_start.items()}
        self.encoding_offset: Tensor | None = None
        if settings.relative_offset_rate:  # for each position of the word, which every template has once
            nothing = torch.zeros_like(self.superclass_encoding)
            self.encoding_offset = nothing.repeat(int(positions[0].sum()), 1).requires_grad_()
        values = {f"value.{name}": value for name, value in of_superclass.items()}
        self.start = {**values, **copies({"superclass_encoding": self.superclass_encoding})}
        # What starts at zero has no size; that of what it is added to is its unit.
        sizes = {**self.parameters(), **values}
        sizes |= {OFFSET: self.superclass_encoding} if OFFSET in sizes else {}
        self.rates = learning_rates(*settings.rates, sizes, settings.offset_rate)
        self.recorded_rates = recorded_rates(self.rates, sizes)
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(
            [{"params": [self.parameters()[name]], "lr": rate} for name, rate in self.rates.items()]
        )

    def step(self) -> StepReport:
        """One optimiser step, whole or not at all.

        Raises PerfusionError where the loss is not finite, GradientOverflowError where what it makes of the learned
        tensors is not; after this or any other exception tensors, moments and random numbers are those before the step.
        """
        settings, loss_sum, word_sum, word_count = self.settings, 0.0, 0.0, 0
        with unchanged_by_failure(self):
            self.optimiser.zero_grad(set_to_none=True)
            for batch in self._micro_batches():
                loss, encodings, positions, edited = self.loss(
                    batch, settings.templates, self.generator, settings.attention_weight
                )
                if not math.isfinite(loss.item()):
                    raise self._not_finite(f"loss became {loss.item()}")
                share = len(batch.pictures) / settings.samples_of_a_step
                (loss * share).backward()
                loss_sum += loss.item() * share
                at_words = encodings.detach()[positions].float()
                word_sum, word_count = word_sum + at_words.sum(dim=0), word_count + len(at_words)
            at_word = positions[..., None].expand_as(edited.gates)
            similarity, gate = (t[at_word].mean().item() for t in (edited.similarities, edited.gates))

            self.optimiser.step()
            references = {name: self.start[f"value.{name}"] for name in self.value_targets}
            hold_differences(self.value_targets, references, settings.difference_decay, settings.difference_cap)
            decay = settings.target_input_decay
            self.target_input = decay * self.target_input + (1 - decay) * (word_sum / word_count)
            # With Adam's moments: where one of them overflows, its parameter stands still for ever without a sign.
            if not all_finite([*self.tensors().values(), *moments(self, MEANS).values()]):
                raise self._not_finite("learned tensors became infinite or not a number", GradientOverflowError)
            self.step_number += 1
            self.losses.append(loss_sum)
        return StepReport(self.step_number, settings.steps, loss_sum, similarity, gate)

    def _micro_batches(self) -> Iterator[Batch]:
        """The samples of a step with their noise, in parts of one size that fit into the memory; what they are does not
        depend on the parts.  Pictures of several buckets so have the share in each step that they have in one."""
        for _ in range(self.settings.accumulation):
            for bucket in self._draw().by_bucket(self.task.bucket_of):
                yield from self.task.with_noise(bucket, self.generator).split(self.micro_batch)

    def _draw(self) -> Batch:
        size, generator, share = (self.settings.batch_size,), self.generator, self.settings.noise_alone
        return Batch(
            pictures=torch.randint(self.task.picture_count, size, generator=generator),
            mirrored=(torch.rand(size, generator=generator) < 0.5) & self.settings.flip,
            templates=torch.randint(len(self.settings.templates), size, generator=generator),
            noise_alone=torch.rand(size, generator=generator) < share if share else None,
            locks=(torch.rand(size, generator=generator) < 0.5).float() if self.settings.draws_locks else None,
        )

    def loss(
        self, batch: Batch, templates: Sequence[str], generator: torch.Generator, attention_weight: float | None = None
    ) -> tuple[Tensor, Tensor, Tensor, EditedEncoding]:
        """The loss of a batch, with the encodings [B, N, d], the word's positions [B, N] and the edit it came from.

        attention_weight: of what is asked of the attention; without one it is the denoising error alone."""
        batch, templates = with_captions(batch, templates, self.captions)
        used, rows = batch.templates.unique(return_inverse=True)
        encodings, positions = self._encode(self.word_vectors, self.encoding_offset, [templates[int(i)] for i in used])
        encodings, positions = encodings[rows], positions[rows]
        edited = edit_encoding(encodings, [self.edit(batch.locks)])
        asked = {"aim": AttentionAim(positions, attention_weight)} if attention_weight else {}
        loss = self.task.loss(batch, edited, self.value_targets, generator, **asked)
        return loss, encodings, positions, edited

    def edit(self, locks: Tensor | None = None) -> ConceptEdit:
        """The edit by what was learned so far, with the gate of the training.  locks: of each sample, [B]."""
        settings = self.settings
        return ConceptEdit(
            self.target_input,
            self.inverse @ self.target_input,
            self.superclass_encoding,
            settings.bias,
            settings.temperature,
            form=settings.form,
            lock=settings.lock if locks is None else locks[:, None],
        )

    def validate(self) -> None:
        """Measure the present step where that is due and was not done yet; see `StepChoice`."""
        if self.choice.is_due(self.step_number):
            self.choice.add(Validation(self.step_number, self.validation_error()), copies(self.tensors()))

    def validation_error(self) -> float:
        """The error of what was learned so far: what `measure` says, otherwise the denoising error on the fixed samples
        of a validation, which draw nothing from the training's random numbers.  Raises PerfusionError where it is not
        finite."""
        error = self._denoising_error() if self.measure is None else self.measure()
        if not math.isfinite(error):
            raise self._not_finite(f"validation error became {error}")
        return error

    @torch.no_grad()
    def _denoising_error(self) -> float:
        samples = validation_samples(self.settings.samples_of_a_step)
        at_once = min(AT_ONCE, self.settings.batch_size)
        error = 0.0
        batches = validation_batches(
            self.task.picture_count, samples, at_once, self.task.bucket_of, self.settings.draws_locks
        )
        for batch, generator in batches:
            for part in self.task.with_noise(batch, generator).split(self.micro_batch):
                error += self.loss(part, HELD_OUT_TEMPLATES, generator)[0].item() * len(part.pictures) / samples
        return error

    def best_step(self) -> int:
        """The step to keep: the best of those that were validated and the present one, which is the last.

        See `training_run.best_step_within_memory`."""
        best = self.choice.best
        if best is None or best.step == self.step_number:
            return self.step_number
        if any(v.step == self.step_number for v in self.choice.validations):
            return best.step
        # Not noted in the choice: a longer training, which might go on from here, would not have stopped for it.
        return self.step_number if self.validation_error() < best.error else best.step

    def learned(self, step: int | None = None) -> LearnedTensors:
        """A copy of what was learned, float32 on the CPU, by the present step or by the best of the validated ones.

        With `normalise_gate` the word is encoded for it."""
        tensors = self.tensors()
        if step not in (None, self.step_number):
            if self.choice.best is None or self.choice.best.step != step:
                raise ValueError(f"only the present and the best step are known, not {step}")
            tensors = self.choice.tensors

        word = None
        if self.settings.normalise_gate:
            vectors = {key: tensors[f"word.{key}"] for key in self.word_vectors}
            with torch.no_grad():
                word = mean_encoding(*self._encode(vectors, tensors.get(OFFSET), self.settings.templates))
        return learned_tensors(tensors, self.inverse, word)

    def parameters(self) -> dict[str, Tensor]:
        """What the optimiser moves: "value.<layer>", [d_out], "word.<key>", [m, width], and where one is learned
        "encoding_offset", [p, d]."""
        offset = {} if self.encoding_offset is None else {OFFSET: self.encoding_offset}
        return {
            **{f"value.{name}": value for name, value in self.value_targets.items()},
            **{f"word.{key}": vectors for key, vectors in self.word_vectors.items()},
            **offset,
        }

    def tensors(self) -> dict[str, Tensor]:
        """All that a concept consists of: the parameters, "target_input" and "superclass_encoding", [d]."""
        return {
            "target_input": self.target_input,
            "superclass_encoding": self.superclass_encoding,
            **self.parameters(),
        }

    def state(self) -> TrainingState:
        """A copy of all that the next steps depend on, besides the task and the settings."""
        return state_of(self)

    def restore(self, state: TrainingState) -> None:
        """Go on from a state, bit for bit. Raises PerfusionError, changing nothing, for one of other tensors."""
        bring_to(self, state)

    def _encode(
        self, vectors: Mapping[str, Tensor], offset: Tensor | None, templates: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """The encodings of the word with its offset, [T, N, d], and its positions, [T, N]."""
        encodings, positions = self.task.encode(vectors, templates)
        return with_offset(encodings, positions, offset), positions

    def _not_finite(self, problem: str, kind: type[PerfusionError] = PerfusionError) -> PerfusionError:
        return kind(
            f"The training's {problem} at step {self.step_number + 1} where finite numbers were expected; load the"
            " model and the VAE in float32, or lower relative_value_rate and relative_word_rate in the preset Custom."
        )
