"""What the trainer's node shows while it learns: the bar, the line of text, and previews."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from ..perfusion_core.concept import Concept
from ..perfusion_core.training import StepReport
from ..perfusion_core.training_status import TrainingStatus
from .host.progress import NodeProgress, memory_in_use
from .host.training.request import TrainingHooks, TrainingRequest
from .pictures import to_image
from .training_samples import TrainingSamples


class TrainingDisplay:
    """One training as its node shows it; make it when the training starts.

    painted: paints the previews.  node_id: of the node, None outside a graph.
    """

    def __init__(self, request: TrainingRequest, painted: TrainingSamples, node_id: str | None) -> None:
        self._progress = NodeProgress(request.settings.steps, node_id)
        self._status = TrainingStatus(request.settings)
        self._painted = painted

    def hooks(self, preview_every: int) -> TrainingHooks:
        """What the training calls; Cancel is raised from here."""
        return TrainingHooks(self._show_step, self._show_preview, preview_every)

    def _show_step(self, report: StepReport) -> None:
        self._progress.show(report.step, self._status.line(report, memory_in_use()))

    def _show_preview(self, concept: Concept) -> None:
        self._progress.show(concept.training["steps"], preview=joined(self._painted.preview(concept)))


def joined(pictures: Tensor) -> Image.Image:
    """Pictures [B, H, W, 3] side by side."""
    return to_image(torch.cat(list(pictures[..., :3]), dim=1))
