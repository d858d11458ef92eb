"""Loads folders of this repository as packages, without the repository's root on sys.path.

The root must stay off the path in every process of tests: its nodes/ would hide the host's own nodes.py.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]


def load_package(name: str, folder: str = "") -> ModuleType:
    """Make `import name` work for a folder, given relative to the repository's root, and return the package."""
    if name not in sys.modules:
        path = REPOSITORY / folder
        spec = importlib.util.spec_from_file_location(
            name, path / "__init__.py", submodule_search_locations=[str(path)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
