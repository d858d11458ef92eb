"""Finding a ComfyUI, and installing one with its official installer where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import packages
from .errors import DevError
from .paths import OWN_HOST, OWN_VENV, REPOSITORY, venv_python

# main.py alone would also match many other programs.
_LANDMARKS = ("main.py", "nodes.py", "comfy", "comfy_extras")


def is_comfyui(folder: Path) -> bool:
    """Whether `folder` holds a ComfyUI source tree."""
    return all((folder / name).exists() for name in _LANDMARKS)


def version(host: Path) -> str:
    """ComfyUI's version as it says itself, or "of unknown version"."""
    try:
        text = (host / "comfyui_version.py").read_text(encoding="utf-8")
        return text.split('__version__ = "')[1].split('"')[0]
    except (OSError, IndexError):
        return "of unknown version"


def _usual_places(repository: Path, home: Path) -> Iterator[Path]:
    # Both as written and resolved: the pack is often a link inside custom_nodes.
    for path in dict.fromkeys((repository, repository.resolve())):
        if path.parent.name == "custom_nodes":
            yield path.parent.parent
    yield home / "comfy" / "ComfyUI"


def find(
    wanted: str | None = None,
    environment: Mapping[str, str] | None = None,
    repository: Path = REPOSITORY,
    home: Path | None = None,
    own_host: Path = OWN_HOST,
) -> Path | None:
    """The ComfyUI to use: `wanted` (--comfyui), COMFYUI_PATH, the one that contains this folder, ~/comfy/ComfyUI,
    the one that an earlier `dev.py demo` installed.

    Raises DevError when a place that the user named is no ComfyUI: silently taking another would be a surprise.
    """
    environment = os.environ if environment is None else environment
    named = {"--comfyui": wanted, "COMFYUI_PATH": environment.get("COMFYUI_PATH")}
    for source, value in named.items():
        if value:
            folder = Path(value).expanduser().resolve()
            if not is_comfyui(folder):
                raise DevError(
                    f"{source} names {folder}, which is not a ComfyUI folder (no {_missing_landmark(folder)} in it): "
                    "give the folder that contains ComfyUI's main.py."
                )
            return folder
    for folder in (*_usual_places(repository, home or Path.home()), own_host):
        if is_comfyui(folder):
            return folder.resolve()
    return None


def _missing_landmark(folder: Path) -> str:
    return next(name for name in _LANDMARKS if not (folder / name).exists())


def install() -> Path:
    """Install ComfyUI's source into .host/ with comfy-cli, its official installer, and return the folder.

    Only the source is taken here; the packages follow in `python_for_host`, because the versions of torch, torchvision
    and torchaudio have to be chosen together. Raises DevError when it cannot be had.
    """
    advice = "install ComfyUI yourself and name its folder with --comfyui PATH"
    if shutil.which("git") is None:
        raise DevError(f"No ComfyUI was found, and its installer needs git: install git, or {advice}.")
    print("No ComfyUI was found: installing one into .host/ with comfy-cli, its official installer.", flush=True)
    packages.require_space(REPOSITORY, packages.HOST_GIB)
    python = packages.make_own_venv()
    try:
        packages.install(python, ["comfy-cli"])
    except DevError as error:
        raise DevError(f"No ComfyUI was found and comfy-cli could not be installed ({error}); {advice}.") from None
    comfy = venv_python(OWN_VENV).with_name("comfy.exe" if os.name == "nt" else "comfy")
    command = [str(comfy), "--skip-prompt", "--workspace", str(OWN_HOST), "install", "--version", "latest"]
    command += ["--cpu", "--skip-manager", "--skip-torch-or-directml", "--skip-requirement"]
    log = OWN_HOST.parent / "install.log"
    log.parent.mkdir(exist_ok=True)
    # What an interrupted installation left; comfy-cli would take it for a complete one.
    shutil.rmtree(OWN_HOST, ignore_errors=True)
    environment = {**os.environ, "DO_NOT_TRACK": "1", "VIRTUAL_ENV": str(OWN_VENV)}
    print(f"comfy-cli is downloading ComfyUI; what it says goes to {log}", flush=True)
    with open(log, "wb") as output:
        result = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    if result.returncode != 0 or not is_comfyui(OWN_HOST):
        raise DevError(
            f"No ComfyUI was found and comfy-cli could not install one (exit code {result.returncode}, its own words "
            f"are in {log}): check the network, or {advice}."
        )
    return OWN_HOST
