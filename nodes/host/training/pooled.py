"""The pooled vector of every prompt that is encoded in one batch, which SDXL is told beside the encoding.

The host takes several prompts for chunks of one, and hands on the pooled vector of the first alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..gate.projection_swap import swapped_forwards


def encode_with_each_pooled(
    encoders: Iterable[Module], encode: Callable[[], tuple], prompts: int
) -> tuple[Tensor, Tensor | None]:
    """Return what `encode` gives, an encoding, and the pooled vectors of its prompts, [prompts, p], detached; None
    where the model has none.

    encoders: of the CLIP, of which one gives the pooled vector that the host hands on; from an encoder of another
    making, whose vectors are not found, all prompts get the first one's.
    """
    seen: list[Tensor] = []

    def listening(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            outputs = forward(*args, **kwargs)
            if isinstance(outputs[1], Tensor):
                seen.append(outputs[1].detach())
            return outputs

        return run

    with swapped_forwards([(encoder, listening(encoder.forward)) for encoder in encoders]):
        encoding, pooled = encode()[:2]
    if pooled is None:
        return encoding, None
    pooled = pooled.detach()
    for rows in seen:
        if len(rows) >= prompts and torch.equal(rows[:1].to(pooled), pooled):
            return encoding, rows[:prompts].to(pooled)
    return encoding, pooled.expand(prompts, -1)
