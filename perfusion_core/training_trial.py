"""One picture forward and backward, to see what it takes before the first step."""

from __future__ import annotations

import torch

from .training import ConceptTrainer
from .training_batch import Batch


def try_one_picture(trainer: ConceptTrainer, picture: int) -> None:
    """Forward and backward pass of one picture as a step makes them, over when it returns; nothing is learned from it,
    and the trainer stays as it was, random numbers too.
    """
    batch = Batch(
        pictures=torch.tensor([picture]),
        mirrored=torch.tensor([False]),
        templates=torch.tensor([0]),
        locks=torch.zeros(1) if trainer.settings.draws_locks else None,
    )
    parameters = trainer.parameters().values()
    try:
        settings, generator = trainer.settings, torch.Generator().manual_seed(0)
        trainer.loss(batch, settings.templates, generator, settings.attention_weight)[0].backward()
        # Reading a number waits for the device.
        sum(parameter.grad.sum().item() for parameter in parameters if parameter.grad is not None)
    finally:
        for parameter in parameters:
            parameter.grad = None
