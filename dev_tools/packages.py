"""Making `.venv` and installing into it what a ComfyUI or the tests require, with the disk watched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from . import torch_trio
from .errors import DISK_FULL_WORDS, DevError, disk_full
from .paths import OWN_VENV, REPOSITORY, venv_python
from .pip_runner import install

# Free space asked for before an installation starts, measured with a CUDA build of torch (the largest one), unpacked,
# plus the downloads that pip keeps beside it while it works.
HOST_GIB = 12.0
CORE_GIB = 9.0
TOOLS_GIB = 0.5

# What tests/core needs besides the test tools.
CORE_PACKAGES = ("torch", "numpy", "safetensors", "einops", "pillow")
# What ComfyUI's server imports although some of its versions do not list it.
UNLISTED_PACKAGES = ("requests",)


def require_space(folder: Path, gib: float) -> None:
    """Raise DevError unless `gib` GiB are free where `folder` is."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        raise DevError(
            f"The disk with {folder} has {free:.1f} GiB free and this installation needs about {gib:g} GiB: free some "
            "space, or name a ComfyUI that already runs with --host PATH."
        )


def _require_space_for_torch(gib: float) -> None:
    # An installation that was interrupted, or lacks a package or two, needs no second torch.
    has_torch = any((*OWN_VENV.glob("lib/*/site-packages/torch"), *OWN_VENV.glob("Lib/site-packages/torch")))
    require_space(REPOSITORY, TOOLS_GIB if has_torch else gib)


def make_venv(folder: Path = OWN_VENV) -> Path:
    """The Python of the virtual environment in `folder`, made with the running Python when it is not there yet."""
    python = venv_python(folder)
    if not python.exists():
        print(f"Making a virtual environment in {folder}", flush=True)
        result = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
        if result.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            words = (result.stdout + result.stderr).lower()
            # ensurepip keeps the reason of its failure for itself.
            if any(text in words for text in DISK_FULL_WORDS) or shutil.disk_usage(REPOSITORY).free < 2**26:
                raise DevError(disk_full(f"making {folder}"))
            hint = " (on Debian and Ubuntu: apt install python3-venv)" if "ensurepip" in words else ""
            raise DevError(
                f"{sys.executable} could not make a virtual environment in {folder}{hint}: install its venv "
                "module, or start dev.py with the Python that runs your ComfyUI."
            )
    return python


def install_for_host(host: Path) -> Path:
    """Install all that the ComfyUI in `host` requires into `.venv` and return its Python."""
    _require_space_for_torch(HOST_GIB)
    python = make_venv()
    print(
        "Installing what this ComfyUI requires into .venv; this is done once and takes some minutes. "
        + torch_trio.download_sentence(),
        flush=True,
    )
    requirements = [*UNLISTED_PACKAGES, "-r", str(host / "requirements.txt")]
    torch_trio.install_with_trio(python, requirements, torch_trio.index_options())
    return python


def install_for_core() -> Path:
    """Install what tests/core needs into `.venv` and return its Python."""
    _require_space_for_torch(CORE_GIB)
    python = make_venv()
    print(
        "No Python with torch was found: installing torch into .venv; this is done once. "
        + torch_trio.download_sentence(),
        flush=True,
    )
    install(python, CORE_PACKAGES, *torch_trio.index_options())
    return python
