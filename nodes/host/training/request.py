"""What a training is asked for, and what is watched of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from torch import Tensor

from ....perfusion_core.caption_templates import caption_templates
from ....perfusion_core.concept import Concept, normalise_word
from ....perfusion_core.memory_plan import MemoryPlan
from ....perfusion_core.picture_inputs import captions_in
from ....perfusion_core.text_statistics import TextStatistics
from ....perfusion_core.training import TrainingSettings
from ....perfusion_core.training_pictures import PerPicture, TrainingPictures, per_picture, training_pictures
from ....perfusion_core.training_status import StepReport
from ..gate.cross_attention import cross_attention_layers
from ..gate.refined_text import refined_text
from ..model_family import model_family, training_size
from ..text.encoders import text_encoders
from ..text.statistics import cached_statistics
from .checks import check_aim, check_captions, check_models, check_statistics, check_words
from .latents import vae_step
from .weight_hash import model_hash, pictures_hash, vae_hash


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRequest:
    """Learn the word for what the pictures show.

    images: [P, H, W, C] in 0..1, lists of pictures in any nesting, or pictures that were prepared already. masks: [P,
    H, W], lists of them, or None; see `masks_of`. resolution: see `training_pictures`. captions: see `captions_in`.
    automatic_mask: whether, for pictures without a mask, the model's attention to the superclass takes its place.
    statistics: of the clip; a job needs them. gradient_checkpointing: whether blocks run again in the backward pass,
    for less memory and the same concept, even where there is room; elsewhere the job decides. clip_vision: chooses the
    best step, from pictures painted with CFG `sample_cfg`, in place of the validation error; see `LikenessJudge`.
    picture: small JPEG for the concept's file.  bias_in_use: what the file recommends; None: `recommended_bias`.
    Word and superclass are kept as prompts have them.  Raises PerfusionError for a word that no prompt could hold.
    """

    model: ModelPatcher
    clip: CLIP
    vae: VAE
    images: Tensor | Sequence[Any] | TrainingPictures
    word: str
    superclass: str
    settings: TrainingSettings
    statistics: TextStatistics | None = None
    masks: Tensor | Sequence[Any] | None = None
    resolution: int | None = None
    captions: str | Sequence[Any] | None = None
    automatic_mask: bool = False
    gradient_checkpointing: bool = False
    clip_vision: ClipVisionModel | None = None
    sample_cfg: float = 3.0
    picture: bytes | None = None
    bias_in_use: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "word", normalise_word(self.word))
        object.__setattr__(self, "superclass", " ".join(self.superclass.split()))

    @cached_property
    def pictures(self) -> TrainingPictures:
        """The pictures as they are trained on."""
        if isinstance(self.images, TrainingPictures):
            return self.images
        step = vae_step(self.vae) if self.resolution is None else training_size(self.model, text_encoders(self.clip))[1]
        return training_pictures(self.images, self.masks, self.resolution, step)

    @cached_property
    def caption_templates(self) -> list[str | None]:
        """By picture, the template that its caption makes; empty without captions."""
        return caption_templates(captions_in(self.captions, len(self.pictures)), self.word, self.superclass)

    @property
    def measured_statistics(self) -> TextStatistics:
        """The text statistics.  Raises ValueError where a job was started without them."""
        if self.statistics is None:
            raise ValueError("a training needs the text statistics of its clip")
        return self.statistics

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of a latent [C, h, w] of the commonest size of the pictures, at which the concept is tried out; [C, 1, h, w]
        for models of video."""
        width, height = (side // vae_step(self.vae) for side in self.pictures.commonest_size)
        latents = self.model.model.latent_format
        return latents.latent_channels, *(1,) * (latents.latent_dimensions - 2), height, width

    @property
    def mask_source(self) -> str:
        """Where the weights of the loss are from: "given", "attention", "given and attention" or "none"."""
        given = [mask is not None for mask in self.pictures.masks]
        sources = (["given"] if any(given) else []) + (["attention"] if self.automatic_mask and not all(given) else [])
        return " and ".join(sources) or "none"

    @property
    def family(self) -> str:
        """The name of the models' family."""
        return model_family(self.model, text_encoders(self.clip))

    def text_statistics(self, on_captions: Callable[[int, int], None]) -> TextStatistics:
        """Those that were given, else measured once for each CLIP, and for what the MODEL makes of its text."""
        return self.statistics or cached_statistics(self.clip, on_captions, at_layers=refined_text(self.model))

    def with_statistics(self, statistics: TextStatistics, picture: bytes | None) -> TrainingRequest:
        """The same with what takes time to make; the pictures are not prepared again."""
        return replace(self, images=self.pictures, masks=None, statistics=statistics, picture=picture)

    @property
    def value_widths(self) -> list[int]:
        """Of what is learned for each cross-attention layer of the model."""
        layers = cross_attention_layers(self.model.model.diffusion_model)
        return [layer.to_v.out_features for layer in layers.values()]

    def check(self) -> None:
        """Raise PerfusionError for models, words and captions that cannot be trained on; it takes no time."""
        check_models(self.model, self.clip, self.vae)
        check_words(self.clip, self.word, self.superclass)
        check_statistics(self.statistics, self.model, self.clip)
        check_captions(self.clip, self.caption_templates, self.superclass)
        check_aim(self.settings, self.mask_source)

    def what_must_not_change(self) -> dict[str, Any]:
        """All that a training needs to be the same when it goes on, by names for the user; more steps may be asked for.

        JSON values, in the order in which they are named and kept."""
        settings = {name: value for name, value in self.settings.recorded().items() if name != "steps"}
        pictures, given = self.pictures, [mask for mask in self.pictures.masks if mask is not None]
        captions = {"captions": self.caption_templates} if any(self.caption_templates) else {}
        masks = pictures_hash(per_picture(given)) if given else self.mask_source
        return {
            "pictures": pictures_hash(per_picture(pictures.pictures)),
            "masks": masks if len(given) in (0, len(pictures)) else f"{masks}, {self.mask_source}",
            **captions,
            "word": self.word,
            "superclass": self.superclass,
            "model family": self.family,
            "CLIP layer": self.clip.layer_idx,
            "text statistics": self.measured_statistics.hash(),
            **settings,
            "mirrored pictures": "encoded" if self.settings.flip else "none",
            "VAE": vae_hash(self.vae),
            "model": model_hash(self.model),
        }


@dataclass(frozen=True)
class TrainingHooks:
    """What is told of a training while it runs; each hook may raise to stop it.

    on_step: called after every step.  on_preview: is given the concept as it is after every `preview_every` steps, 0
    for never, to sample with; not after the last step.  on_masks: is given the weights of the loss before the first
    step, where there are any.  on_memory_plan: is told before that how the pictures will go through the model.
    """

    on_step: Callable[[StepReport], None] = lambda report: None
    on_preview: Callable[[Concept], None] = lambda concept: None
    preview_every: int = 0
    on_masks: Callable[[PerPicture], None] = lambda masks: None
    on_memory_plan: Callable[[MemoryPlan], None] = lambda plan: None
