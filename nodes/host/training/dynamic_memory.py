"""Models that the host keeps in dynamic VRAM, its default on NVIDIA, cannot be trained through.

Such a model has no weights of its own on the device: each operation is lent views of memory that the host may give to
another weight as soon as the operation is over. Autograd would keep those views for the backward pass. What is trained
is therefore a copy that the model's own loader makes outside of dynamic VRAM, as for the host's Train LoRA node; it
costs the memory of a second model while the training runs.
"""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.out_of_memory import is_out_of_memory
from ..old_hosts import is_dynamic


def trainable_model(model: ModelPatcher) -> ModelPatcher:
    """The MODEL itself, or, where that is in dynamic VRAM, an equal one that is not, with the same patches.

    Call it outside inference_mode.  Raises PerfusionError where no copy can be made.
    """
    return _copy(model, "model") if is_dynamic(model) else model


def trainable_clip(clip: CLIP) -> CLIP:
    """The same for a CLIP."""
    if not is_dynamic(clip.patcher):
        return clip
    copy = clip.clone()
    copy.patcher = _copy(clip.patcher, "clip")
    copy.cond_stage_model = copy.patcher.model  # the host's own clone keeps the old one here
    return copy


def _copy(patcher: ModelPatcher, socket: str) -> ModelPatcher:
    try:
        if patcher.cached_patcher_init is None:
            raise RuntimeError("its loader did not register how to load it again")
        copy = patcher.clone(disable_dynamic=True)
        if is_dynamic(copy) or copy.model is patcher.model:
            raise RuntimeError("its loader gave the same model again")
    except Exception as problem:  # whatever a loader, maybe of another pack, raises
        if is_out_of_memory(problem):
            raise
        reason = " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
        raise PerfusionError(
            f"The {socket} input was expected to be a model that can be trained through, but it is in ComfyUI's dynamic"
            f" VRAM and no copy outside of it could be made ({reason}); load it with one of ComfyUI's own loaders, or"
            " start ComfyUI with --disable-dynamic-vram."
        ) from problem
    return copy
