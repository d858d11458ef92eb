"""The maps of the house: every package's docstring names its modules, and a name is where its file says.

A new module gets its line in the docstring of the package it lies in: its name, two spaces or more, a few words.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from test_architecture import OWN, REPOSITORY, RUNTIME, parsed

# Folders whose packages have a map, with all packages inside them.
MAPPED = ("nodes", "perfusion_core", "demo", "benchmarks/quality", "dev_tools")

PACKAGES = sorted({path.parent for folder in MAPPED for path in (REPOSITORY / folder).rglob("__init__.py")})


def modules_in(package: Path) -> set[str]:
    """Names of the modules and packages that lie in a package."""
    files = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    return files | {path.parent.name for path in package.glob("*/__init__.py")}


def named_in(docstring: str) -> set[str]:
    """What the indented lines of a docstring name, with a few words behind each: "    name  what it is"."""
    return set(re.findall(r"(?m)^ {4}(\w+) {2,}\w+,? \S+", docstring))


@pytest.mark.parametrize("package", [str(path.relative_to(REPOSITORY)) for path in PACKAGES])
def test_a_packages_docstring_names_every_module(package):
    named = named_in(ast.get_docstring(parsed(f"{package}/__init__.py"), clean=False) or "")
    found = modules_in(REPOSITORY / package)
    assert named == found, f"missing: {sorted(found - named)}, gone: {sorted(named - found)}"


def test_a_map_is_read_as_written():
    text = "Head.\n\n    one  its words\n    two    more words\n    three\n    four  word\n\n  five  not far enough"
    assert named_in(text) == {"one", "two"}


def test_contributing_names_what_is_there():
    """Every file and folder in it that is written with a slash; those with a dot in front are made by dev.py."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w./-]+)`", text) if "/" in name and not name.startswith((".", "~"))]
    folders = (REPOSITORY, REPOSITORY / "nodes" / "host")  # the wings are written without the way to them
    assert len(named) > 10
    assert not [name for name in named if not any((folder / name).exists() for folder in folders)]


def test_no_two_files_of_the_pack_have_one_name():
    """`perfusion_core/likeness.py` and `nodes/host/likeness.py` were two."""
    names = Counter(Path(path).name for path in RUNTIME)
    assert not [name for name, count in names.items() if count > 1 and not name.startswith("__")]


def defined_in(path: str) -> set[str]:
    """The names that a module defines itself, at its top level."""
    names: set[str] = set()
    for node in parsed(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def borrowed(path: str) -> list[str]:
    """What a file imports from modules of the pack that have it from elsewhere: "names from module"."""
    found = []
    for node in (n for n in ast.walk(parsed(path)) if isinstance(n, ast.ImportFrom) and n.module):
        parts = node.module.split(".")
        if node.level:
            parts = [*Path(path).parent.parts[: len(Path(path).parent.parts) - node.level + 1], *parts]
        source = Path(*parts[parts[0] == "perfusion_pack" :]).with_suffix(".py").as_posix()
        if source in RUNTIME:
            foreign = {name.name for name in node.names} - defined_in(source)
            found += [f"{', '.join(sorted(foreign))} from {source}"] if foreign else []
    return found


@pytest.mark.parametrize("path", OWN)
def test_names_are_imported_from_where_they_are_defined(path):
    assert not borrowed(path)


def test_a_borrowed_name_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("test_architecture.REPOSITORY", tmp_path)
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "types.py").write_text("from x import Other\nOWN, (ALSO, _) = 1, (2, 3)\nclass Own: ...")
    user = tmp_path / "user.py"
    for text, seen in (
        ("from perfusion_pack.nodes.types import OWN, ALSO, Own", False),
        ("from .nodes.types import Other, Own", True),
        ("def f():\n    from perfusion_pack.nodes.types import Other", True),
    ):
        user.write_text(text)
        assert bool(borrowed("user.py")) == seen
