"""All that a training depends on between two of its steps, so that it can be stopped there and go on bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .errors import PerfusionError
from .step_choice import StepChoice, Validation

# Prefix of what had been learned at the best step so far.
BEST = "best."

# What Adam keeps of each parameter: the means of gradient and squared gradient, and the number of its steps.
MEANS = ("exp_avg", "exp_avg_sq")
MOMENTS = (*MEANS, "step")


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training between two steps.

    step: steps made.  micro_batch: pictures per forward pass.  losses: of the steps made.
    generator: state of the random generator, uint8 [G].
    tensors: "target_input" and "superclass_encoding", [d]; "value.<layer>", "word.<key>", "encoding_offset"; and, from
    the first step on, Adam's moments of each of the latter kinds: "exp_avg.value.<layer>" and so on.  From the first
    validation on, "best.target_input" and so on: what had been learned at the best step.
    validations: so far.
    """

    step: int
    micro_batch: int
    losses: tuple[float, ...]
    generator: Tensor
    tensors: Mapping[str, Tensor]
    validations: tuple[Validation, ...] = ()


class Trainer(Protocol):
    """What has its state taken and given back here; `training.ConceptTrainer` says what each of these is."""

    step_number: int
    micro_batch: int
    losses: list[float]
    generator: torch.Generator
    choice: StepChoice
    optimiser: torch.optim.Optimizer
    target_input: Tensor
    superclass_encoding: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """All that a concept consists of, by name."""
        ...

    def parameters(self) -> dict[str, Tensor]:
        """What the optimiser moves, by name."""
        ...


def state_of(trainer: Trainer) -> TrainingState:
    """A copy of all that the trainer's next steps depend on, besides its task and its settings."""
    best = {BEST + name: tensor for name, tensor in trainer.choice.tensors.items()}
    return TrainingState(
        step=trainer.step_number,
        micro_batch=trainer.micro_batch,
        losses=tuple(trainer.losses),
        generator=trainer.generator.get_state(),
        tensors={**copies(trainer.tensors()), **moments(trainer), **best},
        validations=tuple(trainer.choice.validations),
    )


def bring_to(trainer: Trainer, state: TrainingState) -> None:
    """Let the trainer go on from a state.  Raises PerfusionError, changing nothing, for one of other tensors."""
    own = {name: tensor.shape for name, tensor in trainer.tensors().items()}
    if own != {name: tensor.shape for name, tensor in state.tensors.items() if name in own}:
        raise PerfusionError(
            f"The training state of step {state.step} holds other layers or words than this model has; train anew."
        )
    with torch.no_grad():
        for name, parameter in trainer.parameters().items():
            parameter.copy_(state.tensors[name])
        trainer.superclass_encoding.copy_(state.tensors["superclass_encoding"])
    trainer.target_input = state.tensors["target_input"].to(trainer.target_input, copy=True)
    _set_moments(trainer, state.tensors)
    trainer.generator.set_state(state.generator)
    trainer.step_number, trainer.micro_batch, trainer.losses = state.step, state.micro_batch, list(state.losses)
    best = {
        name.removeprefix(BEST): tensor.to(trainer.target_input.device)
        for name, tensor in state.tensors.items()
        if name.startswith(BEST)
    }
    # Not `settings.validate_every`: a validation that was given up for lack of memory would be back.
    trainer.choice = StepChoice(trainer.choice.every, list(state.validations), best)


@contextmanager
def unchanged_by_failure(trainer: Trainer) -> Iterator[None]:
    """Whatever stops this block, the trainer is as it was before it, without gradients."""
    before = state_of(trainer)
    try:
        yield
    except BaseException:
        trainer.optimiser.zero_grad(set_to_none=True)
        bring_to(trainer, before)
        raise


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors once more, without their graphs."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def moments(trainer: Trainer, kinds: Sequence[str] = MOMENTS) -> dict[str, Tensor]:
    """Copies of Adam's moments of the trainer's parameters; none before the first step."""
    state = trainer.optimiser.state
    return {
        f"{moment}.{name}": state[parameter][moment].clone()
        for name, parameter in trainer.parameters().items()
        if state.get(parameter)
        for moment in kinds
    }


def _set_moments(trainer: Trainer, tensors: Mapping[str, Tensor]) -> None:
    """Give Adam copies of the moments that `moments` returned, and none to a parameter that has none there."""
    for name, parameter in trainer.parameters().items():
        trainer.optimiser.state.pop(parameter, None)
        if f"exp_avg.{name}" not in tensors:
            continue
        trainer.optimiser.state[parameter] = {
            # Adam counts on the CPU; the means are where the parameter is.
            moment: tensors[f"{moment}.{name}"].to("cpu" if moment == "step" else parameter.device, copy=True)
            for moment in MOMENTS
        }


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number of all these tensors is finite; asked of the device once."""
    return bool(torch.cat([tensor.detach().flatten() for tensor in tensors]).isfinite().all())
