"""Perfusion with values of their own at low noise, as an experiment: the trainer and the run that know of them.

Trained and used by exchanging `ConceptTrainer` and `GateRun` for these for the length of a training or of a sampling
run; the pack itself learns one value for each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from exchanged_trainer import AroundTask, learning_with
from perfusion_pack.nodes.host.gate import patch as patch_module
from perfusion_pack.nodes.host.gate.run import GateRun
from perfusion_pack.perfusion_core.edit import EditedEncoding
from perfusion_pack.perfusion_core.training import ConceptTrainer
from perfusion_pack.perfusion_core.training_batch import Batch
from perfusion_pack.perfusion_core.training_state import copies
from perfusion_pack.perfusion_core.value_difference import hold_differences
from torch import Tensor

MIDDLE = 0.5  # of the schedule; below it noise is low
LOW = "low."  # before the layer, of the names of the values at low noise


class _AtBothLevels(AroundTask):
    """A task whose samples have the values of their noise level.

    low: the values at low noise by layer, [d_out].  high_too: whether there are any at high noise."""

    def __init__(self, task: Any, high_too: bool) -> None:
        super().__init__(task)
        self._high_too = high_too
        self.low: Mapping[str, Tensor] = {}

    def loss(
        self, batch: Batch, edited: EditedEncoding, value_targets: Mapping[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        batch = self._task.with_noise(batch, generator)
        assert batch.levels is not None
        is_low = (batch.levels < MIDDLE).to(edited.value_gates)[:, None, None]
        is_high = (1 - is_low) * self._high_too
        gates = torch.cat([edited.value_gates * is_high, edited.value_gates * is_low], dim=-1)
        targets = {name: torch.stack([high, self.low[name]]) for name, high in value_targets.items()}
        return self._task.loss(batch, replace(edited, value_gates=gates), targets, generator)


class TwoValues(ConceptTrainer):
    """Learns a value for each layer at high noise and another one at low noise, both held alike."""

    def __init__(self, task: Any, *arguments: Any, high_too: bool, **options: Any) -> None:
        self.low: dict[str, Tensor] = {}
        super().__init__(_AtBothLevels(task, high_too), *arguments, **options)
        self.low = {name: value.detach().clone().requires_grad_() for name, value in self.value_targets.items()}
        self.task.low = self.low
        for name, value in self.low.items():
            self.optimiser.add_param_group({"params": [value], "lr": self.rates[f"value.{name}"]})

    def step(self) -> Any:
        report = super().step()
        references = {name: self.start[f"value.{name}"] for name in self.low}
        hold_differences(self.low, references, self.settings.difference_decay, self.settings.difference_cap)
        return report

    def parameters(self) -> dict[str, Tensor]:
        return {**super().parameters(), **{LOW + name: value for name, value in self.low.items()}}

    def low_values(self, step: int) -> dict[str, Tensor]:
        """The values at low noise of the present step or of the best one, float32 on the CPU."""
        tensors = self.tensors() if step == self.step_number else self.choice.tensors
        found = {name.removeprefix(LOW): tensor for name, tensor in tensors.items() if name.startswith(LOW)}
        return {name: tensor.cpu().float() for name, tensor in copies(found).items()}


def learning_two_values(high_too: bool) -> AbstractContextManager[list[TwoValues]]:
    """Trainings in this context learn two values; the list gets their trainers."""
    return learning_with(partial(TwoValues, high_too=high_too))


@contextmanager
def using_two_values(low: Mapping[str, Tensor], high_too: bool) -> Iterator[None]:
    """Sampling runs of one concept in this context take these values, by layer, [d_out], where noise is low."""
    with mock.patch.object(patch_module, "GateRun", _run_of(low, high_too)):
        yield


def _run_of(low: Mapping[str, Tensor], high_too: bool) -> Callable[..., GateRun]:
    class TwoValuesRun(GateRun):
        is_low = False

        def open_concepts(self, model_sampling: Any, sigma: Tensor) -> tuple[int, ...]:
            level = float(model_sampling.timestep(sigma.flatten()[:1])[0]) / (len(model_sampling.sigmas) - 1)
            self.is_low = level < MIDDLE
            return super().open_concepts(model_sampling, sigma)

        def targets(self, concepts: tuple[int, ...], layer: str, device: torch.device) -> Tensor:
            if self.is_low:
                return low[layer][None].to(device)
            return super().targets(concepts, layer, device) * high_too

    # Projections that are kept would be those of the other level.
    return lambda *arguments, **options: TwoValuesRun(*arguments, **{**options, "reuse_projections": False})
