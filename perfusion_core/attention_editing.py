"""Prompt-to-Prompt without ever making an attention map.

An edited picture e is painted beside its source s, with the attention maps of the source in place of its own (Hertz et
al., 2022, arXiv 2208.01626).  A map enters a layer's output linearly.  With queries Q, keys K and values V, the
alignment's shares A [S, E], a in {0, 1} for each edited token (does it take the source's attention now?) and c, the
weight of its word:

    output_e = softmax(Q_s K_s^T) [A diag(a c) V_e]  +  softmax(Q_e K_e^T) [diag((1 - a) c) V_e]

Each term is an ordinary attention, which the host computes by its own fused kernel: the first with the source's queries
and keys, the second with the edit's own.  With all a = 1 the second one vanishes, with all a = 0 the first.

In self-attention the maps are taken over by copying Q_s and K_s; the values stay the edit's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .token_alignment import Alignment


@dataclass(frozen=True, eq=False)
class EditedValues:
    """The two factors in front of V_e at one moment.

    of_source: A diag(a c), [S, E]; None where no token takes the source's attention.
    own: (1 - a) c, [E]; None where all of it is taken, or nothing but ones.
    """

    of_source: Tensor | None
    own: Tensor | None

    @property
    def changes_nothing(self) -> bool:
        """Whether the edit's attention is left as it is."""
        return self.of_source is None and self.own is None

    @property
    def has_both(self) -> bool:
        """Whether two attentions are needed."""
        return self.of_source is not None and self.own is not None


def edited_values(alignment: Alignment, taking: Tensor, weights: Tensor) -> EditedValues:
    """The factors for one moment.

    taking: bool [E], whether a token takes the source's attention now; one without a counterpart never does.
    weights: [E], 1 for a word that is left as it is.
    """
    taking = taking & alignment.has_source
    own = torch.where(taking, 0.0, weights)
    if not taking.any():
        return EditedValues(None, None if bool((own == 1).all()) else own)
    return EditedValues(alignment.shares * torch.where(taking, weights, 0.0), own if bool(own.any()) else None)


def blended(source: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """Local blend: the source, [..., h, w], with the edit where the mask, broadcast to it, is 1."""
    return torch.lerp(source, edited, mask)


def soft_threshold(maps: Tensor, threshold: float, softness: float) -> Tensor:
    """Maps with values in 0..1 as masks: a ramp of the width `softness` around the threshold; 0 cuts hard."""
    if softness <= 0:
        return (maps > threshold).to(maps)
    return ((maps - threshold) / softness + 0.5).clamp(0, 1)
