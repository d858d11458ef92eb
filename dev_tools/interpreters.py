"""Which Python to use: the one that already runs this ComfyUI, and only if there is none, the repository's `.venv`."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .errors import DevError
from .paths import OWN_VENV, venv_python
from .probing import probe

CORE_IMPORTS = ("torch", "numpy", "safetensors", "PIL")
HOST_IMPORTS = (*CORE_IMPORTS, "torchvision", "torchaudio", "aiohttp", "yaml", "requests", "comfyui_frontend_package")


@dataclass(frozen=True)
class Interpreter:
    """A Python that can do the job. `device` is cuda, xpu, mps or cpu."""

    python: Path
    device: str
    is_ours: bool


def required_distributions(host: Path) -> tuple[str, ...]:
    """The names in the host's requirements.txt, up to its line about non-essential ones."""
    try:
        lines = (host / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    names = []
    for line in map(str.strip, lines):
        if line.startswith("#") and "essential" in line:
            break
        if line and not line.startswith(("#", "-")):
            names.append(line.split(";")[0].split("[")[0].split("=")[0].strip(" <>~!"))
    return tuple(names)


def pinned_versions(host: Path) -> dict[str, str]:
    """The versions that the host's requirements.txt asks for exactly, such as its front end's."""
    try:
        text = (host / "requirements.txt").read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(re.findall(r"^([\w.-]+)==([\w.+-]+)\s*$", text, flags=re.MULTILINE))


def candidates(host: Path | None, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Interpreters to try, the likeliest first: beside the host, the one that runs this script, active, our own."""
    environment = os.environ if environment is None else environment
    found: list[Path] = []
    if host is not None:
        found += [venv_python(host / ".venv"), venv_python(host / "venv")]
        # The portable Windows build keeps its Python beside ComfyUI's folder.
        found += [host.parent / "python_embeded" / "python.exe"]
        found += [venv_python(host.parent / ".venv"), venv_python(host.parent / "venv")]
    found.append(Path(sys.executable))
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environment.get(variable):
            folder = Path(environment[variable])
            found += [venv_python(folder), folder / "python.exe"]
    found.append(venv_python(OWN_VENV))
    return list(dict.fromkeys(path for path in found if path.is_file()))


def for_host(host: Path) -> Interpreter:
    """A Python that runs the ComfyUI in `host`; `.venv` is made or completed when no other can."""
    ours = venv_python(OWN_VENV)
    for python in candidates(host):
        missing, device = probe(python, HOST_IMPORTS, _wanted(host, exactly=python == ours))
        if missing is None:
            return Interpreter(python, device, python == ours)
        print(f"{python} cannot run this ComfyUI ({missing}).", flush=True)
    was_there = OWN_VENV.exists()
    missing, device = _completed(host)
    if missing is not None and was_there:
        # An interrupted installation can leave packages of which pip believes that they are whole.
        print(f"{OWN_VENV} cannot be completed ({missing}): making it anew.", flush=True)
        shutil.rmtree(OWN_VENV)
        missing, device = _completed(host)
    if missing is not None:
        raise DevError(
            f"{OWN_VENV} was installed for the ComfyUI in {host} and still cannot run it ({missing}): start dev.py "
            "with the Python that runs your ComfyUI, or name another ComfyUI with --host PATH."
        )
    return Interpreter(ours, device, True)


def _completed(host: Path) -> tuple[str | None, str]:
    return probe(packages.install_for_host(host), HOST_IMPORTS, _wanted(host, exactly=True))


def _wanted(host: Path, exactly: bool) -> dict[str, str | None]:
    """The packages that the host requires; `exactly` in the versions that it pins, as it should be in our own `.venv`.

    A user's environment runs well enough with another front end than the one that its ComfyUI asks for.
    """
    pins = pinned_versions(host) if exactly else {}
    return {name: pins.get(name) for name in required_distributions(host)}


def for_core(host: Path | None) -> Interpreter:
    """A Python with torch, for tests that need no host; `.venv` is made when there is none."""
    for python in candidates(host):
        missing, device = probe(python, CORE_IMPORTS)
        if missing is None:
            return Interpreter(python, device, python == venv_python(OWN_VENV))
    python = packages.install_for_core()
    missing, device = probe(python, CORE_IMPORTS)
    if missing is not None:
        raise DevError(f"{OWN_VENV} was installed and still lacks something ({missing}): delete it and start again.")
    return Interpreter(python, device, True)
