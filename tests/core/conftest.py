"""Loads perfusion_core as a top-level package, without the repository's root on sys.path.

The root must stay off the path: its nodes/ would hide the host's own nodes.py in a process that also tests the host.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def _load_perfusion_core() -> None:
    if "perfusion_core" in sys.modules:
        return
    folder = REPOSITORY / "perfusion_core"
    spec = importlib.util.spec_from_file_location(
        "perfusion_core", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["perfusion_core"] = module
    spec.loader.exec_module(module)


_load_perfusion_core()
