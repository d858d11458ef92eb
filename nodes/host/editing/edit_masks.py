"""The masks of local blends, which are known only after a run, for the node that shows them.

A sampler hands on every key of its LATENT, so that what comes out of it still names the edits that went in.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ....perfusion_core.errors import PerfusionError

LATENT_KEY = "perfusion_prompt_edit_masks"
_RUNS = 8  # kept of one edit node; several samplers may run with it
_CLOSE = 1e-2  # what rounding to half precision may change in latents


class EditMasks:
    """The masks of the last runs, each with the latents that it made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: deque[tuple[Tensor, Tensor]] = deque(maxlen=_RUNS)

    def __deepcopy__(self, memo: dict[int, Any]) -> EditMasks:
        """A copy of a latent is still of the same run."""
        return self

    def keep(self, latents: Tensor, masks: Tensor) -> None:
        """latents [P * rows, C, H, W], as a run returned them; masks [P * rows, h, w]."""
        with self._lock:
            self._runs.append((latents.detach().float().cpu(), masks.cpu()))

    def of(self, latents: Tensor) -> Tensor | None:
        """The masks of the run that made these latents, None where it is not known any more."""
        wanted = latents.detach().float().cpu()
        with self._lock:
            runs = [*self._runs]
        for made, masks in reversed(runs):
            if made.shape == wanted.shape and torch.allclose(made, wanted, rtol=_CLOSE, atol=_CLOSE):
                return masks
        return None


def masks_of(latent: Mapping[str, Any]) -> Tensor:
    """Return the masks [P * rows, h, w] of a LATENT that comes out of a sampler.  Raises PerfusionError without any."""
    known = latent.get(LATENT_KEY)
    found = known.of(latent["samples"]) if isinstance(known, EditMasks) else None
    if found is None:
        what = "one that was changed since" if isinstance(known, EditMasks) else "none of Edit with Prompt-to-Prompt"
        raise PerfusionError(
            f"The socket latent expected the LATENT of a sampler that edits pictures, but found {what}; connect the"
            " sampler's own output."
        )
    return found
