"""Pictures that the trainer paints with the concept: a few while it learns, and those of the report at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..perfusion_core.concept import Concept, alone
from .host.gate.patch import apply_concepts
from .host.text.words import add_words
from .host.training.request import TrainingRequest
from .host.training.sampling import sample_pictures
from .pictures import to_image

SCENES = ("a photo of a {}", "a {} on the beach", "a {} in the snow", "a {} with a hat")
PREVIEWS = 2  # scenes of a preview
PREVIEW_STEPS, FINAL_STEPS = 8, 20  # of the sampler; a preview must not take long


@dataclass
class TrainingSamples:
    """Paints with the models of the trainer's sockets and remembers what was painted.

    latent_shape: [C, h, w].  seed: of the first scene; the scenes have the same seeds each time, so that one sees what
    the training changed.  rows: captioned pictures, one row for each time.
    """

    model: io.Model.Type
    clip: io.Clip.Type
    vae: io.Vae.Type
    latent_shape: tuple[int, int, int]
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

    def final(self, concept: Concept, count: int) -> None:
        """Paint the first `count` scenes with the finished concept."""
        if count:
            self._paint(concept, count, FINAL_STEPS, "")

    def _paint(self, concept: Concept, count: int, steps: int, when: str) -> Tensor:
        stack = alone(concept)
        prompts = [scene.format(concept.word) for scene in SCENES[:count]]
        pictures = sample_pictures(
            apply_concepts(self.model, stack),
            add_words(self.clip, stack),
            self.vae,
            prompts,
            self.latent_shape,
            self.seed,
            steps=steps,
            cfg=self.cfg,
        )
        self.rows.append([(when + prompt, to_image(p)) for prompt, p in zip(prompts, pictures, strict=True)])
        return pictures
