"""What the inputs of Train Perfusion Concept ask for.

The node takes lists, so that pictures of several sizes make one training; the host then passes every input as a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from comfy_api.latest import io

from ..perfusion_core.concept import normalise_word
from ..perfusion_core.errors import PerfusionError
from ..perfusion_core.text_statistics import TextStatistics
from ..perfusion_core.training import TrainingSettings
from ..perfusion_core.training_pictures import TrainingPictures
from .advice import CFG_OF_FAMILY, CFG_OF_THE_FAMILY, KEEP_EVERY, PREVIEW_EVERY, SD15_CFG
from .host.concept_folders import file_stem
from .host.model_family import model_family, training_size
from .host.text.encoders import text_encoders
from .host.training.checks import check_superclass
from .host.training.request import TrainingRequest
from .training_settings import (
    AS_STANDARD,
    CAME_LATER,
    COUNTS_INSTEAD,
    DEFAULTS,
    PRESETS,
    SETTING_OF,
    bias_in_use,
    learns_whole_pictures,
    length_text,
    training_settings,
    uses_checkpointing,
)


class MaskSource(NamedTuple):
    """Where the weights of the loss are from: before the training, in its line, and in its report."""

    in_line: str
    in_report: str


MASKS_IN_WORDS = {
    "given": MaskSource("", "the masks input"),
    "attention": MaskSource("masks found automatically", "automatic"),
    "given and attention": MaskSource("missing masks found automatically", "the masks input, others automatic"),
    "none": MaskSource("without masks", ""),
}
LISTS = ("images", "masks", "captions")  # inputs of which every value counts


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainerInputs:
    """The inputs by their names in the schema; the optional ones may be missing in a saved workflow.

    custom: those of the preset Custom, as far as they were given.
    """

    model: io.Model.Type
    clip: io.Clip.Type
    vae: io.Vae.Type
    images: Any
    word: str
    superclass: str
    preset: str
    seed: int
    samples: int
    file_name: str
    masks: Any = None
    statistics: TextStatistics | None = None
    flip: bool = DEFAULTS.flip
    sample_cfg: float = CFG_OF_THE_FAMILY
    resume: bool = False
    automatic_mask: bool = True
    validate_every: int = DEFAULTS.validate_every
    preview_every: int = PREVIEW_EVERY
    gradient_checkpointing: bool = False
    clip_vision: io.ClipVision.Type | None = None
    resolution: int = 0
    captions: Any = None
    keep_every: int = KEEP_EVERY
    pooled_lock: bool = DEFAULTS.pooled_lock
    custom: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TrainerInputs:
        """The inputs as the host passes them, or each by itself.  Raises PerfusionError for several values of an input
        that takes one."""
        given = {name: value if name in LISTS else only(name, value) for name, value in given.items()}
        own = {one.name for one in fields(cls)}
        custom = {name: value for name, value in given.items() if name not in own}
        return cls(**{name: value for name, value in given.items() if name in own}, custom=custom)

    @property
    def name_of_file(self) -> str:
        """What the concept's file is to be called."""
        return self.file_name or normalise_word(self.word)

    def settings(self) -> TrainingSettings:
        """Those of the preset, with what stands beside it.  Raises PerfusionError for what cannot be."""
        family = model_family(self.model, text_encoders(self.clip))
        settings = training_settings(self.preset, self.seed, self.flip, self.validate_every, dict(self.custom), family)
        return replace(settings, pooled_lock=self.pooled_lock)

    def request(self, settings: TrainingSettings) -> TrainingRequest:
        """The training that is asked for, with the statistics of the input, if there are any."""
        return TrainingRequest(
            model=self.model,
            clip=self.clip,
            vae=self.vae,
            images=self.images,
            word=self.word,
            superclass=self.superclass,
            settings=settings,
            statistics=self.statistics,
            masks=self.masks,
            resolution=self.resolution or training_size(self.model, text_encoders(self.clip))[0],
            captions=self.captions,
            automatic_mask=self.automatic_mask and not learns_whole_pictures(self.preset),
            gradient_checkpointing=uses_checkpointing(self.preset, self.gradient_checkpointing),
            clip_vision=self.clip_vision,
            sample_cfg=self._cfg(),
            bias_in_use=bias_in_use(self.preset),
        )

    def _cfg(self) -> float:
        """That of the samples; below 1, where CFG means nothing, what suits the model's family."""
        family = model_family(self.model, text_encoders(self.clip))
        return self.sample_cfg if self.sample_cfg >= 1 else CFG_OF_FAMILY.get(family, SD15_CFG)

    def overview(self, request: TrainingRequest) -> str:
        """What will be trained and for how long, in one line."""
        settings, pictures = request.settings, request.pictures
        parts = [
            f"{length_text(settings)} · {request.word}, a {request.superclass}",
            self._overridden(settings),
            _sizes(pictures),
            MASKS_IN_WORDS[request.mask_source].in_line,
        ]
        return " · ".join(part for part in parts if part)

    def _overridden(self, settings: TrainingSettings) -> str:
        """Which of the settings that were changed the preset does not take."""
        asked = {name: value for name, value in self.custom.items() if value or name not in CAME_LATER}
        asked = {name: value for name, value in asked.items() if value != AS_STANDARD}
        changed = [name for name, value in asked.items() if value != getattr(DEFAULTS, SETTING_OF.get(name, name))]
        if self.preset not in PRESETS:
            idle = [name for name in changed if getattr(settings, COUNTS_INSTEAD.get(name, ""), None)]
            return f"the relative rates count, not {', '.join(idle)}" if idle else ""
        idle = [name for name in changed if asked[name] != getattr(settings, SETTING_OF.get(name, name))]
        return f"preset {self.preset}; for Custom only: {', '.join(idle)}" if idle else ""


def _sizes(pictures: TrainingPictures) -> str:
    count, sizes = len(pictures), pictures.described()
    counted = f"{count} picture{'s' if count > 1 else ''}"
    of_all = f"{count} at "
    return f"{counted} at {sizes.removeprefix(of_all)}" if sizes.startswith(of_all) else f"{counted}: {sizes}"


def check_texts(word: Any, superclass: Any, file_name: Any) -> None:
    """Raise PerfusionError for a word, a superclass or a file name that cannot be; None says nothing yet."""
    word, superclass, file_name = (
        only(name, text) for name, text in (("word", word), ("superclass", superclass), ("file_name", file_name))
    )
    if superclass is not None:
        check_superclass(str(superclass))
    if word is not None:
        normalise_word(str(word))
    if file_name:
        file_stem(str(file_name))


def only(name: str, value: Any) -> Any:
    """The one value of an input, of which the host may pass a list.  Raises PerfusionError for several."""
    if not isinstance(value, list | tuple):
        return value
    first = value[0] if value else None
    plain = isinstance(first, str | int | float | bool)
    different = [other for other in value if other is not first and not (plain and other == first)]
    if different:
        raise PerfusionError(
            f"The input {name} takes one value for the whole training, but a list of {len(value)} came; connect a"
            " single value, and queue once for each."
        )
    return first
