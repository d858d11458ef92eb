"""A toy model for the trainer, in which everything can be computed by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from perfusion_core.caption_templates import TEMPLATES, WORD_FIRST
from perfusion_core.edit import EditedEncoding, add_value_targets
from perfusion_core.step_choice import HELD_OUT_TEMPLATES
from perfusion_core.training import ConceptTrainer, TrainingSettings
from perfusion_core.training_batch import Batch

ALL_TEMPLATES = (*TEMPLATES, *HELD_OUT_TEMPLATES, *WORD_FIRST)
WIDTH, TOKENS, OUT = 6, 4, 5


@dataclass
class ToyTask:
    """One linear value layer over encodings that mix the word into the token behind it; the target is fixed.

    spoil: factor of the loss.  room: pictures that fit into its memory at once.  noise: of the loss.
    scale: of the gradients; above largest_scale they overflow.
    bucket_of: by picture; one bucket where it is empty.
    """

    picture_count: int = 3
    batches: list[Batch] = field(default_factory=list)
    spoil: float = 1.0
    room: int = 1000
    noise: float = 0.01
    seed: int = 5
    scale: float = 1.0
    largest_scale: float = math.inf
    bucket_of: list[int] = field(default_factory=list)
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        draw = torch.Generator().manual_seed(self.seed)
        shared = torch.randn(TOKENS, WIDTH, generator=draw)
        others = torch.randn(len(ALL_TEMPLATES) - len(WORD_FIRST), TOKENS, WIDTH, generator=draw)
        self.values = torch.randn(OUT, WIDTH, generator=draw)
        self.target = torch.randn(OUT, generator=draw)
        word_first = torch.randn(len(WORD_FIRST), TOKENS, WIDTH, generator=draw)
        self.base = shared + 0.1 * torch.cat([others, word_first])
        self.bucket_of = self.bucket_of or [0] * self.picture_count

    def encode(self, word_vectors, templates) -> tuple[Tensor, Tensor]:
        rows = self.base[[ALL_TEMPLATES.index(template) for template in templates]]
        placed = torch.zeros(len(rows), TOKENS, 1)
        placed[:, 1], placed[:, 2] = 1.0, 0.1
        positions = torch.zeros(len(rows), TOKENS, dtype=torch.bool)
        positions[:, 1] = True
        return rows + placed * word_vectors["clip_l"], positions

    def value_outputs(self, encoding: Tensor) -> dict[str, Tensor]:
        return {"layer.attn2": self.values @ encoding}

    def with_noise(self, batch: Batch, generator) -> Batch:
        if batch.noise is not None:
            return batch
        noise = self.noise * torch.randn(len(batch.pictures), TOKENS, OUT, generator=generator)
        return replace(batch, noise=noise)

    def loss(self, batch: Batch, edited: EditedEncoding, value_targets, generator) -> Tensor:
        batch = self.with_noise(batch, generator)
        self.batches.append(batch)
        values = add_value_targets(
            edited.value_context @ self.values.T, edited.value_gates, value_targets["layer.attn2"][None]
        )
        if len(batch.pictures) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        loss = (values[:, 1] - self.target + batch.noise[:, 1]).square().mean() * self.spoil
        if self.scale > self.largest_scale and loss.requires_grad:
            loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    def lower_gradient_scale(self) -> bool:
        if self.scale <= 1:
            return False
        self.scale /= 2
        return True


def start(task: ToyTask | None = None, **changes) -> ConceptTrainer:
    """A trainer of the toy; without validations, which would be among the task's batches."""
    vectors = {"clip_l": torch.linspace(-1, 1, WIDTH)[None]}
    settings = TrainingSettings(**{"steps": 20, "validate_every": 0, **changes})
    return ConceptTrainer(task or ToyTask(), settings, vectors, torch.eye(WIDTH))


def assert_same_state(one: ConceptTrainer, other: ConceptTrainer) -> None:
    """Assert that two trainers are at one point, bit for bit."""
    mine, theirs = one.state(), other.state()
    assert (mine.step, mine.micro_batch, mine.losses) == (theirs.step, theirs.micro_batch, theirs.losses)
    assert mine.validations == theirs.validations
    assert torch.equal(mine.generator, theirs.generator)
    assert set(mine.tensors) == set(theirs.tensors)
    for name, tensor in mine.tensors.items():
        assert torch.equal(tensor, theirs.tensors[name]), name
