"""Perfusion with one piece of the method exchanged, where the pack's own settings cannot say so.

The pack's training function and patch stay as they are; for the length of a training or a painting one name inside
them means something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from perfusion_pack.nodes.host.training import job as train_module
from perfusion_pack.perfusion_core import edit
from perfusion_pack.perfusion_core.edit import ConceptEdit
from perfusion_pack.perfusion_core.learned_tensors import mean_encoding
from perfusion_pack.perfusion_core.training import ConceptTrainer
from torch import Tensor

from .perfusion import Perfusion

_gate = edit.gate  # as it is while another stands in its place


class KeysLearned(ConceptTrainer):
    """The key's target is learned too, where the method locks it: one vector in place of the superclass encoding, which
    every layer projects to its own key."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.superclass_encoding = self.superclass_encoding.clone().requires_grad_()
        relative = self.settings.relative_value_rate
        size = self.superclass_encoding.detach().square().mean().sqrt().item()
        rate = self.settings.value_learning_rate if relative is None else relative * size
        self.optimiser.add_param_group({"params": [self.superclass_encoding], "lr": rate})


class _Watched:
    """A task that keeps the last encoding of the word, with its graph."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self.word_encoding: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def encode(self, word_vectors: Mapping[str, Tensor], templates: Sequence[str]) -> tuple[Tensor, Tensor]:
        encodings, positions = self._task.encode(word_vectors, templates)
        self.word_encoding = mean_encoding(encodings, positions)
        return encodings, positions


class GradientThroughTarget(ConceptTrainer):
    """The gradient also passes through i, as if it were the word's encoding of this step (straight through)."""

    def __init__(self, task: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(_Watched(task), *arguments, **options)

    def edit(self, locks: Tensor | None = None) -> ConceptEdit:
        followed, encoding = self.target_input, self.task.word_encoding
        try:
            self.target_input = followed + encoding - encoding.detach()
            return super().edit(locks)
        finally:
            self.target_input = followed


def linear_gate(similarities: Tensor, bias: float | Tensor, temperature: float | Tensor) -> Tensor:
    """The rank-one edit before it was gated (ROME): as much as the encoding points to the word.  No bias acts on it;
    which tokens are the word's own is decided as ever."""
    return _gate(similarities, bias, temperature) if bias is edit.OWN_TOKEN_BIAS else similarities


def single_projections(directions: Tensor, target_inputs: Tensor, indices: Sequence[int]) -> Tensor:
    """Each concept projected by itself, where the method solves for all of them together."""
    return directions


def similarities_alone(alone: Tensor, coefficients: Tensor, paper_form: Tensor, own: Tensor | None = None) -> Tensor:
    """Each gate measured as if its concept were the only one, as in the paper."""
    return alone


class AlteredPerfusion(Perfusion):
    """Perfusion, local key lock, with the alteration of that name."""

    # name: (object, its attribute, what stands there instead)
    ALTERATIONS = {
        "keys learned": (train_module, "ConceptTrainer", KeysLearned),
        "gradient through i": (train_module, "ConceptTrainer", GradientThroughTarget),
        "linear edit": (edit, "gate", linear_gate),
        "single projections": (edit, "joint_directions", single_projections),
        "gates as if alone": (edit, "joint_similarities", similarities_alone),
    }

    def __init__(self, alteration: str) -> None:
        super().__init__("local")
        self.name = f"perfusion, {alteration}"
        # These treat one concept alone as the method does, so they need no training of their own.
        self.training = "perfusion" if alteration in ("single projections", "gates as if alone") else self.name
        self._alteration = self.ALTERATIONS[alteration]

    @contextmanager
    def altered(self) -> Iterator[None]:
        with mock.patch.object(*self._alteration):
            yield
