"""Queries and keys of the cross-attention layers, where they are projected.

The host never has attention probabilities: its back ends are fused.  Nothing stays behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from ....perfusion_core.attention_aim import AttentionAim, share_outside
from ....perfusion_core.errors import PerfusionError
from ..gate.cross_attention import CrossAttention, compared_by
from ..gate.projection_swap import Replacement, swapped_forwards
from .autograd import scaled_gradient

# Is told the name of a layer, its queries, its keys, and the number of its heads.
OnLayer = Callable[[str, Tensor, Tensor, int], None]


class AimedAttention:
    """The loss of an `AttentionAim` over all layers in one forward pass.

    masks: of the samples, [B, 1, h, w].
    """

    def __init__(self, aim: AttentionAim, masks: Tensor) -> None:
        self._aim, self._masks = aim, masks
        self._outside: list[Tensor] = []
        self._told = False

    def watch(self, layers: Mapping[str, CrossAttention], gradient_scale: float) -> list[Replacement]:
        """What `swapped_forwards` needs to look on.  gradient_scale: that of the gradients inside the model."""

        def on_layer(_name: str, queries: Tensor, keys: Tensor, heads: int) -> None:
            outside = share_outside(queries, keys, heads, self._aim.positions, self._masks)
            # Gradient checkpointing comes by again, with the same numbers, and needs the same operations.
            if outside is not None and not self._told:
                self._outside.append(scaled_gradient(outside, gradient_scale))

        return watching(layers, on_layer)

    def loss(self) -> Tensor:
        """The loss with its weight, a scalar.  Raises PerfusionError where no layer sees the picture as a grid."""
        self._told = True
        if not self._outside:
            raise PerfusionError(
                "The input attention_weight needs layers whose positions are those of the picture, but this model has"
                " none; set it to 0."
            )
        total, count = sum(self._outside[1:], self._outside[0]), len(self._outside)
        self._outside.clear()
        return self._aim.weight * total / count


@contextmanager
def captured_attention(layers: Mapping[str, CrossAttention], on_layer: OnLayer) -> Iterator[None]:
    """While the block is open, tell `on_layer` the name, queries [B, L, H * D], keys [B, N, H * D] and number H of
    heads of every cross-attention layer that runs.

    layers: as `cross_attention_layers` gives them.  What the layers compute stays the same bit for bit.
    """
    with swapped_forwards(watching(layers, on_layer)):
        yield


def watching(layers: Mapping[str, CrossAttention], on_layer: OnLayer) -> list[Replacement]:
    """What `swapped_forwards` needs for that, around whatever the layers run at present."""
    return [pair for name, layer in layers.items() for pair in _watching(name, layer, on_layer)]


def _watching(name: str, layer: CrossAttention, on_layer: OnLayer) -> list[Replacement]:
    """Every layer makes its queries before its keys, in whatever version of the host; both keep their own values."""
    queries_by, keys_by = compared_by(layer)
    project_queries, project_keys, seen = queries_by.forward, keys_by.forward, dict[str, Tensor]()

    def to_q(states: Tensor) -> Tensor:
        seen["queries"] = project_queries(states)
        return seen["queries"]

    def to_k(context: Tensor) -> Tensor:
        keys = project_keys(context)
        on_layer(name, seen.pop("queries").flatten(2), keys.flatten(2), layer.heads)
        return keys

    return [(queries_by, to_q), (keys_by, to_k)]
