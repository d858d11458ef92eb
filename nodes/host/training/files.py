"""The files of a training in output/perfusion: its concept, and beside it the state from which it can go on, the
concepts of some of its steps and, at the end, its report.

All have one stem (hugsy.safetensors, hugsy.training_state, hugsy.steps/, hugsy.report.jpg).  Only the first is listed
by the loader.  Concepts and reports stay until the user takes them away.  State and steps stay while their training is
not finished, and then as long as it is one of the KEPT_FINISHED newest, for whoever wants more steps or another one
after all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

from ....perfusion_core.concept import Concept
from ....perfusion_core.concept_check import check_saved
from ....perfusion_core.concept_file import save_concept
from ....perfusion_core.errors import PerfusionError, with_advice
from ....perfusion_core.tensor_file import NameTakenError, sweep_temporaries, temporary_path
from ....perfusion_core.training import ConceptTrainer
from ....perfusion_core.training_state_file import KeptTraining, is_finished, load_training, save_training
from ..concept_folders import (
    check_output_folder,
    file_stem,
    free_concept_paths,
    output_folder,
    report_path,
    state_path,
    trained_concept_paths,
)
from ..kept_steps import KeptStep, forget_kept_steps, kept_steps, step_path

REPORT_QUALITY = 92
KEPT_FINISHED = 3  # states of finished trainings, each several times as large as its concept

logger = logging.getLogger(__name__)


def _with_another(different: Sequence[str], _started_with: str, _preset: str) -> str:
    return f"with another {', '.join(different) or 'model'}"


class TrainingFiles:
    """Keeps one training on disk.

    name: wanted name of the concept file; a number is added where it is taken.  resume: whether to go on with the
    training of that name that stopped last.  keep_every: steps between those of which the concept is kept, 0 for none.
    preset: with which it is started.  differences: says how an unfinished one differs, by the names of its inputs that
    do, its preset and this one.
    path: of the concept file, None while nothing was written.
    Raises PerfusionError for a name that no file can have, and where nothing can be written.
    """

    def __init__(
        self,
        name: str,
        resume: bool,
        keep_every: int = 0,
        preset: str = "",
        differences: Callable[[Sequence[str], str, str], str] = _with_another,
    ) -> None:
        # A name that cannot be, and a folder that takes nothing, are refused before the training and not after it.
        self._stem = file_stem(name)
        check_output_folder()
        self.name, self.resume, self.keep_every, self.preset = name, resume, keep_every, preset
        self._differences = differences
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
        obstacle: PerfusionError | None = None
        stopped_last = True  # which must not be left behind unnoticed
        for path in trained_concept_paths(self.name):
            try:
                kept = load_training(state_path(path))
            except PerfusionError as problem:
                if stopped_last:
                    obstacle = with_advice(problem, "turn resume off to start anew in another file")
                stopped_last = False
                continue
            if not self._is_of_this_name(path, kept):
                continue
            different = kept.differing_inputs(self._inputs)
            too_long = kept.finished and kept.state.step > trainer.settings.steps
            if not different and not too_long and kept.starts_like(trainer.start):
                return path, kept
            if stopped_last and not kept.finished:
                obstacle = PerfusionError(
                    f"{state_path(path)} is an unfinished training"
                    f" {self._differences(different, kept.preset, self.preset)};"
                    f" set that back to go on after its step {kept.state.step}, or turn resume off to start anew."
                )
            stopped_last = False
        if obstacle is not None:
            raise obstacle
        return None

    def _is_of_this_name(self, path: Path, kept: KeptTraining) -> bool:
        """The second file of <cat> and the first of <cat_2> have names of one pattern."""
        if kept.name in ("", self._stem):
            return True
        return path.stem == self._stem and kept.inputs.get("word") == self._inputs.get("word")

    def save(self, trainer: ConceptTrainer, concept: Callable[[], Concept], finished: bool = False) -> None:
        """Write what was learned so far, as a state and as a concept, each in one step.

        concept: makes it.  finished: whether the training is over and its concept was checked.
        """
        made = concept()
        kept = KeptTraining(trainer.state(), self._inputs, trainer.start, finished, self._stem, self.preset)
        if self.path is None:
            self.path = self._save_as_new(kept, made)
        else:
            save_training(state_path(self.path), kept)
            save_concept(self.path, made)
        if finished:
            forget_old_states(state_path(self.path))

    def _save_as_new(self, kept: KeptTraining, made: Concept) -> Path:
        """Under a name of which no file is there, also where another process saves at the same time."""
        for path in free_concept_paths(self.name):
            try:
                save_training(state_path(path), kept, replace=False)
            except NameTakenError:
                continue
            try:
                save_concept(path, made, replace=False)
            except NameTakenError:  # between the look and the state
                state_path(path).unlink()
                continue
            return path
        raise AssertionError("there is no end of names")

    def keep_step(self, trainer: ConceptTrainer, concept: Callable[[], Concept]) -> None:
        """Keep the concept of the present step, where that is due; a disk that refuses is told of in the log only.

        concept: makes it."""
        if not self.keep_every or trainer.step_number % self.keep_every:
            return
        if self.path is None:
            self.save(trainer, concept)
        try:
            save_concept(step_path(self._written(), trainer.step_number), concept())
        except PerfusionError as problem:
            logger.warning("Step %d was not kept for comparison: %s", trainer.step_number, problem)

    def kept_steps(self) -> list[KeptStep]:
        """The steps that were kept of this training, also before it stopped and went on; the earliest first."""
        return [] if self.path is None else kept_steps(self.path)

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
        path = report_path(self._written())
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


def forget_old_states(finished: Path) -> None:
    """Delete the states of finished trainings in the folder of this one, and their kept steps, except the newest.

    finished: the state that was written last.  One that cannot be deleted is left for the next time.
    """
    others = [path for path in finished.parent.glob(f"*{finished.suffix}") if path != finished and is_finished(path)]
    others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in others[KEPT_FINISHED - 1 :]:
        try:
            path.unlink()
        except OSError as problem:
            logger.info("The old training state %s could not be deleted (%s).", path, problem)
        else:
            logger.info("Deleted %s, the state of a finished training; its concept stays.", path.name)
            forget_kept_steps(path)


class NoFiles:
    """A training of which nothing is kept: does nothing wherever `TrainingFiles` would write or read."""

    path = None

    def open(self, trainer: ConceptTrainer, inputs: Mapping[str, Any]) -> None:
        """There is nothing to resume."""

    def save(self, trainer: ConceptTrainer, concept: Callable[[], Concept], finished: bool = False) -> None:
        """The concept is not even made."""

    def keep_step(self, trainer: ConceptTrainer, concept: Callable[[], Concept]) -> None:
        """The concept is not even made."""

    def kept_steps(self) -> list[KeptStep]:
        """There are none."""
        return []

    def check(self, concept: Concept) -> None:
        """There is no file to read back."""

    def telling_where(self, trainer: ConceptTrainer) -> AbstractContextManager[None]:
        """There is no place to tell of."""
        return nullcontext()
