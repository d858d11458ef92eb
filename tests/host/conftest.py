"""A real ComfyUI on the CPU, and the pack loaded the way ComfyUI loads it.

The repository's root must not be on sys.path here: its `nodes/` would hide the host's own `nodes.py`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from by_location import REPOSITORY, load_package

PACK = "perfusion_pack"

# Next to this file are the builders of tiny models, which tests import by name.
sys.path.insert(0, str(Path(__file__).resolve().parent))


def comfyui_folder() -> Path | None:
    """Return the ComfyUI to test with: COMFYUI_PATH, else the one that contains the pack, else the usual place."""
    named = os.environ.get("COMFYUI_PATH")
    containing = [parent.parent for parent in REPOSITORY.parents if parent.name == "custom_nodes"]
    for folder in [Path(named)] if named else [*containing, Path.home() / "comfy" / "ComfyUI"]:
        if (folder / "main.py").is_file() and (folder / "comfy").is_dir():
            return folder
    return None


def start_host(folder: Path) -> None:
    """Put the host on sys.path and set it to the CPU, before it looks for a device."""
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != REPOSITORY]
    sys.path.insert(0, str(folder))
    import comfy.cli_args
    import utils.extra_config  # noqa: F401  first, as in main.py: nodes.py puts comfy/ with its utils.py before it

    comfy.cli_args.args.cpu = True


def keep_torch_from_tracing() -> None:
    """Stop torch from writing down all that it compiles.

    It does so as soon as its trace has a handler, and pytest gives one to every logger that does not propagate: the
    tests with torch.compile took a fifth longer, and a failure was buried under the trace.
    """
    logging.getLogger("torch.__trace").propagate = True


HOST = comfyui_folder()
if HOST is None:
    collect_ignore_glob = ["test_*.py"]
else:
    start_host(HOST)
    load_package(PACK)  # of an arbitrary name, as ComfyUI does with a folder in custom_nodes
    load_package("dev_tools", "dev_tools")
    load_package("quality", "benchmarks/quality")
    keep_torch_from_tracing()


def pytest_report_header() -> str:
    return f"host: {HOST or 'no ComfyUI found (set COMFYUI_PATH); tests of the host side are left out'}"


@pytest.fixture(scope="module")
def model():
    from tiny_models import tiny_model

    return tiny_model()


@pytest.fixture(scope="module")
def clip():
    from tiny_models import tiny_clip

    return tiny_clip()


@pytest.fixture(scope="module")
def hugsy(model, clip):
    """A concept for the module's MODEL and CLIP."""
    from tiny_models import make_concept

    return make_concept(model, clip)


@pytest.fixture(scope="module")
def cuppy(model, clip):
    """Another one, whose word is not that of the first."""
    from tiny_models import make_concept

    return make_concept(model, clip, "<cuppy>", "cup", seed=4)


@pytest.fixture(scope="module")
def inputs():
    """What the trainer's sockets get."""
    from training_inputs import training_inputs

    return training_inputs()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder for concepts, in an output folder of the test's own."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path / "perfusion"


@pytest.fixture(scope="session")
def running_host(tmp_path_factory) -> Iterator[object]:
    """A server with this pack, as the registry's archive holds it, on the CPU, for the whole session."""
    from shipped_archive import copy_shipped

    from dev_tools import host
    from dev_tools.interpreters import Interpreter
    from dev_tools.server import running

    interpreter = Interpreter(Path(sys.executable), "cpu", False)
    pack = copy_shipped(tmp_path_factory.mktemp("unpacked") / "perfusion")
    with running(host.find(), interpreter, tmp_path_factory.mktemp("host"), repository=pack) as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The models of these tests are so small that threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def press_cancel(monkeypatch):
    """A function that lets the host's Cancel be pressed while a step is shown."""
    import comfy.model_management

    def at(step: int | None) -> None:
        def update(self, value, total=None, preview=None):
            if value == step:
                comfy.model_management.interrupt_current_processing()
            comfy.model_management.throw_exception_if_processing_interrupted()

        monkeypatch.setattr("comfy.utils.ProgressBar.update_absolute", update)

    return at


@pytest.fixture(scope="module")
def families() -> dict[str, Any]:
    """What a file has made of each family of transformers; see `transformer_families`."""
    return {}
