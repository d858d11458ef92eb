"""The rules of the house: imports run downward only, files stay short, nothing unsafe or undocumented at run time.

nodes -> nodes/host -> perfusion_core        demo/ and benchmarks/ may import all three;
                                             of the pack only nodes/demo*.py imports demo/
inside nodes/host: training, attention, editing -> gate -> text -> the files beside them

The maps of the packages and the homes of names have rules of their own: test_maps.py.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_LINES = 400
MAX_LINES_OF_EXECUTE = 25

HOST_MODULES = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "node_helpers"}
HOST_MODULES |= {"execution", "latent_preview", "server", "app"}
NETWORK_MODULES = {"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "xmlrpc", "asyncio", "webbrowser"}
NETWORK_MODULES |= {"requests", "urllib3", "httpx", "aiohttp", "websocket", "websockets", "huggingface_hub"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "subprocess", "ctypes"}
IMPORTERS = "perfusion_core/importers"
PICKLE_READER = f"{IMPORTERS}/pickle_file.py"
UNSAFE_CALLS = {"print", "eval", "exec", "torch.load", "os.system", "numpy.load", "np.load"}


# Where the differences between hosts are, and names of the host that not all of the supported ones know.
OLD_HOSTS = "old_hosts.py"
NEWER_THAN_THE_OLDEST_HOST = {"Autogrow", "CoreModelPatcher", "advanced=", "search_aliases="}


def python_files(*folders: str) -> list[str]:
    """Repository-relative paths of the Python files in these folders, hidden ones left out."""
    paths = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    relative = [path.relative_to(REPOSITORY) for path in paths]
    return sorted(path.as_posix() for path in relative if not any(part.startswith(".") for part in path.parts))


CORE = python_files("perfusion_core")
NODES = python_files("nodes")
DEMO = python_files("demo")
RUNTIME = ["__init__.py", *CORE, *NODES]
OWN = sorted(path.name for path in REPOSITORY.glob("*.py"))
OWN += python_files("perfusion_core", "nodes", "demo", "benchmarks", "tests", "dev_tools")
RUNTIME = [path for path in RUNTIME if (REPOSITORY / path).is_file()]


def parsed(path: str) -> ast.Module:
    return ast.parse((REPOSITORY / path).read_text(encoding="utf-8"), path)


def imports(path: str) -> tuple[set[str], set[str]]:
    """Return what a file imports anywhere in it: paths inside the pack (relative imports), top names of the rest."""
    inside, outside = set(), set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            outside |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            folder = Path(path).parent.parts
            assert node.level - 1 <= len(folder), f"{path}:{node.lineno} imports from outside the pack"
            base = [*folder[: len(folder) - node.level + 1], *(node.module.split(".") if node.module else [])]
            # "from . import x" names the module x, "from .a import x" the module a or a.x: both are noted
            inside |= {"/".join(base)} if node.module else set()
            inside |= {"/".join([*base, name.name]) for name in node.names}
    return inside, outside


def unsafe_calls(path: str) -> list[str]:
    """The calls in a file of a function that prints, runs code, or unpickles."""
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if ast.unparse(call.func) in UNSAFE_CALLS]


def layer(path: str) -> str:
    parts = Path(path).parts
    if parts[:2] == ("nodes", "host"):
        return "nodes/host"
    return parts[0] if parts[0] in ("nodes", "perfusion_core", "demo", "benchmarks", "tests", "dev_tools") else "root"


MAY_IMPORT = {
    "perfusion_core": {"perfusion_core"},
    "nodes/host": {"nodes/host", "perfusion_core"},
    "nodes": {"nodes", "nodes/host", "perfusion_core"},
    "root": {"nodes", "nodes/host"},
}


@pytest.mark.parametrize("path", RUNTIME)
def test_imports_run_downward_only(path):
    inside, outside = imports(path)
    allowed = MAY_IMPORT[layer(path)]
    if path.startswith("nodes/demo"):
        allowed = allowed | {"demo"}
    upward = sorted(target for target in inside if layer(target) not in allowed)
    assert not upward, f"{path} imports {upward}"
    own_by_absolute_name = sorted(outside & {"perfusion_core", "demo", "benchmarks", "tests", "dev_tools"})
    assert not own_by_absolute_name, (
        f"{path} imports {own_by_absolute_name}: the pack has no name of its own in the host"
    )


# The wings of nodes/host, and which of them each may import; "" are the files beside them.
WINGS = {
    "": {""},
    "text": {"", "text"},
    "gate": {"", "text", "gate"},
    "attention": {"", "text", "gate", "attention"},
    "editing": {"", "text", "gate", "editing"},
    "training": {"", "text", "gate", "training"},
}


def wing(path: str) -> str:
    """The wing of a path in nodes/host, "" for what is in none."""
    parts = Path(path).with_suffix("").parts[2:]
    return parts[0] if parts and parts[0] in WINGS else ""


@pytest.mark.parametrize("path", [path for path in NODES if layer(path) == "nodes/host"])
def test_wings_import_in_one_direction(path):
    inside, _ = imports(path)
    against = sorted(t for t in inside if layer(t) == "nodes/host" and wing(t) not in WINGS[wing(path)])
    assert not against, f"{path} imports {against}"


def test_every_folder_of_the_host_side_is_a_wing():
    assert {Path(path).parts[2] for path in NODES if path.startswith("nodes/host/") and path.count("/") > 2} == set(
        WINGS
    ) - {""}


@pytest.mark.parametrize("path", CORE)
def test_core_knows_no_host(path):
    _, outside = imports(path)
    assert not outside & HOST_MODULES


@pytest.mark.parametrize("path", [path for path in NODES if layer(path) == "nodes"])
def test_only_nodes_host_touches_comfy(path):
    """A node's own file needs the schema classes of comfy_api; all else of the host goes through nodes/host/."""
    _, outside = imports(path)
    assert not outside & {"comfy", "comfy_extras", "comfy_execution", "execution", "server"}


def looks_at_the_host(call: ast.Call) -> bool:
    """Whether a call asks what this host has: hasattr or getattr with a default of something of comfy, a signature."""
    asks = {"hasattr", "inspect.signature"} | ({"getattr"} if len(call.args) == 3 else set())
    return ast.unparse(call.func) in asks and ast.unparse(call.args[0]).split(".")[0] in {"comfy", "comfy_api", "io"}


@pytest.mark.parametrize("path", [path for path in NODES + DEMO if Path(path).name != OLD_HOSTS])
def test_one_module_knows_what_old_hosts_lack(path):
    tree = list(ast.walk(parsed(path)))
    used = {node.attr for node in tree if isinstance(node, ast.Attribute)}
    used |= {node.id for node in tree if isinstance(node, ast.Name)}
    used |= {name.name for node in tree if isinstance(node, (ast.Import, ast.ImportFrom)) for name in node.names}
    used |= {f"{node.arg}=" for node in tree if isinstance(node, ast.keyword)}
    assert not used & NEWER_THAN_THE_OLDEST_HOST, f"take it from {OLD_HOSTS}"
    asked = [ast.unparse(node) for node in tree if isinstance(node, ast.Call) and looks_at_the_host(node)]
    assert not asked, f"{OLD_HOSTS} is the place to look at what the host has"
    if Path(path).name != "host_version.py":
        assert not used & {"host_version", "is_supported", "comfyui_version"}, "look at the host, not at its version"


@pytest.mark.parametrize("path", RUNTIME)
def test_no_network_no_pickle_no_print(path):
    _, outside = imports(path)
    assert not outside & NETWORK_MODULES
    assert not outside & UNSAFE_MODULES
    assert not [call for call in unsafe_calls(path) if not (path == PICKLE_READER and "weights_only=True" in call)]


@pytest.mark.parametrize("path", RUNTIME)
def test_only_the_offline_command_reads_pickles(path):
    """Nothing that the host loads can reach the one module that reads a pickle, in its restricted way."""
    if Path(path).parent.as_posix() != IMPORTERS:
        inside, _ = imports(path)
        assert not [target for target in inside if target.startswith(IMPORTERS)]


@pytest.mark.parametrize("path", RUNTIME)
def test_public_things_are_documented(path):
    """Every module, and every public function and class in it; in the core every public method too."""
    tree = parsed(path)
    assert ast.get_docstring(tree), f"{path} does not say what it is"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    things = [node for node in tree.body if isinstance(node, kinds)]
    if layer(path) == "perfusion_core":
        things += [m for c in things if isinstance(c, ast.ClassDef) for m in c.body if isinstance(m, kinds)]
    silent = [thing.name for thing in things if not thing.name.startswith("_") and not ast.get_docstring(thing)]
    assert not silent, f"{path} has no docstring for {silent}"


@pytest.mark.parametrize("path", [path for path in NODES if layer(path) == "nodes"])
def test_nodes_are_thin(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef) and node.name == "execute":
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_LINES_OF_EXECUTE, f"the execute in {path} has {lines} lines"


@pytest.mark.parametrize("path", OWN)
def test_files_stay_short(path):
    lines = len((REPOSITORY / path).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path} has {lines} lines"


def test_the_core_works_alone(tmp_path):
    """A script with torch and no host can use the package from wherever it lies."""
    shutil.copytree(REPOSITORY / "perfusion_core", tmp_path / "perfusion_core")
    paths = [Path(path).with_suffix("") for path in CORE]
    modules = ", ".join(".".join(path.parts) for path in paths if path.name != "__init__")
    script = f"import sys, {modules}\nassert not {HOST_MODULES!r} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment, timeout=120)


def test_the_rules_see_violations(tmp_path, monkeypatch):
    """The rules themselves: a file that breaks them is caught, in whatever form it imports."""
    monkeypatch.setattr("test_architecture.REPOSITORY", tmp_path)
    bad = tmp_path / "perfusion_core" / "bad.py"
    bad.parent.mkdir()
    for line in ("from ..nodes import x", "from .. import nodes", "from ..nodes.host.gate.patch import y"):
        bad.write_text(line)
        with pytest.raises(AssertionError, match="imports"):
            test_imports_run_downward_only("perfusion_core/bad.py")
    low = tmp_path / "nodes" / "host" / "text" / "bad.py"
    low.parent.mkdir(parents=True)
    for line in ("from ..gate.patch import x", "from .. import gate", "from ..training import job"):
        low.write_text(line)
        with pytest.raises(AssertionError, match="imports"):
            test_wings_import_in_one_direction("nodes/host/text/bad.py")
    for line in ("print(1)", "import torch\ntorch.load('a')", "def f():\n    import pickle", "import urllib.request"):
        bad.write_text(line)
        with pytest.raises(AssertionError):
            test_no_network_no_pickle_no_print("perfusion_core/bad.py")
    bad.write_text("import torch\ntorch.load('a', weights_only=True)")
    with pytest.raises(AssertionError):
        test_no_network_no_pickle_no_print("perfusion_core/bad.py")
    bad.write_text("from .importers.pickle_file import read_pickle")
    with pytest.raises(AssertionError):
        test_only_the_offline_command_reads_pickles("perfusion_core/bad.py")
    bad.write_text("import comfy.sd")
    with pytest.raises(AssertionError):
        test_core_knows_no_host("perfusion_core/bad.py")
    for line in (
        "from comfy_api.latest._io import Autogrow",
        "io.Float.Input('a', advanced=True)",
        "kind = comfy.model_patcher.CoreModelPatcher",
        "hasattr(comfy.sd, 'x')",
        "getattr(io, 'x', None)",
        "from .host.host_version import host_version",
    ):
        bad.write_text(line)
        with pytest.raises(AssertionError):
            test_one_module_knows_what_old_hosts_lack("perfusion_core/bad.py")
    bad.write_text('"""Said."""\ndef f(): ...')
    with pytest.raises(AssertionError, match="docstring"):
        test_public_things_are_documented("perfusion_core/bad.py")
    bad.write_text("\n" * (MAX_LINES + 1))
    with pytest.raises(AssertionError, match="401 lines"):
        test_files_stay_short("perfusion_core/bad.py")
