"""No file imports itself by way of others; the demo that runs knows nothing of the nodes; what is imported is there."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from import_graph import imported_files, unresolved
from test_architecture import HOST_MODULES, OWN, REPOSITORY, imports, layer, python_files

PACKAGES = ("perfusion_core", "nodes", "demo", "benchmarks/quality", "dev_tools")
DEMO = [path for path in python_files("demo") if not path.startswith("demo/making/")]
# What the demo that runs takes of the host: the classes that it is made of.
NEEDS_HOST = {"demo/load.py", "demo/model.py"}


def circle(repository: Path, paths: list[str]) -> list[str]:
    """Files of which each imports the next, and the last the first; empty where there is no such circle.

    Imports inside functions count: a circle is no shorter for being walked later.
    """
    try:
        TopologicalSorter({path: imported_files(repository, path) - {path} for path in paths}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_has_a_circle_of_imports(package):
    assert (REPOSITORY / package).is_dir()
    assert circle(REPOSITORY, python_files(package)) == []


def test_the_pack_as_a_whole_has_no_circle_of_imports():
    assert circle(REPOSITORY, ["__init__.py", *python_files("nodes", "perfusion_core", "demo")]) == []


@pytest.mark.parametrize("path", DEMO)
def test_the_demo_that_runs_knows_the_core_alone(path):
    """And, of the host's side, what old hosts lack."""
    inside, outside = imports(path)
    inside = {target for target in inside if not target.startswith("nodes/host/old_hosts")}
    assert {layer(target) for target in inside} <= {"demo", "perfusion_core"}
    assert not [target for target in inside if target.startswith("demo/making")]
    assert path in NEEDS_HOST or not outside & HOST_MODULES


def test_everything_that_is_imported_of_the_pack_is_there():
    """In benchmarks and in the demo's scripts many imports stand inside functions that no test calls."""
    found = {path: unresolved(REPOSITORY, path) for path in OWN}
    assert not {path: names for path, names in found.items() if names}


def test_what_is_not_there_is_seen(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").write_text("from .b import value\n")
    (tmp_path / "a" / "b.py").write_text("value = 1\n")
    lines = ("from perfusion_pack.gone import x", "from .a import value, b, c", "from .a.b import other, value")
    (tmp_path / "user.py").write_text("def f():\n" + "".join(f"    {line}\n" for line in lines))
    assert unresolved(tmp_path, "user.py") == ["gone: x", "a: c", "a/b: other"]


def test_circles_are_seen(tmp_path):
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("")
    (package / "a.py").write_text("from . import b\n")
    (package / "b.py").write_text("from .inner import c\n")
    (package / "inner" / "c.py").write_text("def late():\n    from ..a import name\n")
    paths = ["package/a.py", "package/b.py", "package/inner/c.py"]
    assert set(circle(tmp_path, paths)) == set(paths)
    (package / "inner" / "c.py").write_text("name = 1\n")
    assert circle(tmp_path, paths) == []
