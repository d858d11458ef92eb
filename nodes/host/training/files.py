"""The files of a training in output/perfusion: its concept, and beside it the state from which it can go on and, at
the end, its report.

All have one stem (hugsy.safetensors, hugsy.training_state, hugsy.report.jpg).  Only the first has an ending that the
loader lists.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

from ....perfusion_core.concept import Concept
from ....perfusion_core.concept_check import check_saved
from ....perfusion_core.concept_file import save_concept
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.tensor_file import sweep_temporaries, temporary_path
from ....perfusion_core.training import ConceptTrainer
from ....perfusion_core.training_state_file import KeptTraining, load_training, save_training
from ..concept_folders import free_concept_path, output_folder, state_path, trained_concept_paths

REPORT_QUALITY = 92

logger = logging.getLogger(__name__)


class TrainingFiles:
    """Keeps one training on disk.

    name: wanted name of the concept file; a number is added where it is taken.  resume: whether to go on with the
    training of that name that stopped last.  path: of the concept file, None while nothing was written.
    Raises PerfusionError for a name that no file can have.
    """

    def __init__(self, name: str, resume: bool) -> None:
        free_concept_path(name)  # a name that cannot be is refused before the training and not after it
        self.name, self.resume = name, resume
        self.path: Path | None = None
        self._inputs: Mapping[str, Any] = {}

    def open(self, trainer: ConceptTrainer, inputs: Mapping[str, Any]) -> None:
        """Bring the trainer to where it stopped, if it is to resume and there is something to resume.

        inputs: all that must be the same for that, name for the user -> JSON value.
        Raises PerfusionError where the last training of that name was not finished and cannot go on with these inputs.
        """
        self._inputs = inputs
        sweep_temporaries(output_folder())
        found = self._to_resume(trainer) if self.resume else None
        if found is None:
            return
        path, kept = found
        trainer.restore(kept.state)
        logger.info("Going on with %s after step %d.", path.name, kept.state.step)
        if unknown := kept.not_noted(inputs):
            logger.info("An earlier version, which kept it, did not note: %s.", ", ".join(unknown))
        if not (kept.finished and trainer.settings.steps > kept.state.step):
            # Otherwise a finished concept gets more steps: it stays, and the longer training has a file of its own.
            self.path = path

    def _to_resume(self, trainer: ConceptTrainer) -> tuple[Path, KeptTraining] | None:
        paths = trained_concept_paths(self.name)
        obstacle: PerfusionError | None = None
        for path in paths:
            try:
                kept = load_training(state_path(path))
            except PerfusionError as problem:
                obstacle = obstacle or (problem if path == paths[0] else None)
                continue
            different = kept.differing_inputs(self._inputs)
            if not different and kept.starts_like(trainer.start):
                return path, kept
            # The one that stopped last must not be left behind unnoticed.
            if path == paths[0] and not kept.finished:
                obstacle = PerfusionError(
                    f"{state_path(path)} is an unfinished training with another {', '.join(different) or 'model'};"
                    f" set that back to go on after its step {kept.state.step}, or turn resume off to start anew."
                )
        if obstacle is not None:
            raise obstacle
        return None

    def save(self, trainer: ConceptTrainer, concept: Callable[[], Concept], finished: bool = False) -> None:
        """Write what was learned so far, as a state and as a concept, each in one step.

        concept: makes it.  finished: whether the training is over and its concept was checked.
        """
        made = concept()
        path = self.path or free_concept_path(self.name)
        kept = KeptTraining(trainer.state(), self._inputs, trainer.start, finished)
        save_training(state_path(path), kept)
        save_concept(path, made)
        self.path = path

    def check(self, concept: Concept) -> None:
        """Raise PerfusionError where the file that was written last does not hold this concept."""
        check_saved(self._written(), concept)

    def _written(self) -> Path:
        if self.path is None:
            raise RuntimeError("nothing was saved yet")
        return self.path

    def save_report(self, report: Image.Image) -> Path:
        """Write the picture beside the concept, in one step, and return its path; `save` must have been called.

        Where the system refuses to write it, that is told in the log only: the concept is safe, and the node shows the
        report anyway.
        """
        path = self._written().with_suffix(".report.jpg")
        temporary = temporary_path(path)
        try:
            report.save(temporary, "JPEG", quality=REPORT_QUALITY)
            os.replace(temporary, path)
        except OSError as problem:
            logger.warning("The report %s could not be written (%s).", path, problem)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    @contextmanager
    def telling_where(self, trainer: ConceptTrainer) -> Iterator[None]:
        """Say where the work is, whatever stops the training in this block."""
        try:
            yield
        except BaseException as reason:
            if self.path is None:
                raise
            kept = (
                f"{trainer.step_number} steps are kept in {self.path} and, for resume, in {state_path(self.path).name}"
            )
            logger.info("The training stopped (%s); %s.", type(reason).__name__, kept)
            if isinstance(reason, PerfusionError):
                raise PerfusionError(f"{str(reason).rstrip('.')}; {kept}.") from reason
            raise


class NoFiles:
    """A training of which nothing is kept: does nothing wherever `TrainingFiles` would write or read."""

    path = None

    def open(self, trainer: ConceptTrainer, inputs: Mapping[str, Any]) -> None:
        """There is nothing to resume."""

    def save(self, trainer: ConceptTrainer, concept: Callable[[], Concept], finished: bool = False) -> None:
        """The concept is not even made."""

    def check(self, concept: Concept) -> None:
        """There is no file to read back."""

    def telling_where(self, trainer: ConceptTrainer) -> AbstractContextManager[None]:
        """There is no place to tell of."""
        return nullcontext()
