"""What one sampling run with edits remembers between its steps, and what it makes of each step's result."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from ....perfusion_core.attention_editing import EditedValues, blended, edited_values, soft_threshold
from ....perfusion_core.attention_maps import AttentionMaps
from ....perfusion_core.prompt_edit import Window
from .attention_blocks import attention_layers
from .edited_prompts import EditPlan
from .shared_noise import SharedNoise

logger = logging.getLogger(__name__)


class RealPicture(NamedTuple):
    """A source that is given: its error goes to the edits, `strength` of it, until `end` percent."""

    strength: float = 1.0
    end: float = 1.0


class Moment(NamedTuple):
    """What is due at one noise level, for each edit.

    open: which windows are open.  cross: the factors of the values for encodings of the plan's length.
    own: whether self-attention is the source's.  blends, records: whether local blends act, and need maps.
    """

    open: frozenset[Window]
    cross: tuple[EditedValues, ...]
    own: tuple[bool, ...]
    blends: tuple[bool, ...]
    records: bool


@dataclass(eq=False)
class WordMaps:
    """The attention to one phrase of a source or an edit, summed over layers and steps.

    positions: bool [L], its tokens.  maps: of all pictures of the run.
    """

    positions: Tensor
    of_source: bool
    pictures: int
    latent_size: tuple[int, int]
    maps: AttentionMaps | None = None
    _places: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict)

    def places(self, length: int, device: torch.device) -> Tensor:
        """Where the phrase stands in encodings of this length, which repeat those of the plan; on the device."""
        if (length, device) not in self._places:
            repeated = self.positions.repeat(length // len(self.positions))
            self._places[length, device] = repeated.nonzero().flatten().to(device)
        return self._places[length, device]

    def add(self, attention: Tensor) -> None:
        """attention [n * P, places]: once for each entry of the conditioning with all P pictures."""
        if self.maps is None:
            self.maps = AttentionMaps(self.pictures, self.latent_size, attention.device)
        for part in attention.split(self.pictures):
            self.maps.add(part)


class EditRun:
    """The memory of one run.

    shape: of the latents, [P * rows, C, H, W].  real: for pictures that are given.
    """

    def __init__(self, plan: EditPlan, real: RealPicture | None, shape: torch.Size, model_sampling: Any) -> None:
        self.plan, self.real = plan, real
        self.shape = shape
        self.pictures = shape[0] // plan.rows
        self.latent_size = (shape[-2], shape[-1])
        self.noise = SharedNoise(shape, plan.rows)
        self.picture: Tensor | None = None  # the latents of given pictures, as the sampler has them
        self.masks: dict[int, Tensor] = {}
        self.misfits: set[tuple[str, str]] = set()
        self._sampling = model_sampling
        self._sigmas: dict[float, float] = {}
        self._moments: dict[frozenset[Window], Moment] = {}
        self._factors: dict[tuple, EditedValues] = {}
        self._layers: dict[int, tuple[Module, dict[tuple[str, str], Any]]] = {}
        self._words = [
            [
                WordMaps(words, of_source, self.pictures, self.latent_size)
                for of_source, phrases in ((True, edit.source_words), (False, edit.edited_words))
                for words in phrases
            ]
            for edit in plan.edits
        ]

    def layers(self, diffusion_model: Module) -> dict[tuple[str, str], Any]:
        """Return the attention layers of the model that is running, looked up once per run."""
        found = self._layers.get(id(diffusion_model))
        if found is None:  # keeps the model alive, so that its id stays its own
            found = self._layers[id(diffusion_model)] = (diffusion_model, attention_layers(diffusion_model))
        return found[1]

    def moment(self, sigma: Tensor) -> Moment:
        """Return what is due at this noise level, by the host's own rule for start and end percent."""
        level = float(sigma.flatten()[0])
        edits = self.plan.edits
        blends = [edit.blend.window if edit.blend else (0.0, 0.0) for edit in edits]
        recorded = [(0.0, end) for _, end in blends]
        windows = {window for edit in edits for window in (*edit.windows, edit.own)}.union(blends, recorded)
        is_open = frozenset(window for window in windows if self.is_open(window, level))
        if is_open not in self._moments:
            self._moments[is_open] = Moment(
                is_open,
                tuple(self._edited_values(edit, is_open, 1) for edit in range(len(edits))),
                tuple(edit.own in is_open for edit in edits),
                tuple(window in is_open for window in blends),
                any(window in is_open for window in recorded),
            )
        return self._moments[is_open]

    def is_open(self, window: Window, level: float) -> bool:
        start, end = window
        return start < end and self._sigma(end) <= level <= self._sigma(start)

    def _sigma(self, percent: float) -> float:
        if percent not in self._sigmas:
            self._sigmas[percent] = float(self._sampling.percent_to_sigma(percent))
        return self._sigmas[percent]

    def _edited_values(self, edit: int, is_open: frozenset[Window], times: int) -> EditedValues:
        planned = self.plan.edits[edit]
        taking = torch.tensor([window in is_open for window in planned.windows])
        alignment = planned.alignment if times == 1 else planned.alignment.repeated(times, times)
        return edited_values(alignment, taking.repeat(times), planned.weights.repeat(times))

    def factors(self, edit: int, moment: Moment, times: int, like: Tensor) -> EditedValues:
        """The factors for encodings that the host repeated so many times, on the device and in the dtype of `like`."""
        key = (edit, moment.open, times, like.device, like.dtype)
        if key not in self._factors:
            made = self._edited_values(edit, moment.open, times)
            parts = (None if part is None else part.to(like) for part in (made.of_source, made.own))
            self._factors[key] = EditedValues(*parts)
        return self._factors[key]

    def recorded(self, moment: Moment) -> Iterator[tuple[int, WordMaps]]:
        """The words whose maps are needed, with the number of their edit."""
        for edit, words in enumerate(self._words):
            blend = self.plan.edits[edit].blend
            if blend is not None and (0.0, blend.window[1]) in moment.open:
                yield from ((edit, one) for one in words)

    def leave_out(self, block: str, attention: str) -> None:
        """Another patch changes the rows or tokens of this layer; it stays as it is, and one warning says so."""
        if not self.misfits:
            logger.warning(
                "Another patch of the MODEL changes how many pictures or words an attention layer sees (attention"
                " couple, HyperTile and token merging do); edits leave such layers alone. Take it out for closer edits."
            )
        self.misfits.add((block, attention))

    def finished(self, denoised: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised latents of a step, [P * rows, ...], with the source's error and the local blends."""
        if denoised.shape != self.shape:  # a part of the picture, as tiled samplers paint it
            return denoised
        moment, rows = self.moment(sigma), self.plan.rows
        by_row = denoised.unflatten(0, (self.pictures, rows))
        source, edits = by_row[:, 0], [by_row[:, row] for row in range(1, rows)]
        if self.real is not None and self.picture is not None:
            given = self.picture.to(denoised)[::rows]
            if self.is_open((0.0, self.real.end), float(sigma.flatten()[0])):
                edits = [torch.lerp(edit, given + (edit - source), self.real.strength) for edit in edits]
            source = given
        for number, edit in enumerate(edits):
            mask = self._mask(number) if moment.blends[number] else None
            if mask is not None:
                edits[number] = blended(source, edit, mask.to(edit))
        return torch.stack([source, *edits], dim=1).flatten(0, 1)

    def _mask(self, edit: int) -> Tensor | None:
        """Where an edit may change the picture now, [P, 1, h, w] in 0..1; None while nothing is known."""
        blend = self.plan.edits[edit].blend
        maps = [words.maps for words in self._words[edit] if words.maps is not None]
        masks = [one.masks() for one in maps if one.is_known]
        if blend is None or not masks:
            return None
        mask = soft_threshold(torch.stack(masks).amax(dim=0), blend.threshold, blend.softness)
        self.masks[edit] = 1 - mask if blend.around else mask
        return self.masks[edit]

    def last_masks(self) -> Tensor:
        """Where each row may differ from its source, [P * rows, h, w]: nowhere for a source, everywhere without a
        blend."""
        made = torch.ones(self.pictures, self.plan.rows, *self.latent_size)
        made[:, 0] = 0
        for edit, mask in self.masks.items():
            made[:, edit + 1] = mask[:, 0]
        return made.flatten(0, 1)
