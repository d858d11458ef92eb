"""Learning a concept: the training loop, which knows tensors and a `DenoisingTask`, and nothing of a user interface.

What is learned (Perfusion, section 4.4): the token vectors of the word, and one target value o_V per cross-attention
layer.  The target input i is not learned but follows: an exponential moving average of the word's encoding, moved once
per optimiser step.  The keys are locked to the superclass and never learned.

The gradient passes through the encoding (so the word learns through similarity, gate and subtraction) but not through
i,
which is a statistic of earlier steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .concept import unit_energy
from .edit import ConceptEdit, EditedEncoding, edit_encoding
from .errors import PerfusionError
from .training_state import MEANS, TrainingState, adam_moments, set_adam_moments

# The templates of the paper's training, as its re-implementations list them (method.md, section 2).
TEMPLATES = (
    "a photo of a {}",
    "a good photo of a {}",
    "the photo of a {}",
    "a good photo of the {}",
    "image of a {}",
    "image of the {}",
    "A photograph of {}",
    "A {} shown in a photo",
    "A photo of {}",
)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training.

    steps: optimiser steps.  batch_size: pictures per forward pass.  accumulation: forward passes per optimiser step.
    value_learning_rate, word_learning_rate: of Adam, for o_V and for the word's vectors.  The paper has .03 for o_V; on
    the demo model .01 kept the kind better (category right in 1.00 of 72 pictures against .90, thing .44 against .38).
    target_input_decay: of the moving average that i is.  bias, temperature: of the gate while training.
    form: of the edit, "gated" or "paper".  flip: whether half of the pictures are mirrored.  seed: of everything
    random.
    """

    steps: int = 300
    batch_size: int = 8
    accumulation: int = 1
    value_learning_rate: float = 0.01
    word_learning_rate: float = 0.006
    target_input_decay: float = 0.99
    bias: float = 0.75
    temperature: float = 0.1
    form: str = "gated"
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise PerfusionError(
                    f"The training setting {name} must be at least 1, but it is {getattr(self, name)}."
                )


@dataclass(frozen=True)
class Batch:
    """What one forward pass is made of: a picture, its mirroring, and a template for each of B samples."""

    pictures: Tensor  # indices, int64 [B]
    mirrored: Tensor  # bool [B]
    templates: Tensor  # indices into a list of templates, int64 [B]
    levels: Tensor | None = None  # noise levels as shares of the schedule, 0..1, [B]; None draws them

    def split(self, size: int) -> Iterator[Batch]:
        """The same samples in parts of at most `size`."""
        parts = [self.pictures.split(size), self.mirrored.split(size), self.templates.split(size)]
        if self.levels is not None:
            parts.append(self.levels.split(size))
        return (Batch(*part) for part in zip(*parts, strict=True))


class DenoisingTask(Protocol):
    """The model under training, as the loop sees it."""

    picture_count: int

    def encode(self, word_vectors: Mapping[str, Tensor], templates: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encodings [T, N, d] of the templates with the word in them, differentiable in its vectors; and a boolean
        mask [T, N] of the positions at which the word's vectors stand."""

    def value_outputs(self, encoding: Tensor) -> dict[str, Tensor]:
        """W_V e for every cross-attention layer: encoding [d] -> {layer name: [d_out]}, float32."""

    def loss(
        self, batch: Batch, edited: EditedEncoding, value_targets: Mapping[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Denoising error, a scalar, of the batch under the edit; noise and noise levels come from the generator."""


@dataclass(frozen=True)
class StepReport:
    """What a step says of itself: its number from 1 on, the loss, and the word's mean similarity and gate."""

    step: int
    steps: int
    loss: float
    similarity: float
    gate: float


@dataclass(frozen=True)
class LearnedTensors:
    """A snapshot of what the training has learned; see `Concept` for the names."""

    target_input: Tensor
    inverse_target_input: Tensor
    superclass_encoding: Tensor
    word_vectors: dict[str, Tensor]
    value_targets: dict[str, Tensor]


class ConceptTrainer:
    """A training in progress.

    task: the model.  settings: see there.  superclass_vectors: by embedding key, [m, width], where the word starts.
    inverse: C^-1 of the text statistics, [d, d].  Everything runs on the device of the task's encodings.

    A step happens whole or not at all: whatever stops it, tensors, moments and random numbers are those before it.
    micro_batch: pictures per forward pass at present, batch_size unless memory ran out.  losses: of all steps so far.
    start: what the learned values and the superclass' encoding were at step 0; it tells one model from another.
    """

    def __init__(
        self, task: DenoisingTask, settings: TrainingSettings, superclass_vectors: Mapping[str, Tensor], inverse: Tensor
    ) -> None:
        self.task = task
        self.settings = settings
        self.step_number = 0
        self.micro_batch = settings.batch_size
        self.losses: list[float] = []
        self._generator = torch.Generator().manual_seed(settings.seed)
        self.word_vectors = {
            key: vectors.detach().clone().requires_grad_() for key, vectors in superclass_vectors.items()
        }
        with torch.no_grad():
            encodings, positions = task.encode(self.word_vectors, TEMPLATES)
            # The word starts as its superclass, so at step 0 both have this encoding: the mean over the templates.
            self.superclass_encoding = mean_encoding(encodings, positions)
            self.target_input = self.superclass_encoding.clone()
            self._inverse = inverse.to(self.target_input)
            self.value_targets = {
                name: value.detach().clone().requires_grad_()
                for name, value in task.value_outputs(self.superclass_encoding).items()
            }
        self.start = {
            name: tensor.detach().clone()
            for name, tensor in self._tensors().items()
            if name.startswith("value.") or name == "superclass_encoding"
        }
        self._optimiser = torch.optim.Adam(
            [
                {"params": list(self.value_targets.values()), "lr": settings.value_learning_rate},
                {"params": list(self.word_vectors.values()), "lr": settings.word_learning_rate},
            ]
        )

    def step(self) -> StepReport:
        """One optimiser step. Raises PerfusionError where the loss or what it makes of the learned tensors is not
        finite; after this or any other exception the trainer is as it was before the step."""
        before = self.state()
        try:
            return self._step()
        except BaseException:
            self._optimiser.zero_grad(set_to_none=True)
            self.restore(before)
            raise

    def _step(self) -> StepReport:
        settings, loss_sum, encodings_seen = self.settings, 0.0, []
        self._optimiser.zero_grad(set_to_none=True)
        for batch in (part for _ in range(settings.accumulation) for part in self._draw().split(self.micro_batch)):
            share = len(batch.pictures) / (settings.batch_size * settings.accumulation)
            used, rows = batch.templates.unique(return_inverse=True)
            encodings, positions = self.task.encode(self.word_vectors, [TEMPLATES[i] for i in used.tolist()])
            encodings, positions = encodings[rows], positions[rows]
            edited = edit_encoding(encodings, [self._edit()])
            loss = self.task.loss(batch, edited, self.value_targets, self._generator)
            if not math.isfinite(loss.item()):
                raise self._not_finite(f"loss became {loss.item()}")
            (loss * share).backward()
            loss_sum += loss.item() * share
            encodings_seen.append(share * mean_encoding(encodings.detach(), positions))
        at_word = positions[..., None].expand_as(edited.gates)
        report = StepReport(
            self.step_number + 1,
            settings.steps,
            loss_sum,
            edited.similarities[at_word].mean().item(),
            edited.gates[at_word].mean().item(),
        )
        self._optimiser.step()
        decay = settings.target_input_decay
        self.target_input = decay * self.target_input + (1 - decay) * torch.stack(encodings_seen).sum(dim=0)
        # With Adam's moments: where one of them overflows, its parameter stands still for ever without a sign.
        moments = adam_moments(self._optimiser, self._parameters(), MEANS).values()
        if not torch.cat([t.detach().flatten() for t in (*self._tensors().values(), *moments)]).isfinite().all():
            raise self._not_finite("learned tensors became infinite or not a number")
        self.step_number += 1
        self.losses.append(loss_sum)
        return report

    def _not_finite(self, problem: str) -> PerfusionError:
        return PerfusionError(
            f"The training's {problem} at step {self.step_number + 1} where finite numbers were expected; lower the"
            " learning rates, or load the model and the VAE in float32."
        )

    def _parameters(self) -> dict[str, Tensor]:
        return {
            **{f"value.{name}": value for name, value in self.value_targets.items()},
            **{f"word.{key}": vectors for key, vectors in self.word_vectors.items()},
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "target_input": self.target_input,
            "superclass_encoding": self.superclass_encoding,
            **self._parameters(),
        }

    def state(self) -> TrainingState:
        """A copy of all that the next steps depend on, besides the task and the settings."""
        learned = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}
        return TrainingState(
            step=self.step_number,
            micro_batch=self.micro_batch,
            losses=tuple(self.losses),
            generator=self._generator.get_state(),
            tensors={**learned, **adam_moments(self._optimiser, self._parameters())},
        )

    def restore(self, state: TrainingState) -> None:
        """Go on from a state, bit for bit. Raises PerfusionError, changing nothing, for one of other tensors."""
        own = {name: tensor.shape for name, tensor in self._tensors().items()}
        if own != {name: tensor.shape for name, tensor in state.tensors.items() if name in own}:
            raise PerfusionError(
                f"The training state of step {state.step} holds other layers or words than this model has; train anew."
            )
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(state.tensors[name])
            self.superclass_encoding.copy_(state.tensors["superclass_encoding"])
        self.target_input = state.tensors["target_input"].to(self.target_input, copy=True)
        set_adam_moments(self._optimiser, self._parameters(), state.tensors)
        self._generator.set_state(state.generator)
        self.step_number, self.micro_batch, self.losses = state.step, state.micro_batch, list(state.losses)

    def learned(self) -> LearnedTensors:
        """A copy of what was learned so far, float32 on the CPU."""

        def copied(tensor: Tensor) -> Tensor:
            return tensor.detach().to("cpu", torch.float32, copy=True)

        target_input = copied(self.target_input)
        return LearnedTensors(
            target_input,
            unit_energy(target_input, copied(self._inverse @ self.target_input)),
            copied(self.superclass_encoding),
            {key: copied(vectors) for key, vectors in self.word_vectors.items()},
            {name: copied(value) for name, value in self.value_targets.items()},
        )

    def _edit(self) -> ConceptEdit:
        settings = self.settings
        return ConceptEdit(
            self.target_input,
            self._inverse @ self.target_input,
            self.superclass_encoding,
            settings.bias,
            settings.temperature,
            form=settings.form,
        )

    def _draw(self) -> Batch:
        size, generator = (self.settings.batch_size,), self._generator
        return Batch(
            pictures=torch.randint(self.task.picture_count, size, generator=generator),
            mirrored=(torch.rand(size, generator=generator) < 0.5) & self.settings.flip,
            templates=torch.randint(len(TEMPLATES), size, generator=generator),
        )


def mean_encoding(encodings: Tensor, positions: Tensor) -> Tensor:
    """Mean encoding over all marked positions: [T, N, d], bool [T, N] -> [d], float32."""
    return encodings[positions].float().mean(dim=0)


def masked_mean(errors: Tensor, masks: Tensor | None) -> Tensor:
    """Mean of errors [B, C, H, W], weighted by masks [B, 1, H, W] if there are any.

    Each picture counts the same however small its mask is: sum(mask * error) / sum(mask), per picture, then the mean.
    """
    if masks is None:
        return errors.mean()
    weighted = (errors * masks).sum(dim=(1, 2, 3)) / (masks.sum(dim=(1, 2, 3)) * errors.shape[1])
    return weighted.mean()
