"""What the registry's archive holds: every file that git knows without those that .comfyignore names.

The rule: what a running pack needs, and nothing else.  Python is what can be reached by imports from the entry point,
so that no script which trains, makes or measures, and nothing that reaches for the network or a pickle, slips in.
"""

from __future__ import annotations

import re

import pytest
from import_graph import reached_from
from shipped_archive import git_files, shipped_files, write_archive
from test_architecture import NETWORK_MODULES, REPOSITORY, UNSAFE_MODULES, imports, unsafe_calls

RUNTIME = re.compile(
    r"""
    __init__\.py | pyproject\.toml | README\.md | LICENSE | CHANGELOG\.md | CITATION\.cff
    | (nodes|perfusion_core)/.*\.py
    | demo/(\w+|world/\w+)\.py
    | demo/weights/\w+\.(safetensors|json)
    | demo/(concepts|loras)/\w+\.safetensors
    | web/\w+\.js
    | web/docs/\w+\.md | web/docs/\w+/\w+\.jpg
    | workflows/[^/]+\.(json|jpg)
    | subgraphs/[^/]+\.json
    | locales/.*\.json
    """,
    re.VERBOSE,
)
MOST_BYTES = 12_000_000
# Not reached by any node: what a user starts on the files that the nodes wrote.
COMMANDS = {"perfusion_core/word_file.py"}


@pytest.fixture(scope="module")
def shipped() -> set[str]:
    return shipped_files()


def test_the_archive_is_small(tmp_path):
    assert write_archive(tmp_path / "node.zip").stat().st_size <= MOST_BYTES


def test_only_what_a_running_pack_needs_is_shipped(shipped):
    assert not sorted(path for path in shipped if not RUNTIME.fullmatch(path))


def test_all_python_that_is_shipped_is_reached_from_the_entry_point_and_all_that_is_reached_is_shipped(shipped):
    reached = reached_from(REPOSITORY, "__init__.py")
    assert {path for path in shipped if path.endswith(".py")} == reached | COMMANDS


def test_all_that_the_nodes_read_is_shipped(shipped):
    """Weights, concepts, help pages and templates, found by their paths and not by imports."""
    folders = ("demo/weights", "demo/concepts", "demo/loras", "web", "workflows", "subgraphs", "locales")
    there = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file()
    }
    assert there and not sorted(there & git_files() - shipped)


def test_nothing_that_is_shipped_reaches_for_the_network_or_a_pickle(shipped):
    for path in sorted(path for path in shipped if path.endswith(".py")):
        _, outside = imports(path)
        assert not outside & (NETWORK_MODULES | UNSAFE_MODULES), path
        assert not unsafe_calls(path), path


def test_the_ignore_file_names_whole_folders_and_files():
    """No pattern leaves something out, or in, because of a part of its name."""
    lines = (REPOSITORY / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = {line for line in lines if line and not line.startswith("#")}
    assert ".*" in patterns  # what git and other tools keep for themselves
    assert not [pattern for pattern in patterns - {".*"} if not re.fullmatch(r"/[\w./-]+", pattern)]


def test_the_rules_see_what_must_not_be_shipped(tmp_path, monkeypatch):
    for path in ("demo/making/tour.py", "tests/core/test_archive.py", "demo/pictures/tour.jpg", "dev.py", "a.ckpt"):
        assert not RUNTIME.fullmatch(path)
    package = tmp_path / "demo"
    package.mkdir()
    (package / "__init__.py").write_text("from . import used\n")
    (package / "used.py").write_text("def load():\n    from .late import value\n")
    (package / "late.py").write_text("value = 1\n")
    (package / "unused.py").write_text("import torch\ntorch.load('a')\n")
    assert reached_from(tmp_path, "demo/__init__.py") == {"demo/__init__.py", "demo/used.py", "demo/late.py"}
    monkeypatch.setattr("test_architecture.REPOSITORY", tmp_path)
    assert unsafe_calls("demo/unused.py")
