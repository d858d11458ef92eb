"""Where concept files live, and how they get there."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ...perfusion_core.concept import Concept
from ...perfusion_core.concept_file import save_concept
from ...perfusion_core.errors import PerfusionError, quoted
from ...perfusion_core.tensor_file import NameTakenError, check_room

FOLDER = "perfusion"
KEPT_STEPS = ".steps"  # ending of the folders of `kept_steps`
logger = logging.getLogger(__name__)

# Of a file's name, in bytes: with a number and an ending it must fit into the 255 that file systems have for it.
LONGEST_NAME = 200

# More than a concept and the state of its training take together, which is 2 MB for SDXL.
ROOM_BYTES = 4 * 2**20

_DEMO = Path(__file__).parents[2] / "demo"


def register_concept_folders() -> None:
    """Tell the host of models/perfusion, output/perfusion (what was trained is in the loader's list at once) and of the
    concepts that ship with the demo model, and that only .safetensors files count there.

    The demo's LoRA comes last in the host's list of LoRAs, whose folder for new ones is the first."""
    for folder in (models_folder(), output_folder(), _DEMO / "concepts"):
        folder_paths.add_model_folder_path(FOLDER, str(folder))
    folder_paths.add_model_folder_path("loras", str(_DEMO / "loras"))
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
    """All concept files, as the loader lists them: without the kept steps of trainings, which would hide the others.

    Those are found under their names all the same."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if Path(name).parent.suffix != KEPT_STEPS]


def concept_path(name: object) -> Path:
    """The full path of a listed concept file.  Raises PerfusionError for one that is not there, and for no name."""
    if not isinstance(name, str):
        raise PerfusionError(
            f"The input concept_file expected the name of a concept file, but found {quoted(name)}; choose a file."
        )
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        searched = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise PerfusionError(
            f"The concept file {name!r} was not found in {searched}; copy it to models/perfusion or choose another."
        )
    return Path(path)


def hidden_by(path: Path, name: str) -> str:
    """Says, where files of this name lie in several folders, which one is used, and what to do; else nothing.

    path: of that one, which the host found first."""
    found = [folder for folder in _listed_folders() if (folder / name).is_file()]
    others = [folder for folder in found if not os.path.samefile(folder / name, path)]
    used = [folder for folder in found if folder not in others]
    if not others or not used:
        return ""
    first = Path(*used[0].parts[-2:]).as_posix()
    return f"of {len(others) + 1} files called {name} the one in {first} is used, so rename it to load the other"


def state_path(path: Path) -> Path:
    """Where the training state of the concept with this path is kept."""
    return path.with_suffix(".training_state")


def report_path(path: Path) -> Path:
    """Where the report of the training of the concept with this path is kept."""
    return path.with_suffix(".report.jpg")


def steps_folder(path: Path) -> Path:
    """The folder of the kept steps of the concept with this path."""
    return path.with_suffix(KEPT_STEPS)


def check_output_folder() -> None:
    """Raise PerfusionError where concepts cannot be saved; asked before work that ends in one."""
    check_room(output_folder(), ROOM_BYTES)


def free_concept_paths(name: str) -> Iterator[Path]:
    """Paths in the output folder for a new concept called `name`, the first free one and those after it.

    A number is added where the name is taken by a concept in any folder of the loader, whose first file of a name hides
    the others, or by what a training leaves beside its concept.  Another process may take it in the meantime, so save
    there without `replace`.
    Raises PerfusionError for a name that leaves the folder, says nothing, or is too long.
    """
    stem = file_stem(name)
    for number in itertools.count(1):
        path = output_folder() / (f"{stem}_{number}.safetensors" if number > 1 else f"{stem}.safetensors")
        if not any(map(os.path.lexists, _takers(path))):
            yield path


def _takers(path: Path) -> list[Path]:
    """What must not be there for the path to be free."""
    listed = [folder / path.name for folder in _listed_folders()]
    return [path, state_path(path), report_path(path), steps_folder(path), *listed]


def _listed_folders() -> list[Path]:
    """The folders of the loader, in the order in which the host searches them; none in a script without any."""
    known = FOLDER in folder_paths.folder_names_and_paths
    return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)] if known else []


def trained_concept_paths(name: str) -> list[Path]:
    """The paths of all concepts that were called `name`, with or without a number, and have the state of a training
    beside them; the one that was worked on last comes first.  Raises PerfusionError as above."""
    stem = re.escape(file_stem(name))
    states = [path for path in output_folder().glob("*.training_state") if re.fullmatch(rf"{stem}(_\d+)?", path.stem)]
    states.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.with_suffix(".safetensors") for path in states]


def file_stem(name: str) -> str:
    """The name of a concept's files without their endings.  Raises PerfusionError as above."""
    stem = name.strip().removesuffix(".safetensors").strip("<>")
    plain = stem.isprintable() and not any(sign in stem for sign in '\\/:*?"<>|')
    if not stem or not plain or stem.startswith("."):
        raise PerfusionError(
            f"The name of a concept file must be a plain file name, but it is {quoted(name)}; use letters, digits, -"
            " and _."
        )
    if len(stem.encode()) > LONGEST_NAME:
        raise PerfusionError(
            f"The name of a concept file must be at most {LONGEST_NAME} letters long (fewer of other scripts), but"
            f" {quoted(stem)} has {len(stem)}; choose a shorter one."
        )
    return stem


def save_new_concept(name: str, concept: Concept) -> Path:
    """Save the concept under a free name in the output folder and return its path; nothing is ever overwritten."""
    for path in free_concept_paths(name):
        with contextlib.suppress(NameTakenError):
            save_concept(path, concept, replace=False)
            return path
    raise AssertionError("there is no end of names")
