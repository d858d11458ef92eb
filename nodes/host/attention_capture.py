"""The host never has attention probabilities: its back ends are fused.  So queries and keys are taken where each
cross-attention layer projects them, for the length of one call of the model, and nothing stays behind.

Every layer runs `to_q` before `to_k`, in whatever version of the host; both keep their own values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor
from torch.nn import Module

from .projection_swap import swapped_forwards


@contextmanager
def captured_attention(
    layers: Mapping[str, Module], on_layer: Callable[[str, Tensor, Tensor, int], None]
) -> Iterator[None]:
    """While the block is open, tell `on_layer` the name, queries [B, L, H * D], keys [B, N, H * D] and number H of
    heads of every cross-attention layer that runs.

    layers: as `cross_attention_layers` gives them.  What the layers compute stays the same bit for bit.
    """
    replacements = []
    for name, layer in layers.items():
        replacements += _watching(name, layer, on_layer)
    with swapped_forwards(replacements):
        yield


def _watching(
    name: str, layer: Module, on_layer: Callable[[str, Tensor, Tensor, int], None]
) -> list[tuple[Module, Callable[[Tensor], Tensor]]]:
    project_queries, project_keys, seen = layer.to_q.forward, layer.to_k.forward, {}

    def to_q(states: Tensor) -> Tensor:
        seen["queries"] = project_queries(states)
        return seen["queries"]

    def to_k(context: Tensor) -> Tensor:
        keys = project_keys(context)
        on_layer(name, seen.pop("queries"), keys, layer.heads)
        return keys

    return [(layer.to_q, to_q), (layer.to_k, to_k)]
