"""Judging a concept with the host's CLIP vision model: painted with fixed seeds, like the thing and like the prompt?"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ....perfusion_core.concept import Concept, alone
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.likeness import Likeness, mean_similarity, paired_similarity
from ....perfusion_core.training_pictures import per_picture
from ..gate.patch import apply_concepts
from ..text.encoders import text_encoders
from ..text.words import add_words
from .sampling import sample_pictures
from .weight_hash import tensor_hash

logger = logging.getLogger(__name__)

# No template of the training.  Three have a scene: a concept that ignores its prompt would still be like "a picture".
PROMPTS = ("a picture of a {}", "a {} on the beach", "a {} in the snow", "a {} with a hat")
STEPS = 12  # of the sampler
SEED = 20_230_501

# Least text similarity of the model's own pictures of the superclass; of encoders that were not trained together it is
# about 0 (benchmarks/choices.md).
LEAST_AGREEMENT = 0.1

AT_ONCE = 8  # pictures in the vision model


class LikenessJudge:
    """Paints a few prompts, always with the same seeds, and says how like the thing and like the prompts they are.

    clip_vision: with the clip's text projection, one CLIP.  images: of the training, [H, W, 3] each in 0..1.
    latent_shape: [C, h, w] of the pictures to paint.  Making one paints the superclass, for comparison.
    Raises PerfusionError where the vision model and the clip's text encoders are not of one CLIP.
    """

    def __init__(
        self,
        clip_vision: ClipVisionModel,
        model: ModelPatcher,
        clip: CLIP,
        vae: VAE,
        images: Sequence[Tensor],
        superclass: str,
        latent_shape: tuple[int, ...],
        cfg: float,
    ) -> None:
        self._vision, self._model, self._clip, self._vae = clip_vision, model, clip, vae
        self._latent_shape, self._cfg = latent_shape, cfg
        prompts = [prompt.format(superclass) for prompt in PROMPTS]
        with torch.inference_mode():
            self._thing = image_embeddings(clip_vision, images)
            self._texts = text_embeddings(clip, prompts, self._thing.shape[-1])
            # The host leaves a projection that is missing as the memory was: often zeros, which tell at once.
            if not (self._texts.norm(dim=-1) > 0).all():
                raise _of_no_text(superclass, "nothing that the clip input's texts could be compared by")
            plain = image_embeddings(clip_vision, self._paint(model, clip, prompts))
        self._agreement = paired_similarity(plain, self._texts)
        if not self._agreement >= LEAST_AGREEMENT:
            raise _of_no_text(superclass, f"{self._agreement:.2f}, as between encoders that were not trained together")
        plain_likeness = Likeness(mean_similarity(plain, self._thing), 1.0)
        logger.info(
            "The superclass itself: image similarity %.3f, text similarity %.3f.", plain_likeness.image, self._agreement
        )

    @property
    def fingerprint(self) -> str | None:
        """Names the vision model, by the first vector among its weights."""
        return tensor_hash(next(t for t in self._vision.get_sd().values() if t.dim() == 1))

    def likeness(self, concept: Concept) -> Likeness:
        """The likeness of what the concept's word paints, through the gate that is recommended for it."""
        stack = alone(concept)
        prompts = [prompt.format(concept.word) for prompt in PROMPTS]
        with torch.inference_mode():
            pictures = self._paint(apply_concepts(self._model, stack), add_words(self._clip, stack), prompts)
            painted = image_embeddings(self._vision, pictures)
        text = paired_similarity(painted, self._texts)
        found = Likeness(mean_similarity(painted, self._thing), text / self._agreement)
        logger.info(
            "Step %s: image similarity %.3f, text similarity %.3f (%.3f of the superclass'), harmonic mean %.3f.",
            concept.training["steps"],
            found.image,
            text,
            found.text,
            found.harmonic_mean,
        )
        return found

    def _paint(self, model: ModelPatcher, clip: CLIP, prompts: Sequence[str]) -> Tensor:
        return sample_pictures(model, clip, self._vae, prompts, self._latent_shape, SEED, steps=STEPS, cfg=self._cfg)


def _of_no_text(superclass: str, found: str) -> PerfusionError:
    return PerfusionError(
        f"The clip_vision input was expected to find the model's own pictures of {superclass!r} like their prompts by"
        f" at least {LEAST_AGREEMENT}, but found {found}; it does not work with the text encoder of a checkpoint that"
        " comes without a text projection, as those of SD1.5 do, so load the whole CLIP of this vision model with Load"
        " CLIP, or leave clip_vision open."
    )


def image_embeddings(clip_vision: ClipVisionModel, pictures: Tensor | Sequence[Tensor]) -> Tensor:
    """Embeddings [P, d] of pictures [H, W, 3], float32 on the CPU; their middle square, as the host cuts it."""
    together = per_picture([picture[..., :3] for picture in pictures])
    batches = together.split(AT_ONCE) if isinstance(together, Tensor) else [picture[None] for picture in together]
    parts = [clip_vision.encode_image(batch)["image_embeds"] for batch in batches]
    return torch.cat(parts).float().cpu()


def text_embeddings(clip: CLIP, texts: Sequence[str], width: int) -> Tensor:
    """Projected embeddings [T, width] of texts, float32 on the CPU, by whichever encoder of the clip has that width.

    SD1's encoder leaves the projection out unless it is asked for.  Raises PerfusionError where none has that width.
    """
    found: dict[str, int] = {}
    model = clip.cond_stage_model
    tokens = [clip.tokenize(text) for text in texts]
    clip.load_model()
    model.reset_clip_options()
    model.set_clip_options({"projected_pooled": True, "execution_device": clip.patcher.load_device})
    try:
        for key, encoder in text_encoders(clip).items():
            name = key.removeprefix("clip_")
            pooled = [encoder.model.encode_token_weights(lists[name])[1] for lists in tokens]
            if all(one is not None for one in pooled):
                embeddings = torch.cat(pooled).float().cpu()
                found[key] = embeddings.shape[-1]
                if found[key] == width:
                    return embeddings
    finally:
        model.reset_clip_options()
    of_text = ", ".join(f"{size} ({key})" for key, size in found.items()) or "none"
    raise PerfusionError(
        f"The clip_vision input was expected to give image embeddings as wide as the text embeddings of the clip input,"
        f" {of_text}, but they have {width}; load the vision model of that CLIP, or leave clip_vision open."
    )
