"""Which step of a training to keep: the one with the lowest validation error.

The loss of the steps themselves cannot tell, since each step draws other noise and the noise level decides most of the
loss.  A validation always sees the same pictures with the same noise, at noise levels spread evenly over the schedule,
and the word in templates that the training does not use.  It has half as many samples again as a step but no gradient,
and takes about as long as one step: at most 5 % of a training that is validated every 25 steps, as in the paper.  What
the paper checks there, likeness by CLIP, needs a vision model (docs/method.md, "Training").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .training_batch import Batch

# None of them is among the templates of the training, and every text encoder knows their words.
HELD_OUT_TEMPLATES = ("a picture of a {}", "a {}", "the {}", "this is a {}")

AT_ONCE = 4  # samples in a forward pass; without gradients they need less memory than one that is trained on
SEED = 20_230_501  # of the noise

# Successive multiples of the golden ratio spread evenly whatever their number, and do not keep step with the pictures.
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class Validation:
    """The validation error after a step; step 0 is the plain superclass."""

    step: int
    error: float


@dataclass
class StepChoice:
    """The validations of a training so far, and what was learned at the best step.

    every: steps between validations, 0 for none.  tensors: of the best step by name; never changed in place.
    """

    every: int
    validations: list[Validation] = field(default_factory=list)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def best(self) -> Validation | None:
        """The validation of the best step, the earliest of equals; step 0 has learned nothing and does not count."""
        return min((v for v in self.validations if v.step > 0), key=lambda v: v.error, default=None)

    def is_due(self, step: int) -> bool:
        """Whether this step is to be validated and was not yet."""
        return self.every > 0 and step % self.every == 0 and all(v.step != step for v in self.validations)

    def add(self, validation: Validation, tensors: Mapping[str, Tensor]) -> None:
        """Note a validation, and what had been learned by then."""
        self.validations.append(validation)
        if self.best == validation:
            self.tensors = tensors


def validation_samples(samples_of_a_step: int) -> int:
    """The number of samples of a validation, which has no gradients and so takes about as long as a step."""
    return max(2, 3 * samples_of_a_step // 2)


def validation_batches(
    pictures: int,
    samples: int,
    at_once: int = AT_ONCE,
    bucket_of: Sequence[int] | None = None,
    both_locks: bool = False,
) -> Iterator[tuple[Batch, torch.Generator]]:
    """The same samples each time, in batches with the generator of their noise; templates index HELD_OUT_TEMPLATES.

    at_once: size of the batches, always the same in a training: noise drawn in other portions would be other noise.
    bucket_of: the number of each picture's bucket; a batch has pictures of one.
    both_locks: whether half of the samples, two by two, are measured with locked keys and half with own ones.
    """
    index = torch.arange(samples)
    everything = Batch(
        pictures=index % pictures,
        mirrored=torch.zeros(samples, dtype=torch.bool),
        templates=index % len(HELD_OUT_TEMPLATES),
        levels=((index + 0.5) * _GOLDEN_RATIO) % 1.0,
        locks=(index // 2 % 2).float() if both_locks else None,
    )
    parts = [everything] if bucket_of is None else everything.by_bucket(bucket_of)
    for number, batch in enumerate(batch for part in parts for batch in part.split(at_once)):
        yield batch, torch.Generator().manual_seed(SEED + number)
