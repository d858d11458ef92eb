"""Concepts as they were at some steps of a training, kept beside the one that came of it so that they can be compared.

Those of hugsy.safetensors are hugsy.steps/hugsy_step_50.safetensors and so on: ordinary concept files, in a folder that
the loader does not list.  They live as long as the state of their training (see `training.files`); what is left of
them takes the name, so that no new training mixes its steps with those of an old one.
"""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from ...perfusion_core.errors import PerfusionError, quoted
from ...perfusion_core.tensor_file import sweep_temporaries
from .concept_folders import KEPT_STEPS, output_folder, steps_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptStep:
    """A step of a training, and the file of the concept as it was then."""

    step: int
    path: Path


def step_path(path: Path, step: int) -> Path:
    """The file of one step; it bears the concept's name too, since people copy such files elsewhere."""
    return steps_folder(path) / f"{path.stem}_step_{step}.safetensors"


def kept_steps(path: Path) -> list[KeptStep]:
    """All kept steps of the concept with this path, the earliest first."""
    found = []
    for file in steps_folder(path).glob("*.safetensors"):
        number = re.fullmatch(re.escape(path.stem) + r"_step_(\d+)", file.stem)
        if number and file.is_file():
            found.append(KeptStep(int(number[1]), file))
    return sorted(found, key=lambda kept: kept.step)


def forget_kept_steps(path: Path) -> None:
    """Delete them; what else the user put into their folder stays, and so does what the system does not let go."""
    folder = steps_folder(path)
    if not folder.is_dir():
        return
    sweep_temporaries(folder)
    try:
        for kept in kept_steps(path):
            kept.path.unlink()
    except OSError as problem:
        logger.info("The kept steps in %s could not be deleted (%s).", folder, problem)
    else:
        logger.info("Deleted the kept steps in %s; their concept stays.", folder.name)
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()


def concepts_with_kept_steps() -> list[Path]:
    """The paths of all concepts in the output folder that have kept steps, whether or not they are there themselves."""
    paths = [folder.with_suffix(".safetensors") for folder in output_folder().glob(f"*{KEPT_STEPS}")]
    return sorted(path for path in paths if kept_steps(path))


def latest_training() -> Path:
    """The path of the concept that kept a step last.  Raises PerfusionError where none did."""
    paths = concepts_with_kept_steps()
    if not paths:
        raise PerfusionError(
            f"No kept steps were found in {output_folder()}; train a concept with keep_every above 0 and no larger than"
            " its steps."
        )
    return max(paths, key=lambda path: kept_steps(path)[-1].path.stat().st_mtime_ns)


def trained_concept(name: str) -> Path:
    """The path of the concept with this name, or with this path in the output folder, that has kept steps.

    Raises PerfusionError for another one, and so never leaves that folder."""
    known = {path.stem: path for path in concepts_with_kept_steps()}
    given = Path(name)
    stem = given.stem if given.parent == output_folder() else name
    if stem not in known:
        raise PerfusionError(
            f"{quoted(name)} has no kept steps in {output_folder()}, where {', '.join(known) or 'nothing'} has; choose"
            " one of these, or train with keep_every above 0 and no larger than the steps."
        )
    return known[stem]
