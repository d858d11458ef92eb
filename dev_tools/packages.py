"""Making `.venv` and installing packages into it, with the disk watched and pip's failures told in one sentence."""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import DevError, disk_full
from .paths import OWN_VENV, REPOSITORY, venv_python

# Free space asked for before an installation starts, measured with a CUDA build of torch (the largest one), unpacked,
# plus the downloads that pip keeps beside it while it works.
HOST_GIB = 12.0
CORE_GIB = 9.0
TOOLS_GIB = 0.5

# What tests/core needs besides the test tools.
CORE_PACKAGES = ("torch", "numpy", "safetensors", "einops", "pillow")

_DISK_FULL_WORDS = ("no space left on device", "errno 28", "not enough space on the disk")


def require_space(folder: Path, gib: float) -> None:
    """Raise DevError unless `gib` GiB are free where `folder` is."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        raise DevError(
            f"The disk with {folder} has {free:.1f} GiB free and this installation needs about {gib:g} GiB: free some "
            "space, or name a ComfyUI that already runs with --comfyui PATH."
        )


def _require_space_for_torch(gib: float) -> None:
    # An installation that was interrupted, or lacks a package or two, needs no second torch.
    has_torch = any((*OWN_VENV.glob("lib/*/site-packages/torch"), *OWN_VENV.glob("Lib/site-packages/torch")))
    require_space(REPOSITORY, TOOLS_GIB if has_torch else gib)


def make_own_venv() -> Path:
    """The Python of the repository's own `.venv`, made with the running Python when it is not there yet."""
    python = venv_python(OWN_VENV)
    if not python.exists():
        print(f"Making a virtual environment in {OWN_VENV}", flush=True)
        result = subprocess.run([sys.executable, "-m", "venv", str(OWN_VENV)], capture_output=True, text=True)
        if result.returncode != 0:
            shutil.rmtree(OWN_VENV, ignore_errors=True)
            words = (result.stdout + result.stderr).lower()
            # ensurepip keeps the reason of its failure for itself.
            if any(text in words for text in _DISK_FULL_WORDS) or shutil.disk_usage(REPOSITORY).free < 2**26:
                raise DevError(disk_full(f"making {OWN_VENV}"))
            hint = " (on Debian and Ubuntu: apt install python3-venv)" if "ensurepip" in words else ""
            raise DevError(
                f"{sys.executable} could not make a virtual environment in {OWN_VENV}{hint}: install its venv "
                "module, or start dev.py with the Python that runs your ComfyUI."
            )
    return python


def _pip(python: Path) -> list[str]:
    """A command that is pip acting on `python`, which need not have a pip of its own (those made by uv have none)."""
    if subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [str(python), "-m", "pip"]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip", "--python", str(python)]
    return [str(make_own_venv()), "-m", "pip", "--python", str(python)]


def install(python: Path, requirements: Sequence[str], *options: str) -> None:
    """`pip install` into the environment of `python`, its output shown. Raises DevError with pip's last error."""
    command = [*_pip(python), "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += [*options, *requirements]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    tail: collections.deque[str] = collections.deque(maxlen=60)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            tail.append(line.rstrip())
            if line.lstrip().startswith(("Downloading", "Installing collected", "Successfully installed", "ERROR")):
                print("  " + line.strip()[:120], flush=True)
    except BaseException:
        process.kill()
        raise
    finally:
        process.wait()
    if process.returncode == 0:
        return
    if any(text in "\n".join(tail).lower() for text in _DISK_FULL_WORDS):
        raise DevError(disk_full("installing packages"))
    said = [line for line in tail if line.startswith("ERROR")] or [line for line in tail if line] or ["nothing"]
    raise DevError(f"pip could not install {' '.join(requirements)} for {python}; its last words: {said[-1][:300]}")


def matching_trio(python: Path, *options: str) -> list[str]:
    """Requirements for torch, torchvision and torchaudio that belong together.

    torchaudio is released after torch and no longer names the torch it was built for, so a plain requirements file
    pairs the newest torch with an older torchaudio that cannot be loaded beside it. torchvision does name its torch.
    So the newest torchaudio decides, and torch is held at the same minor version.
    """
    command = [*_pip(python), "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed", "--no-input"]
    command += ["--disable-pip-version-check", "--report", "-", *options, "torchaudio"]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    try:
        version = json.loads(result.stdout)["install"][0]["metadata"]["version"]
    except (ValueError, LookupError):
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise DevError(
            f"No torchaudio for {python} could be found in the package index ({last[:200]}): check the network, or "
            "start dev.py with the Python that runs your ComfyUI."
        ) from None
    minor = ".".join(version.split("+")[0].split(".")[:2])
    return [f"torch=={minor}.*", "torchvision", f"torchaudio=={minor}.*"]


def torch_index_options() -> list[str]:
    """pip options for another build of torch (CPU, ROCm, another CUDA): PERFUSION_TORCH_INDEX is its package index."""
    index = os.environ.get("PERFUSION_TORCH_INDEX")
    return ["--extra-index-url", index] if index else []


def install_for_host(host: Path) -> Path:
    """Install all that the ComfyUI in `host` requires into `.venv`, in one pip command, and return its Python."""
    _require_space_for_torch(HOST_GIB)
    python = make_own_venv()
    print("Installing what this ComfyUI requires into .venv; this is done once and takes some minutes.", flush=True)
    options = torch_index_options()
    trio = matching_trio(python, *options)
    install(python, [*trio, "-r", str(host / "requirements.txt")], *options)
    return python


def install_for_core() -> Path:
    """Install what tests/core needs into `.venv` and return its Python."""
    _require_space_for_torch(CORE_GIB)
    python = make_own_venv()
    print("No Python with torch was found: installing torch into .venv; this is done once.", flush=True)
    install(python, CORE_PACKAGES, *torch_index_options())
    return python
