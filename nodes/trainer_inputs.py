"""What the inputs of Train Perfusion Concept ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..perfusion_core.text_statistics import TextStatistics
from ..perfusion_core.training import TrainingSettings
from .host.model_family import model_family
from .host.text.encoders import text_encoders
from .host.training.request import TrainingRequest
from .pictures import thumbnail
from .training_settings import DEFAULTS, PRESETS, training_settings, uses_checkpointing


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainerInputs:
    """The inputs by their names in the schema; the optional ones may be missing in a saved workflow.

    custom: those of the preset Custom, as far as they were given.
    """

    model: io.Model.Type
    clip: io.Clip.Type
    vae: io.Vae.Type
    images: Tensor
    word: str
    superclass: str
    preset: str
    seed: int
    samples: int
    file_name: str
    masks: Tensor | None = None
    statistics: TextStatistics | None = None
    flip: bool = DEFAULTS.flip
    sample_cfg: float = 3.0
    resume: bool = False
    automatic_mask: bool = True
    validate_every: int = DEFAULTS.validate_every
    preview_every: int = 100
    gradient_checkpointing: bool = False
    clip_vision: io.ClipVision.Type | None = None
    custom: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TrainerInputs:
        """The inputs as the host passes them."""
        own = {one.name for one in fields(cls)}
        custom = {name: value for name, value in given.items() if name not in own}
        return cls(**{name: value for name, value in given.items() if name in own}, custom=custom)

    def settings(self) -> TrainingSettings:
        """Those of the preset, with what stands beside it.  Raises PerfusionError for what cannot be."""
        # Custom means the same for every model.
        family = model_family(self.model, text_encoders(self.clip)) if self.preset in PRESETS else ""
        return training_settings(self.preset, self.seed, self.flip, self.validate_every, dict(self.custom), family)

    def request(self, settings: TrainingSettings, statistics: TextStatistics) -> TrainingRequest:
        """The training that is asked for.  statistics: the input's, or those that were measured in its place."""
        return TrainingRequest(
            model=self.model,
            clip=self.clip,
            vae=self.vae,
            images=self.images,
            word=self.word,
            superclass=self.superclass,
            settings=settings,
            statistics=statistics,
            masks=self.masks,
            automatic_mask=self.automatic_mask,
            gradient_checkpointing=uses_checkpointing(self.preset, self.gradient_checkpointing),
            clip_vision=self.clip_vision,
            sample_cfg=self.sample_cfg,
            picture=thumbnail(self.images[0]),
        )
