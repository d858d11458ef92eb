"""What a concept does to the model: one denoising prediction with it and one without it."""

from __future__ import annotations

import comfy.sample
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ....perfusion_core.concept import Concept, alone
from ....perfusion_core.concept_check import relative_change
from ....perfusion_core.errors import PerfusionError
from ..gate.patch import apply_concepts
from ..text.words import add_words

PROMPT = "a photo of a {}"

# Below the rounding of half precision nothing can be told from nothing.
LEAST_EFFECT = 1e-3


def check_effect(model: ModelPatcher, clip: CLIP, concept: Concept, latent_shape: tuple[int, ...]) -> float:
    """Return by how much the concept's word changes the model's prediction for its superclass, relative to that.

    latent_shape: [C, h, w].  The prediction is that of pure noise, in which nothing but the text decides.
    Raises PerfusionError where the concept changes nothing, or makes numbers that are not finite.
    """
    stack = alone(concept)
    without = _prediction(model, clip, PROMPT.format(concept.superclass), latent_shape)
    with_it = _prediction(
        apply_concepts(model, stack), add_words(clip, stack), PROMPT.format(concept.word), latent_shape
    )
    change = relative_change(without, with_it)
    if not change >= LEAST_EFFECT:
        raise PerfusionError(
            f"The concept {concept.word} changes the model's prediction by {change:.1e} of its size where at least"
            f" {LEAST_EFFECT:.0e} was expected, so it would do nothing; train with more steps or higher learning rates."
        )
    return change


def _prediction(model: ModelPatcher, clip: CLIP, prompt: str, latent_shape: tuple[int, ...]) -> Tensor:
    """The denoised latent after the first step from a fixed noise, [1, C, h, w]."""
    with torch.inference_mode():
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        empty = torch.zeros(1, *latent_shape)
        noise = comfy.sample.prepare_noise(empty, 0)
        return comfy.sample.sample(
            model, noise, 1, 1.0, "euler", "normal", positive, positive, empty, disable_pbar=True, seed=0
        ).float()
