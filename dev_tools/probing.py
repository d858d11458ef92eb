"""Asking a Python what it can import, which is the only test of an environment that counts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Runs in the candidate Python. A torchaudio built for another torch is installed all the same, and the host dies on
# importing it. What the host requires beside these is looked up by name, which is quick where importing all of it
# takes half a minute.
_PROBE = """
import importlib, importlib.metadata, json, sys
answer = {"error": None, "device": "cpu"}
try:
    if sys.version_info < (3, 10):
        raise ImportError("Python %d.%d is older than 3.10" % sys.version_info[:2])
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
    for name, wanted in json.loads(sys.argv[2]).items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise ImportError("No package named " + name)
        if wanted and found != wanted:
            raise ImportError("%s is %s and %s is asked for" % (name, found, wanted))
    torch = sys.modules.get("torch")
    if hasattr(torch, "cuda"):
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

_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def probe(
    python: Path, imports: tuple[str, ...], distributions: tuple[str, ...] | Mapping[str, str | None] = ()
) -> tuple[str | None, str]:
    """(what is missing in `python`, or None; the device its torch can use).

    distributions: names of packages that must be installed; in a mapping, with the version that each must have, or None
    for any.
    """
    wanted = distributions if isinstance(distributions, Mapping) else dict.fromkeys(distributions)
    command = [str(python), "-c", _PROBE, json.dumps(imports), json.dumps(dict(wanted))]
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


def versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The versions of those of the packages that `python` has."""
    result = subprocess.run([str(python), "-c", _VERSIONS, *names], capture_output=True, text=True, cwd=python.parent)
    return json.loads(result.stdout) if result.returncode == 0 else {}
