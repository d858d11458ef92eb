"""dev.py: where it looks for a ComfyUI and a Python, and that every failure is one sentence."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def _load_dev_tools():
    # By location: the repository's root must not be on sys.path (its nodes/ would hide the host's nodes.py).
    if "dev_tools" not in sys.modules:
        folder = REPOSITORY / "dev_tools"
        spec = importlib.util.spec_from_file_location(
            "dev_tools", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["dev_tools"] = module
        spec.loader.exec_module(module)


_load_dev_tools()
from dev_tools import host, interpreters  # noqa: E402
from dev_tools.errors import DevError  # noqa: E402


def make_comfyui(folder: Path) -> Path:
    for name in ("comfy", "comfy_extras", "custom_nodes"):
        (folder / name).mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (folder / name).write_text("")
    (folder / "comfyui_version.py").write_text('__version__ = "0.33.0"\n')
    return folder.resolve()


def find(tmp_path: Path, **options):
    options.setdefault("environment", {})
    options.setdefault("repository", tmp_path / "elsewhere")
    return host.find(home=tmp_path / "home", own_host=tmp_path / "own", **options)


def test_host_search_order(tmp_path):
    """--comfyui, COMFYUI_PATH, the ComfyUI around this folder, ~/comfy/ComfyUI, our own: each beats the later ones."""
    own = make_comfyui(tmp_path / "own")
    assert find(tmp_path) == own
    usual = make_comfyui(tmp_path / "home" / "comfy" / "ComfyUI")
    assert find(tmp_path) == usual
    around = make_comfyui(tmp_path / "around")
    repository = around / "custom_nodes" / "perfusion"
    repository.mkdir()
    assert find(tmp_path, repository=repository) == around
    variable = make_comfyui(tmp_path / "variable")
    environment = {"COMFYUI_PATH": str(variable)}
    assert find(tmp_path, repository=repository, environment=environment) == variable
    option = make_comfyui(tmp_path / "option")
    assert find(tmp_path, wanted=str(option), repository=repository, environment=environment) == option


def test_no_host_is_none(tmp_path):
    assert find(tmp_path) is None


def test_a_named_folder_that_is_no_comfyui_is_an_error(tmp_path):
    make_comfyui(tmp_path / "own")
    with pytest.raises(DevError, match="--comfyui names .* not a ComfyUI folder"):
        find(tmp_path, wanted=str(tmp_path / "nowhere"))
    with pytest.raises(DevError, match="COMFYUI_PATH names"):
        find(tmp_path, environment={"COMFYUI_PATH": str(tmp_path)})


def test_host_version(tmp_path):
    assert host.version(make_comfyui(tmp_path / "a")) == "0.33.0"
    assert host.version(tmp_path) == "of unknown version"


def test_required_distributions_stop_at_the_non_essential_ones(tmp_path):
    lines = ["torch", "numpy>=1.25.0", "av>=16", "comfy-kitchen==0.2.31", "", "#non essential dependencies:", "kornia"]
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    assert interpreters.required_distributions(tmp_path) == ("torch", "numpy", "av", "comfy-kitchen")


def test_probe_tells_what_is_missing():
    python = Path(sys.executable)
    assert interpreters.probe(python, ("json",)) == (None, "cpu")
    missing, _ = interpreters.probe(python, ("json", "no_such_module"))
    assert "no_such_module" in missing
    missing, _ = interpreters.probe(python, (), ("no-such-distribution",))
    assert "no-such-distribution" in missing
    missing, _ = interpreters.probe(python.with_name("no_such_python"), ())
    assert "does not start" in missing


def test_dev_py_can_be_parsed_by_an_old_python():
    """The sentence about the Python version must appear on a Python that knows none of today's syntax."""
    source = (REPOSITORY / "dev.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Starred)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
    imports = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert imports == {"os", "sys"}
