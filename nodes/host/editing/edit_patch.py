"""Putting edits on a MODEL: a patch that exists only while the model runs.

The MODEL carries one wrapper, around a sampling run. It gives the guider's own copy of the options three more for this
run, behind all others:

    sampler_sample   around the sampler: draws of noise are shared
    predict_noise    around every step: the result of the guidance is blended
    apply_model      around every call of the model: its projections are swapped

Behind all others, because the gate must have given its keys and values before the edit takes them over. Both orders
of the two nodes are therefore the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..gate.cross_attention import Forward
from ..gate.model_call import ModelCall, around_calls
from ..model_family import check_text_conditioned
from .edit_masks import EditMasks
from .edit_run import EditRun, RealPicture
from .edited_attention import EditCall, Place, projections_of
from .edited_prompts import EditPlan
from .edited_rows import ROW_KEY, edited_pairs, is_of, number_rows
from .shared_noise import shared

PATCH_KEY = "perfusion_for_comfyui.prompt_edit"

logger = logging.getLogger(__name__)


def apply_edits(model: ModelPatcher, plan: EditPlan, masks: EditMasks, real: RealPicture | None = None) -> ModelPatcher:
    """Return a clone of the MODEL in which runs with the plan's conditioning are edited; other runs are not.

    Edits that are on the MODEL already are replaced.  masks: gets the masks of each run.
    real: for latents of pictures that are given.
    Raises PerfusionError for a model without text cross-attention.
    """
    check_text_conditioned(model)
    current = threading.local()
    projections = projections_of(model.get_model_object("diffusion_model"), current)
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, PATCH_KEY)

    def outer_sample(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        if not plan.edits:
            return executor(noise, *args, **kwargs)
        entries = [entry for group in guider.conds.values() for entry in group]
        if not any(is_of(entry, plan) for entry in entries) or len(noise) % plan.rows:
            logger.warning(
                "Nothing is edited in this run: it expected the conditioning and the latent of its node Edit with"
                " Prompt-to-Prompt (%d rows for each picture), but has others; connect both.",
                plan.rows,
            )
            return executor(noise, *args, **kwargs)
        number_rows(entries, plan)
        run = EditRun(plan, real, noise.shape, guider.model_patcher.get_model_object("model_sampling"))
        wrappers = guider.model_options["transformer_options"]["wrappers"]  # the guider's own copy for this run
        for kind, wrapper in (
            (WrappersMP.SAMPLER_SAMPLE, _sampler_sample(run)),
            (WrappersMP.PREDICT_NOISE, _predict_noise(run)),
            (WrappersMP.APPLY_MODEL, _apply_model(run, projections, current)),
        ):
            wrappers.setdefault(kind, {})[PATCH_KEY] = [wrapper]
        result = executor(shared(noise, plan.rows), *args, **kwargs)
        masks.keep(result, run.last_masks())
        return result

    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PATCH_KEY, outer_sample)
    return patched


def _sampler_sample(run: EditRun) -> Callable[..., Any]:
    def sampler_sample(
        executor: Any, guider: Any, sigmas: Any, extra: Any, callback: Any, noise: Any, latent: Any, *args: Any
    ) -> Any:
        run.picture = latent
        with run.noise:
            return executor(guider, sigmas, extra, callback, noise, latent, *args)

    return sampler_sample


def _predict_noise(run: EditRun) -> Callable[..., Any]:
    def predict_noise(executor: Any, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with run.noise.paused():
            return run.finished(executor(x, timestep, *args, **kwargs), timestep)

    return predict_noise


def _apply_model(run: EditRun, projections: Mapping[Place, Forward], current: threading.local) -> Callable[..., Any]:
    def begin(call: ModelCall, numbers: Tensor | None) -> tuple[EditCall, Iterator[tuple[Any, Forward]]] | None:
        latents = call.latents
        if numbers is None or len(numbers) != len(latents) or not numbers.any():
            return None
        moment = run.moment(call.options.get("sigmas", call.timestep))
        layers = run.layers(call.base_model.diffusion_model)
        pairs = edited_pairs(numbers, len(run.plan.edits), latents.device)
        edited = EditCall(run, moment, pairs, len(latents), (latents.shape[-2], latents.shape[-1]), layers)
        modules = {
            place: getattr(layers[place.block, place.attention], place.projection)
            for place in edited.places()
            if place in projections
        }
        edited.originals = {place: module.forward for place, module in modules.items()}
        return edited, ((module, projections[place]) for place, module in modules.items())

    return around_calls(ROW_KEY, current, begin)
