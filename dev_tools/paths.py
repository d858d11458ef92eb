"""Where this repository is and where its commands keep what they make; all of it is ignored by git."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OWN_VENV = REPOSITORY / ".venv"
# Hosts that were installed here, by where they came from.
OWN_HOSTS = {source: REPOSITORY / ".host" / source / "ComfyUI" for source in ("official", "index")}
LOCK = REPOSITORY / ".host" / "pip.lock"
TEST_TOOLS = REPOSITORY / ".test-tools"
DEMO_FOLDER = REPOSITORY / ".demo"


def venv_python(venv: Path) -> Path:
    """The interpreter of a virtual environment, which may not exist."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"
