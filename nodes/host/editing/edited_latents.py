"""Latents in which every picture stands once for each row: source, edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy.utils import repeat_to_batch_size

from ....perfusion_core.errors import PerfusionError


def in_rows(latent: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return a LATENT of P pictures as one of P * rows.

    The host draws the same noise for all that has the same index. Raises PerfusionError for latents of several streams.
    """
    samples = latent["samples"]
    if getattr(samples, "is_nested", False) or samples.ndim != 4:
        raise PerfusionError(
            "The socket latent expected the latents of pictures, [pictures, channels, height, width], but found"
            f" {list(samples.shape)}; connect Empty Latent Image or VAE Encode."
        )
    pictures = len(samples)
    indices = [*latent.get("batch_index", range(pictures))]
    made = {
        **latent,
        "samples": samples.repeat_interleave(rows, 0),
        "batch_index": [index for index in indices for _ in range(rows)],
    }
    if "noise_mask" in latent:
        made["noise_mask"] = repeat_to_batch_size(latent["noise_mask"], pictures).repeat_interleave(rows, 0)
    return made
