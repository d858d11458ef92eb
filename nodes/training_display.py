"""What the trainer's node shows: the pictures before the work, then the bar, the line of text, and previews."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..perfusion_core.concept import Concept
from ..perfusion_core.memory_plan import MemoryPlan
from ..perfusion_core.training_pictures import PerPicture
from ..perfusion_core.training_status import StepReport, TrainingStatus
from .host.progress import Interrupted, NodeProgress
from .host.training.files import TrainingFiles
from .host.training.job import TrainingResult
from .host.training.measured_memory import memory_in_use
from .host.training.request import TrainingHooks, TrainingRequest
from .pictures import to_image
from .training_report import under_mask
from .training_samples import TrainingSamples

CELL, MOST_COLUMNS, MOST_CELLS = 160, 4, 16  # of the sheet of pictures


class TrainingDisplay:
    """One training as its node shows it; make it when the training starts.

    node_id: of the node, None outside a graph.
    """

    def __init__(self, request: TrainingRequest, node_id: str | None) -> None:
        self._request = request
        self._progress = NodeProgress(request.settings.steps, node_id)
        self._status = TrainingStatus()
        self._step = 0
        self._overview = ""

    def first_look(self, overview: str) -> None:
        """Show the pictures as they will be trained on, under their masks, and what will be done with them."""
        pictures, self._overview = self._request.pictures, overview
        masks = [None if mask is None else mask[None].clamp(0, 1) for mask in pictures.masks]
        self._progress.show(0, overview, self._sheet(masks))

    def hooks(self, preview_every: int, painted: TrainingSamples) -> TrainingHooks:
        """What the training calls; Cancel is raised from here.  painted: paints the previews."""

        def show_preview(concept: Concept) -> None:
            self._progress.show(concept.training["steps"], preview=joined(painted.preview(concept)))

        return TrainingHooks(self._show_step, show_preview, preview_every, self._show_masks, self._show_memory_plan)

    def say(self, text: str) -> None:
        """Show a line of text."""
        self._progress.say(text)

    def finished(self, result: TrainingResult, report: Image.Image) -> None:
        """Show what came of the training, in a line and in its report."""
        name = result.concept.word if result.path is None else result.path.name
        text = f"{name}: step {result.chosen_step} of {len(result.losses)}, effect {result.effect:.0%}"
        self._progress.show(self._request.settings.steps, text, report)

    @contextmanager
    def saying_what_is_kept(self, files: TrainingFiles) -> Iterator[None]:
        """Where Cancel stops the training in this block, say what is left of it."""
        try:
            yield
        except Interrupted:
            steps = self._request.settings.steps
            kept = f"kept at step {self._step} of {steps}: queue again with resume"
            self.say(kept if files.path is not None else "stopped before the first step: nothing to keep")
            raise

    def _show_masks(self, masks: PerPicture) -> None:
        if self._request.mask_source != "given":  # those were shown at first
            self._progress.show(0, preview=self._sheet(masks))

    def _show_memory_plan(self, plan: MemoryPlan) -> None:
        self._progress.show(0, f"{self._overview} · {plan.text()}" if self._overview else plan.text())

    def _show_step(self, report: StepReport) -> None:
        self._step = report.step
        self._progress.show(report.step, self._status.line(report, memory_in_use()))

    def _sheet(self, masks: PerPicture | Sequence[Tensor | None]) -> Image.Image:
        shown = zip(self._request.pictures.pictures, masks, strict=True)
        return sheet([under_mask(picture, mask) for picture, mask in list(shown)[:MOST_CELLS]])


def sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of any sizes in rows of cells of one size."""
    columns = min(MOST_COLUMNS, len(pictures))
    drawn = Image.new("RGB", (columns * CELL, math.ceil(len(pictures) / columns) * CELL))
    for index, picture in enumerate(pictures):
        cell = ImageOps.pad(picture, (CELL, CELL))
        drawn.paste(cell, (index % columns * CELL, index // columns * CELL))
    return drawn


def joined(pictures: Tensor) -> Image.Image:
    """Pictures [B, H, W, 3] side by side."""
    return to_image(torch.cat(list(pictures[..., :3]), dim=1))
