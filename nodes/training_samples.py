"""Pictures that the trainer paints with the concept: a few while it learns, and those of the report at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..perfusion_core.concept import Concept, alone
from ..perfusion_core.concept_file import load_concept
from .host.gate.patch import apply_concepts
from .host.kept_steps import KeptStep
from .host.text.words import add_words
from .host.training.request import TrainingRequest
from .host.training.sampling import sample_pictures
from .pictures import to_image

SCENES = ("a photo of a {}", "a {} on the beach", "a {} in the snow", "a {} with a hat")
PREVIEWS = 2  # scenes of a preview
PREVIEW_STEPS, FINAL_STEPS = 8, 20  # of the sampler; a preview must not take long

# Of kept steps: one scene, in which one sees the thing and whether the prompt still counts.  At most so many pictures
# of PREVIEW_STEPS cost a few per cent of the training.
STRIP_SCENE, STRIP = 1, 8


@dataclass
class TrainingSamples:
    """Paints with the models of the trainer's sockets and remembers what was painted.

    latent_shape: [C, h, w].  seed: of the first scene; the scenes have the same seeds each time, so that one sees what
    the training changed.  rows: captioned pictures, one row for each time.
    """

    model: io.Model.Type
    clip: io.Clip.Type
    vae: io.Vae.Type
    latent_shape: tuple[int, ...]
    seed: int
    cfg: float
    rows: list[list[tuple[str, Image.Image]]] = field(default_factory=list)

    @classmethod
    def of(cls, request: TrainingRequest) -> TrainingSamples:
        """Samples as large as most of the training pictures."""
        shape, seed = request.latent_shape, request.settings.seed
        return cls(request.model, request.clip, request.vae, shape, seed, request.sample_cfg)

    def preview(self, concept: Concept) -> Tensor:
        """Paint the first scenes, [PREVIEWS, H, W, 3], with a concept that is still learning."""
        return self._paint(concept, PREVIEWS, PREVIEW_STEPS, f"step {concept.training['steps']}: ")

    def strip(self, kept: Sequence[KeptStep]) -> None:
        """Paint one scene, always with the same seed, with the concepts of kept steps: at most STRIP of them, spread
        evenly up to the last."""
        count, row = min(len(kept), STRIP), []
        for number in range(1, count + 1):
            one = kept[number * len(kept) // count - 1]
            row += self._captioned(load_concept(one.path), [STRIP_SCENE], PREVIEW_STEPS, f"step {one.step}, kept: ")[0]
        if row:
            self.rows.append(row)

    def final(self, concept: Concept, count: int, kept: Sequence[KeptStep] = ()) -> None:
        """Paint the strip of kept steps, and the first `count` scenes with the finished concept; 0 paints nothing."""
        if count:
            self.strip(kept)
            self._paint(concept, count, FINAL_STEPS, "")

    def _paint(self, concept: Concept, count: int, steps: int, when: str) -> Tensor:
        row, pictures = self._captioned(concept, range(count), steps, when)
        self.rows.append(row)
        return pictures

    def _captioned(
        self, concept: Concept, scenes: Sequence[int], steps: int, when: str
    ) -> tuple[list[tuple[str, Image.Image]], Tensor]:
        """Successive scenes with their captions, and as pictures [S, H, W, 3]."""
        stack = alone(concept)
        prompts = [SCENES[scene].format(concept.word) for scene in scenes]
        pictures = sample_pictures(
            apply_concepts(self.model, stack),
            add_words(self.clip, stack),
            self.vae,
            prompts,
            self.latent_shape,
            self.seed + scenes[0],
            steps=steps,
            cfg=self.cfg,
        )
        return [(when + prompt, to_image(p)) for prompt, p in zip(prompts, pictures, strict=True)], pictures
