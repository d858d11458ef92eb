"""How long the sampling runs of a MODEL take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

_KEY = "perfusion_for_comfyui.run_time"


def timed(model: ModelPatcher, tell: Callable[[float], None]) -> ModelPatcher:
    """Return a clone of the MODEL of whose runs `tell` is told the seconds, each when it is done."""

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = executor(*args, **kwargs)
        tell(time.perf_counter() - started)
        return result

    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, _KEY)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _KEY, outer_sample)
    return clone
