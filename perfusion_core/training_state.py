"""All that a training depends on between two of its steps, so that it can be stopped there and go on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .step_choice import Validation

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
    tensors: "target_input" and "superclass_encoding", [d]; "value.<layer>", "word.<key>"; and, from the first step
    on, Adam's moments of each of these two kinds: "exp_avg.value.<layer>" and so on.  From the first validation on,
    "best.target_input" and so on: what had been learned at the best step.
    validations: so far.
    """

    step: int
    micro_batch: int
    losses: tuple[float, ...]
    generator: Tensor
    tensors: Mapping[str, Tensor]
    validations: tuple[Validation, ...] = ()


def adam_moments(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor], kinds: Sequence[str] = MOMENTS
) -> dict[str, Tensor]:
    """Copies of Adam's moments of the named parameters; none before the first step."""
    return {
        f"{moment}.{name}": optimiser.state[parameter][moment].clone()
        for name, parameter in parameters.items()
        if optimiser.state.get(parameter)
        for moment in kinds
    }


def set_adam_moments(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Give Adam copies of the moments that `adam_moments` returned, and none to a parameter that has none there."""
    for name, parameter in parameters.items():
        optimiser.state.pop(parameter, None)
        if f"exp_avg.{name}" not in tensors:
            continue
        optimiser.state[parameter] = {
            # Adam counts on the CPU; the means are where the parameter is.
            moment: tensors[f"{moment}.{name}"].to("cpu" if moment == "step" else parameter.device, copy=True)
            for moment in MOMENTS
        }
