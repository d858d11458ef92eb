"""The projections of a model's attention layers while it paints a source and its edits.

The host, IPAdapter's kind of attention replacement and attention patches all call to_q, to_k, to_v and to_out of a
layer as modules and in this order; the attention between them is theirs. So the edit is in what these return.
Nothing is written in place: the gate keeps the keys and values that it returns.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor
from torch.nn import Module

from ....perfusion_core.attention_maps import word_attention
from ..gate.cross_attention import Forward
from ..gate.model_call import stand_in
from .attention_blocks import CROSS, PROJECTIONS, SELF, attention_layers
from .edit_run import EditRun, Moment
from .edited_rows import Pair


class Place(NamedTuple):
    """A projection: the name of its block's cross-attention layer, which attention of the block, which projection."""

    block: str
    attention: str
    projection: str


def projections_of(diffusion_model: Module, current: threading.local) -> dict[Place, Forward]:
    """Return the functions that stand in for the projections of a model of this kind (`stand_in`)."""
    places = [Place(*key, name) for key in attention_layers(diffusion_model) for name in PROJECTIONS[key[1]]]
    return {place: stand_in(current, place) for place in places}


class EditCall:
    """One call of the model with edits in it.

    pairs: the rows of each edit and of its source.  total: all rows.  layers: as `attention_layers` returns them.
    latent_size: rows and columns of this call's latents.
    """

    def __init__(
        self,
        run: EditRun,
        moment: Moment,
        pairs: list[Pair],
        total: int,
        latent_size: tuple[int, int],
        layers: Mapping[tuple[str, str], Any],
    ) -> None:
        self.run, self.moment, self.pairs, self.total = run, moment, pairs, total
        self.records = moment.records and latent_size == run.latent_size  # an area shows a part of the picture
        self.layers = layers
        self.originals: dict[Place, Forward] = {}
        self._from_source = {
            SELF: self._rows_taking(moment.own),
            CROSS: self._rows_taking([values.of_source is not None for values in moment.cross]),
        }
        self._queries: dict[str, Tensor] = {}
        self._keys: dict[str, Tensor] = {}
        self._added: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def places(self) -> list[Place]:
        """The projections that this call changes or looks at."""
        wanted = [SELF] if any(self.moment.own) else []
        if self.records or not all(values.changes_nothing for values in self.moment.cross):
            wanted.append(CROSS)
        keys = [key for key in self.layers if key[1] in wanted and key not in self.run.misfits]
        return [Place(*key, name) for key in keys for name in PROJECTIONS[key[1]]]

    def project(self, place: Place, states: Tensor) -> Tensor:
        """Return what one projection gives under the edits: [B, L, d] -> [B, L, d_out]."""
        original = self.originals[place]
        if place.projection == "to_out":
            return original(self._with_own_part(place.block, states))
        projected = original(states)
        if (place.block, place.attention) in self.run.misfits or not self._fits(place, projected):
            return projected
        if place.attention == CROSS:
            if place.projection == "to_q":
                self._queries[place.block] = projected
            elif place.projection == "to_k":
                self._keys[place.block] = projected
                self._record(place.block)
            else:
                return self._values(place.block, projected)
        taking = self._from_source[place.attention]
        return projected if taking is None else projected[taking]

    def _rows_taking(self, taking: Sequence[bool]) -> Tensor | None:
        """For every row the one whose queries and keys it gets; None where each has its own."""
        if not any(taking):
            return None
        rows = torch.arange(self.total, device=self.pairs[0].edited.device)
        for pair, takes in zip(self.pairs, taking, strict=True):
            if takes:
                rows[pair.edited] = pair.source
        return rows

    def _fits(self, place: Place, projected: Tensor) -> bool:
        """Whether rows and tokens are as many as the run has; attention couple, for one, changes them on the way."""
        of_text = place.attention == CROSS and place.projection != "to_q"
        fits = len(projected) == self.total and (not of_text or projected.shape[1] % self.run.plan.length == 0)
        if not fits:
            self.run.leave_out(place.block, place.attention)
        return fits

    def _record(self, block: str) -> None:
        if not self.records:
            return
        queries, keys, heads = self._queries[block], self._keys[block], self.layers[block, CROSS].heads
        for edit, words in self.run.recorded(self.moment):
            rows = self.pairs[edit].source if words.of_source else self.pairs[edit].edited
            if len(rows):
                places = words.places(keys.shape[1], keys.device)
                words.add(word_attention(queries[rows], keys[rows], heads, places))

    def _values(self, block: str, values: Tensor) -> Tensor:
        queries, keys, layer = self._queries.pop(block), self._keys.pop(block), self.layers[block, CROSS]
        made, added = values, []
        times = values.shape[1] // self.run.plan.length
        for edit, ((edited, _), factors) in enumerate(zip(self.pairs, self.moment.cross, strict=True)):
            if not len(edited) or factors.changes_nothing:
                continue
            factors = self.run.factors(edit, self.moment, times, values)
            own = values[edited]
            if factors.own is not None:
                own = own * factors.own[:, None]
            made = made.clone() if made is values else made
            made[edited] = own if factors.of_source is None else factors.of_source @ values[edited]
            if factors.has_both:
                attended = optimized_attention(
                    queries[edited], keys[edited], own, layer.heads, attn_precision=layer.attn_precision
                )
                added.append((edited, attended))
        self._added[block] = added
        return made

    def _with_own_part(self, block: str, attended: Tensor) -> Tensor:
        added = self._added.pop(block, ())
        if added and len(attended) == self.total:
            attended = attended.clone()
            for rows, own in added:
                attended[rows] += own
        return attended
