"""What a training is asked for, and what is watched of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ....perfusion_core.concept import Concept, normalise_word
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.text_statistics import TextStatistics
from ....perfusion_core.training import StepReport, TrainingSettings
from ..gate.cross_attention import cross_attention_layers
from ..gate.patch import applied_concepts
from ..model_family import check_text_conditioned, model_family
from ..text.encoders import text_encoders
from ..text.words import known_words
from .weight_hash import model_hash, tensor_hash, vae_hash


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRequest:
    """Learn the word for what the pictures show.

    images: [P, H, W, 3] in 0..1.  masks: [P, H, W] or None.  automatic_mask: whether, without masks, the model's
    attention to the superclass takes their place.  gradient_checkpointing: whether blocks run again in the backward
    pass, for less memory and the same concept.  clip_vision: chooses the best step, from pictures painted with CFG
    `sample_cfg`, in place of the validation error; see `LikenessJudge`.  picture: small JPEG for the concept's file.
    Word and superclass are kept as prompts have them.  Raises PerfusionError for a word that no prompt could hold.
    """

    model: ModelPatcher
    clip: CLIP
    vae: VAE
    images: Tensor
    word: str
    superclass: str
    settings: TrainingSettings
    statistics: TextStatistics
    masks: Tensor | None = None
    automatic_mask: bool = False
    gradient_checkpointing: bool = False
    clip_vision: ClipVisionModel | None = None
    sample_cfg: float = 3.0
    picture: bytes | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "word", normalise_word(self.word))
        object.__setattr__(self, "superclass", " ".join(self.superclass.split()))

    @property
    def mask_source(self) -> str:
        """Where the weights of the loss are from: "given", "attention" or "none"."""
        return "given" if self.masks is not None else "attention" if self.automatic_mask else "none"

    @property
    def family(self) -> str:
        """The name of the models' family."""
        return model_family(self.model, text_encoders(self.clip))

    def check(self) -> None:
        """Raise PerfusionError for models and words that cannot be trained on."""
        check_text_conditioned(self.model)
        cross_attention_layers(self.model.get_model_object("diffusion_model"))
        if applied_concepts(self.model) is not None or self.word in known_words(self.clip):
            raise PerfusionError(
                f"The model and clip inputs already have concepts applied, which would be learned around; connect them"
                f" from before the gate node to train {self.word}."
            )
        if not self.superclass:
            raise PerfusionError(
                "The superclass must be a plain word for the kind of thing, such as teddy or dog, but it is empty; type"
                " one."
            )

    def what_must_not_change(self) -> dict[str, Any]:
        """All that a training needs to be the same when it goes on, by names for the user; more steps may be asked for.

        JSON values, in the order in which they are named and kept."""
        settings = {name: value for name, value in dataclasses.asdict(self.settings).items() if name != "steps"}
        return {
            "pictures": tensor_hash(self.images),
            "masks": tensor_hash(self.masks) or self.mask_source,
            "word": self.word,
            "superclass": self.superclass,
            "model family": self.family,
            "CLIP layer": self.clip.layer_idx,
            "text statistics": self.statistics.hash(),
            **settings,
            "mirrored pictures": "encoded" if self.settings.flip else "none",
            "VAE": vae_hash(self.vae),
            "model": model_hash(self.model),
        }


@dataclass(frozen=True)
class TrainingHooks:
    """What is told of a training while it runs; each hook may raise to stop it.

    on_step: called after every step.  on_preview: is given the concept as it is after every `preview_every` steps, 0
    for never, to sample with; not after the last step.
    """

    on_step: Callable[[StepReport], None] = lambda report: None
    on_preview: Callable[[Concept], None] = lambda concept: None
    preview_every: int = 0
