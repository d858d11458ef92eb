"""The prompts of the templates that put a concept into the place of what pictures show: a face, a subject."""

from __future__ import annotations

from . import prompts
from .prompts import Prompt, node

NECK = 72  # row of a picture above which a teddy's head is: the demo's teddies stand on one ground


def head_prompt(
    text: str = "a photo of a <hugsy>",
    thing: str = "bruno",
    seed: int = 4,
    grow: int = 4,
    denoise: float = 0.8,
    concept_file: str = prompts.FIRST_CONCEPT,
    batch: int = 4,
) -> Prompt:
    """Template "Replace a face": the head of one teddy in the place of another's, under a mask of the head alone."""
    prompt = prompts.inpaint_prompt(text, thing, seed, grow, concept_file, batch)
    neck = NECK + grow
    prompt["pictures"]["inputs"]["seed"] = 5
    prompt["below"] = node("SolidMask", value=1.0, width=128, height=128 - neck)
    prompt["head"] = node(
        "MaskComposite", destination=["grown", 0], source=["below", 0], x=0, y=neck, operation="subtract"
    )
    prompt["latent"]["inputs"]["mask"] = ["head", 0]
    prompt["sampler"]["inputs"]["denoise"] = denoise
    return prompt


def replace_prompt(
    text: str = "a photo of a teddy",
    edit: str = "teddy -> <hugsy>",
    thing: str = "bruno",
    seed: int = 4,
    self_end: float = 0.8,
    real_end: float = 0.4,
    concept_file: str = prompts.FIRST_CONCEPT,
    batch: int = 4,
) -> Prompt:
    """Template "Replace a subject": a concept in the place of what pictures show, without a mask."""
    prompt = prompts.edit_prompt(text, "", edit, seed, concept_file, batch)
    prompt["pictures"] = node("PerfusionDemoPictures", thing=thing, count=batch, seed=5)
    prompt["latent"] = node("VAEEncode", pixels=["pictures", 0], vae=["demo", 2])
    prompt["described"]["inputs"]["self_end"] = self_end
    prompt["edit"]["inputs"] |= {"real_picture": True, "real_end": real_end}
    return prompts.without(prompt, "mask", "masks")
