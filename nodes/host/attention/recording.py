"""Recording where a sampling run looks at each word: cross-attention maps of every run of a MODEL.

The host never has attention probabilities: its back ends are fused.  So queries and keys are taken where each
cross-attention layer projects them, as they are in force there, with concepts and all; the layers go on with the same
tensors.  All stands in the run's own list of wrappers, behind all others, and nothing stays behind.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn import Module

from ....perfusion_core.attention_record import PARTS, AttentionRecord, Place, token_attention
from ..gate.cross_attention import CrossAttention, Forward, cross_attention_layers
from ..gate.model_call import ModelCall, around_calls, stand_in
from ..model_family import check_text_conditioned
from .run_prompts import NUMBER_KEY, RunPrompt, StepPlaces, number_prompts

_KEY = "perfusion_for_comfyui.attention_record"
_QUERIES, _KEYS = "to_q", "to_k"

logger = logging.getLogger(__name__)


@dataclass
class RecordedAttention:
    """What goes by the wire: the maps of the run that was made last, None before the first.

    prompts: those that were watched, by the number in a `Place`.
    """

    record: AttentionRecord | None = None
    prompts: Sequence[RunPrompt] = ()


def record_attention(model: ModelPatcher) -> tuple[ModelPatcher, RecordedAttention]:
    """Return a clone of the MODEL that records the maps of each of its runs, and where it records them.

    The picture stays the same bit for bit.  Raises PerfusionError where the MODEL has no cross-attention to a text.
    """
    check_text_conditioned(model)
    recorded, current = RecordedAttention(), threading.local()
    names = cross_attention_layers(model.get_model_object("diffusion_model"))
    projections = {(name, kind): stand_in(current, name, kind) for name in names for kind in (_QUERIES, _KEYS)}

    def outer_sample(executor: Any, noise: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        if not isinstance(noise, Tensor) or noise.dim() != 4:  # a video, or several streams in one
            recorded.record = None
            return executor(noise, *args, **kwargs)
        prompts = number_prompts(guider.conds, guider.model_patcher)
        record = AttentionRecord(len(noise), (noise.shape[-2], noise.shape[-1]))
        recorded.record, recorded.prompts = record, prompts
        run = _Run(record, prompts)
        wrappers = guider.model_options["transformer_options"]["wrappers"]  # the guider's own copy for this run
        wrappers.setdefault(WrappersMP.CALC_COND_BATCH, {})[_KEY] = [_calc_cond_batch(run)]
        wrappers.setdefault(WrappersMP.APPLY_MODEL, {})[_KEY] = [_apply_model(run, projections, current)]
        try:
            return executor(noise, *args, **kwargs)
        finally:
            record.to_cpu()

    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, _KEY)  # one node records a run, the last of them
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _KEY, outer_sample)
    return patched, recorded


@dataclass
class _Run:
    """What one run remembers between its steps."""

    record: AttentionRecord
    prompts: Sequence[RunPrompt]
    places: StepPlaces = field(default_factory=StepPlaces)
    progress: float = 0.0
    layers: dict[int, tuple[Module, dict[str, CrossAttention]]] = field(default_factory=dict)
    told: bool = False

    def layers_of(self, diffusion_model: Module) -> dict[str, CrossAttention]:
        """The layers of the model that is running, looked up once per run."""
        if id(diffusion_model) not in self.layers:
            self.layers[id(diffusion_model)] = (diffusion_model, cross_attention_layers(diffusion_model))
        return self.layers[id(diffusion_model)][1]

    def passed_over(self, name: str) -> None:
        """Say once that a layer's attention is not that of the prompts."""
        if not self.told:
            self.told = True
            logger.warning(
                "Attention maps leave out layers such as %s, in which another patch of the MODEL has changed the number"
                " of pictures, positions or tokens.",
                name,
            )


@dataclass
class _Call:
    """One call of the model.  rows: of each watched place.  originals: forwards by (layer, to_q or to_k)."""

    run: _Run
    layers: Mapping[str, CrossAttention]
    size: int
    rows: Mapping[Place, list[int] | slice]
    originals: dict[tuple[str, str], Forward]
    queries: dict[str, Tensor] = field(default_factory=dict)

    def project(self, layer: str, kind: str, states: Tensor) -> Tensor:
        """Queries or keys as the layer computes them; every layer asks for its queries first."""
        made = self.originals[layer, kind](states)
        if kind == _QUERIES:
            self.queries[layer] = made
        elif layer in self.queries:
            self._watch(layer, self.queries.pop(layer), made)
        return made

    def _watch(self, layer: str, queries: Tensor, keys: Tensor) -> None:
        for place, rows in self.rows.items():
            tokens = self.run.prompts[place.prompt].tokens
            fits = len(queries) == len(keys) == self.size and keys.shape[1] % tokens == 0
            if fits:
                shares = token_attention(queries[rows].detach(), keys[rows].detach(), self.layers[layer].heads, tokens)
                fits = self.run.record.add(place, self.run.progress, shares)
            if not fits:
                self.run.passed_over(layer)


def _calc_cond_batch(run: _Run) -> Callable[..., Any]:
    def calc_cond_batch(
        executor: Any, model: Any, conds: Any, x_in: Tensor, timestep: Tensor, model_options: Mapping[str, Any]
    ) -> Any:
        sigmas = model_options.get("transformer_options", {}).get("sample_sigmas")
        before, run.progress = run.progress, progress_of(sigmas, timestep)
        if int(before * PARTS) != int(run.progress * PARTS):
            run.record.to_cpu()
        return executor(model, run.places.numbered(conds), x_in, timestep, model_options)

    return calc_cond_batch


def progress_of(sigmas: Tensor | None, timestep: Tensor) -> float:
    """How much of a run lies before a step, 0 to 1, by the number of its step.  sigmas: of all steps, and the last."""
    if sigmas is None or len(sigmas) < 2:
        return 0.0
    levels, level = sigmas.flatten().tolist(), float(timestep.flatten()[0])
    if levels[0] < levels[-1]:  # from the picture to noise
        levels, level = [-one for one in levels], -level
    slack = 1e-4 * abs(level)
    step = sum(one >= level - slack for one in levels) - 1
    return min(max(step, 0), len(levels) - 2) / (len(levels) - 1)


def _apply_model(
    run: _Run, projections: Mapping[tuple[str, str], Forward], current: threading.local
) -> Callable[..., Any]:
    def begin(call: ModelCall, numbers: Tensor | None) -> tuple[_Call, Iterator[tuple[Any, Forward]]] | None:
        size = len(call.latents)
        if numbers is None or len(numbers) != size:
            return None
        rows: dict[Place, list[int]] = {}
        for row, number in enumerate(numbers.flatten().tolist()):
            place = run.places.of(number)
            if place is not None:
                rows.setdefault(place, []).append(row)
        if not rows:
            return None
        layers = run.layers_of(call.base_model.diffusion_model)
        modules = {(name, kind): getattr(layers[name], kind) for name, kind in projections if name in layers}
        watched = {place: _slice(at) for place, at in rows.items()}
        watching = _Call(run, layers, size, watched, {key: module.forward for key, module in modules.items()})
        return watching, ((module, projections[key]) for key, module in modules.items())

    return around_calls(NUMBER_KEY, current, begin)


def _slice(rows: list[int]) -> list[int] | slice:
    """These rows as a slice where they stand side by side, which needs no copy."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] + 1 == len(rows) else rows
