"""Loads benchmarks/quality as the package `quality`, without the repository's root on sys.path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "quality"


def load_quality() -> None:
    """Make `import quality.measures` and its like work."""
    if "quality" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "quality", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["quality"] = module
    spec.loader.exec_module(module)
