"""Which Python to use: the one that already runs this ComfyUI, and only if there is none, the repository's `.venv`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .errors import DevError
from .paths import OWN_VENV, venv_python

# Runs in the candidate Python. Importing is the only test that counts: a torchaudio built for another torch is
# installed all the same, and the host dies on it. What the host requires beside these is looked up by name, which is
# quick where importing all of it takes half a minute.
_PROBE = """
import importlib, importlib.metadata, json, sys
answer = {"error": None, "device": "cpu"}
try:
    if sys.version_info < (3, 10):
        raise ImportError("Python %d.%d is older than 3.10" % sys.version_info[:2])
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
    for name in json.loads(sys.argv[2]):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise ImportError("No package named " + name)
    torch = sys.modules.get("torch")
    if torch is not None:
        if torch.cuda.is_available():
            answer["device"] = "cuda"
        elif getattr(torch, "xpu", None) is not None and torch.xpu.is_available():
            answer["device"] = "xpu"
        elif torch.backends.mps.is_available():
            answer["device"] = "mps"
except Exception as error:
    answer["error"] = "%s: %s" % (type(error).__name__, str(error).splitlines()[0] if str(error) else "")
sys.stdout.write("\\n" + json.dumps(answer) + "\\n")
"""

CORE_IMPORTS = ("torch", "numpy", "safetensors", "PIL")
HOST_IMPORTS = (*CORE_IMPORTS, "torchvision", "torchaudio", "aiohttp", "yaml", "comfyui_frontend_package")


@dataclass(frozen=True)
class Interpreter:
    """A Python that can do the job. `device` is cuda, xpu, mps or cpu."""

    python: Path
    device: str
    is_ours: bool


def probe(python: Path, imports: tuple[str, ...], distributions: tuple[str, ...] = ()) -> tuple[str | None, str]:
    """(what is missing in `python`, or None; the device its torch can use)."""
    command = [str(python), "-c", _PROBE, json.dumps(imports), json.dumps(distributions)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    # Another virtual environment's settings must not leak into the candidate.
    environment.pop("PYTHONHOME", None)
    try:
        # From a folder without Python files: -c puts the current folder on sys.path, and ours holds the pack.
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, cwd=python.parent, timeout=300
        )
        answer = json.loads(result.stdout.strip().splitlines()[-1])
    except OSError as error:
        return f"it does not start ({error.strerror})", "cpu"
    except subprocess.TimeoutExpired:
        return "it did not answer in 300 s", "cpu"
    except (ValueError, IndexError):
        # A crash while importing, such as two libraries that were built for different torch versions.
        return f"it ended with exit code {result.returncode} while importing {', '.join(imports)}", "cpu"
    return answer["error"], answer["device"]


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
    distributions = required_distributions(host)
    for python in candidates(host):
        missing, device = probe(python, HOST_IMPORTS, distributions)
        if missing is None:
            return Interpreter(python, device, python == venv_python(OWN_VENV))
        print(f"{python} cannot run this ComfyUI ({missing}).", flush=True)
    python = packages.install_for_host(host)
    missing, device = probe(python, HOST_IMPORTS, distributions)
    if missing is not None:
        raise DevError(
            f"{OWN_VENV} was installed for the ComfyUI in {host} and still cannot run it ({missing}): delete that "
            "folder and start again, or start dev.py with the Python that runs your ComfyUI."
        )
    return Interpreter(python, device, True)


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
