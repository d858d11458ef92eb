"""Perfusion with several values for a concept, between which the query chooses, as an experiment: the trainer and the
run that know of them (Nested Attention, Patashnik et al. 2025, has the idea).

A prompt's last places are padding.  In a prompt with the word they become further tokens of the concept: each is the
padding's encoding plus a learned offset, which decides what looks at it, and has a learned value of its own in every
layer, opened by the word's gate.  At the first step all of that is zero, so the concept is its word alone.

Trained and used by exchanging `ConceptTrainer` and `GateRun` for these for the length of a training or of a sampling
run; the pack itself learns one value for each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from exchanged_trainer import AroundTask, learning_with
from perfusion_pack.nodes.host.gate import patch as patch_module
from perfusion_pack.nodes.host.gate.run import GateRun
from perfusion_pack.perfusion_core.edit import EditedEncoding
from perfusion_pack.perfusion_core.training import ConceptTrainer
from perfusion_pack.perfusion_core.training_state import copies
from perfusion_pack.perfusion_core.value_difference import hold_differences
from torch import Tensor

OFFSETS, MORE = "more.offsets", "more."  # names of the learned tensors: the latter before a layer
# Of the encoding's size in a step, as the values' own rate is of theirs.
RELATIVE_OFFSET_RATE = 0.03


@dataclass
class MoreValues:
    """offsets: of the encodings of R further tokens, [R, d].  values: theirs in each layer, [R, d_out]."""

    offsets: Tensor
    values: Mapping[str, Tensor]

    def added_to(self, edited: EditedEncoding, gates: Tensor) -> EditedEncoding:
        """The edit of one concept with the further tokens in the last places of each prompt, as far as its gate, [B],
        is open there."""
        count = len(self.offsets)
        opened = (gates > 0).to(edited.value_context)[:, None, None]

        def with_tokens(context: Tensor) -> Tensor:
            last = context[:, -count:]
            return torch.cat([context[:, :-count], last + opened * self.offsets.to(context)], dim=1)

        here = torch.eye(count).to(gates)[None] * gates[:, None, None]
        elsewhere = here.new_zeros(len(gates), edited.value_gates.shape[1] - count, count)
        more = torch.cat([elsewhere, here], dim=1).to(edited.value_gates)
        return replace(
            edited,
            key_context=with_tokens(edited.key_context),
            value_context=with_tokens(edited.value_context),
            value_gates=torch.cat([edited.value_gates, more], dim=-1),
        )


class _WithMoreValues(AroundTask):
    """A task whose prompts, all of which have the word, have further tokens of it."""

    more: MoreValues | None = None

    def loss(
        self, batch: Any, edited: EditedEncoding, value_targets: Mapping[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        assert self.more is not None
        edited = self.more.added_to(edited, edited.value_gates[..., 0].amax(dim=-1))
        targets = {name: torch.cat([one[None], self.more.values[name]]) for name, one in value_targets.items()}
        return self._task.loss(batch, edited, targets, generator)


class MoreValuesTrainer(ConceptTrainer):
    """Learns `count` further tokens; their values are held as the word's own is."""

    def __init__(self, task: Any, *arguments: Any, count: int, **options: Any) -> None:
        self.more: MoreValues | None = None
        super().__init__(_WithMoreValues(task), *arguments, **options)
        like = self.superclass_encoding
        values = {name: one.detach().repeat(count, 1).requires_grad_() for name, one in self.value_targets.items()}
        self.more = self.task.more = MoreValues(torch.zeros_like(like).repeat(count, 1).requires_grad_(), values)
        size = like.square().mean().sqrt().item()
        self.optimiser.add_param_group({"params": [self.more.offsets], "lr": RELATIVE_OFFSET_RATE * size})
        for name, value in values.items():
            self.optimiser.add_param_group({"params": [value], "lr": self.rates[f"value.{name}"]})

    def step(self) -> Any:
        report = super().step()
        assert self.more is not None
        for name, values in self.more.values.items():
            for value in values.detach():
                held = self.settings.difference_decay, self.settings.difference_cap
                hold_differences({name: value}, {name: self.start[f"value.{name}"]}, *held)
        return report

    def parameters(self) -> dict[str, Tensor]:
        if self.more is None:
            return super().parameters()
        more = {MORE + name: value for name, value in self.more.values.items()}
        return {**super().parameters(), OFFSETS: self.more.offsets, **more}

    def more_values(self, step: int) -> MoreValues:
        """Those of the present step or of the best one, float32 on the CPU."""
        tensors = self.tensors() if step == self.step_number else self.choice.tensors
        found = {name: one.cpu().float() for name, one in copies(tensors).items() if name.startswith(MORE)}
        return MoreValues(found.pop(OFFSETS), {name.removeprefix(MORE): one for name, one in found.items()})


def learning_more_values(count: int) -> AbstractContextManager[list[MoreValuesTrainer]]:
    """Trainings in this context learn so many further tokens; the list gets their trainers."""
    return learning_with(partial(MoreValuesTrainer, count=count))


@contextmanager
def using_more_values(more: MoreValues) -> Iterator[None]:
    """Sampling runs of one concept in this context have these further tokens."""

    class MoreValuesRun(GateRun):
        def spoken_and_edited(self, *arguments: Any, **options: Any) -> tuple[Tensor, EditedEncoding]:
            spoken, edited = super().spoken_and_edited(*arguments, **options)
            gates = edited.value_gates[..., 0].amax(dim=-1)
            # Elsewhere it is no word of the concept's, but something like it.
            return spoken, more.added_to(edited, torch.where(gates > 0.5, gates, 0.0))

        def targets(self, concepts: tuple[int, ...], layer: str, device: torch.device) -> Tensor:
            return torch.cat([super().targets(concepts, layer, device), more.values[layer].to(device)])

    with mock.patch.object(patch_module, "GateRun", MoreValuesRun):
        yield
