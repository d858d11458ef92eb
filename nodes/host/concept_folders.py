"""Where concept files live, and how they get there."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ...perfusion_core.concept import Concept
from ...perfusion_core.concept_file import save_concept
from ...perfusion_core.errors import PerfusionError

FOLDER = "perfusion"
logger = logging.getLogger(__name__)

_SHIPPED = Path(__file__).parents[2] / "demo" / "concepts"


def register_concept_folders() -> None:
    """Tell the host of models/perfusion, output/perfusion (what was trained is in the loader's list at once) and of the
    concepts that ship with the demo model, and that only .safetensors files count there."""
    for folder in (models_folder(), output_folder(), _SHIPPED):
        folder_paths.add_model_folder_path(FOLDER, str(folder))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def models_folder() -> Path:
    """The folder for concept files from elsewhere; made where it is missing, so that whoever got a file finds it."""
    folder = Path(folder_paths.models_dir) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:  # as in a container whose models are read-only
        logger.info("The folder %s could not be made (%s).", folder, problem)
    return folder


def output_folder() -> Path:
    """The folder into which concepts are saved."""
    return Path(folder_paths.get_output_directory()) / FOLDER


def concept_names() -> list[str]:
    """All concept files, as the loader lists them."""
    return folder_paths.get_filename_list(FOLDER)


def concept_path(name: str) -> Path:
    """The full path of a listed concept file.  Raises PerfusionError for one that is not there."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        searched = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise PerfusionError(
            f"The concept file {name!r} was not found in {searched}; copy it to models/perfusion or choose another."
        )
    return Path(path)


def state_path(path: Path) -> Path:
    """Where the training state of the concept with this path is kept."""
    return path.with_suffix(".training_state")


def free_concept_path(name: str) -> Path:
    """A path in the output folder for a new concept called `name`; a number is added where the name is taken by a
    concept or by the state of a training, so that no file is ever overwritten.  Raises PerfusionError for a name that
    leaves the folder or says nothing."""
    return next(path for path in _numbered(name) if not (path.exists() or state_path(path).exists()))


def trained_concept_paths(name: str) -> list[Path]:
    """The paths of all concepts that were called `name`, with or without a number, and have the state of a training
    beside them; the one that was worked on last comes first.  Raises PerfusionError as above."""
    stem = re.escape(_stem(name))
    states = [path for path in output_folder().glob("*.training_state") if re.fullmatch(rf"{stem}(_\d+)?", path.stem)]
    states.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.with_suffix(".safetensors") for path in states]


def _numbered(name: str) -> Iterator[Path]:
    stem = _stem(name)
    for number in itertools.count(1):
        yield output_folder() / (f"{stem}_{number}.safetensors" if number > 1 else f"{stem}.safetensors")


def _stem(name: str) -> str:
    stem = name.strip().removesuffix(".safetensors").strip("<>")
    if not stem or any(sign in stem for sign in '\\/:*?"<>|') or stem.startswith("."):
        raise PerfusionError(
            f"The name of a concept file must be a plain file name, but it is {name!r}; use letters, digits, - and _."
        )
    return stem


def save_new_concept(name: str, concept: Concept) -> Path:
    """Save the concept under a free name in the output folder and return its path."""
    path = free_concept_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_concept(path, concept)
    return path
