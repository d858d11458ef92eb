"""Where this repository is and where its commands keep what they make; all of it is ignored by git."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OWN_VENV = REPOSITORY / ".venv"
OWN_HOST = REPOSITORY / ".host" / "ComfyUI"
TEST_TOOLS = REPOSITORY / ".test-tools"
DEMO_FOLDER = REPOSITORY / ".demo"


def venv_python(venv: Path) -> Path:
    """The interpreter of a virtual environment, which may not exist."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"
