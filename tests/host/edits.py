"""Plans, runs and rows of edits on the tiny model."""

from __future__ import annotations

import comfy.sample
import torch
from perfusion_pack.nodes.host.editing.edit_masks import EditMasks
from perfusion_pack.nodes.host.editing.edit_patch import apply_edits
from perfusion_pack.nodes.host.editing.edit_run import RealPicture
from perfusion_pack.nodes.host.editing.edited_latents import in_rows
from perfusion_pack.nodes.host.editing.edited_prompts import plan_edits
from perfusion_pack.perfusion_core.prompt_edit import PromptEdit

SOURCE = "a photo of a red cat on the grass"

# Float32 in another order, in units of the largest latent.
ROUNDING = 2e-5


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference between latents, in units of the largest latent."""
    return ((one - other).abs().max() / other.abs().max()).item()


def drawn(model, positive, negative, latent, **settings):
    """Return the latents that the host's KSampler makes of a LATENT."""
    settings = {
        "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "seed": 7, "denoise": 1.0, **settings
    }  # fmt: skip
    noise = comfy.sample.prepare_noise(latent["samples"], settings["seed"], latent.get("batch_index"))
    steps, cfg, sampler, scheduler, seed = (
        settings.pop(k) for k in ("steps", "cfg", "sampler_name", "scheduler", "seed")
    )
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, scheduler, positive, negative, latent["samples"],
        noise_mask=latent.get("noise_mask"), disable_pbar=True, seed=seed, **settings,
    )  # fmt: skip


def empty(pictures: int = 1, size: int = 8) -> dict:
    return {"samples": torch.zeros(pictures, 4, size, size)}


class Edited:
    """A MODEL, the conditioning and the latents of some edits, and what comes of them."""

    def __init__(self, model, clip, *edits: PromptEdit, source: str = SOURCE, latent=None, real=None) -> None:
        self.masks = EditMasks()
        self.plan, self.positive = plan_edits(clip, source, edits)
        self.base = model
        self.model = apply_edits(model, self.plan, self.masks, None if real is None else RealPicture(*real))
        self.latent = in_rows(latent or empty(), self.plan.rows)

    def draw(self, negative, **settings) -> torch.Tensor:
        """Return [P * rows, ...]."""
        return drawn(self.model, self.positive, negative, self.latent, **settings)

    def unedited(self, negative, **settings) -> torch.Tensor:
        """The same without the edits: an ordinary batch of the same prompts from the same noise."""
        return drawn(self.base, self.positive, negative, self.latent, **settings)
