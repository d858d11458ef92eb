"""Which ComfyUI the pack lets itself be loaded by; made-up hosts, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Loads the pack as ComfyUI loads a folder in custom_nodes, and prints the error's kind and words as ComfyUI would log.
LOAD = """
import importlib.util, sys
if sys.argv[2] == "host": import folder_paths
spec = importlib.util.spec_from_file_location("some_name", sys.argv[1] + "/__init__.py")
pack = sys.modules["some_name"] = importlib.util.module_from_spec(spec)
try:
    spec.loader.exec_module(pack)
except Exception as error:
    print(type(error).__name__, error, sep=": ")
else:
    print("loaded", callable(pack.comfy_entrypoint), "torch" in sys.modules)
"""


def load(folder: Path, kind: str = "host", version: str | None = None, schema: bool = True) -> str:
    """Make a host of nothing but the files that tell its age, and return what loading the pack there prints."""
    (folder / "folder_paths.py").touch()
    if version is not None:
        (folder / "comfyui_version.py").write_text(f"__version__ = {version!r}\n")
    if schema:
        (folder / "comfy_api" / "latest").mkdir(parents=True)
        (folder / "comfy_api" / "latest" / "__init__.py").touch()
    command = [sys.executable, "-c", LOAD, str(REPOSITORY), kind]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def oldest() -> str:
    """The version that the registry is told."""
    return re.search(r'^requires-comfyui = ">=([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)[1]


def just_below() -> str:
    major, minor, patch = map(int, oldest().split("."))
    return f"{major}.{minor}.{patch - 1}" if patch else f"{major}.{minor - 1}.99"


def test_the_pack_loads_in_the_oldest_host_and_newer_ones(tmp_path):
    for index, version in enumerate([oldest(), f"{oldest()}-nightly", "0.9", "0.100.0", "1.0", "v2"]):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert load(folder, version=version) == "loaded True False", version


@pytest.mark.parametrize("version", [just_below(), "0.3.9", "0.3.64", "0.2", "unknown", ""])
def test_an_older_host_is_told_so_in_one_sentence(tmp_path, version):
    said = load(tmp_path, version=version)
    found = version or "of a version that does not tell its number"
    assert said == (
        f"PerfusionError: Perfusion needs ComfyUI {oldest()} or newer with the V3 node schema (comfy_api.latest), but"
        f" this is ComfyUI {found}; update ComfyUI and start it again."
    )


def test_a_host_without_a_version_or_without_the_node_schema_is_told_the_same(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    said = load(tmp_path / "a", schema=False)
    assert "this is ComfyUI of a version that does not tell its number; update" in said
    said = load(tmp_path / "b", version=oldest(), schema=False)
    assert f"the V3 node schema (comfy_api.latest), but this is ComfyUI {oldest()}; update" in said


def test_outside_comfyui_there_is_nothing_to_check(tmp_path):
    assert load(tmp_path, kind="script", schema=False) == "loaded True False"
