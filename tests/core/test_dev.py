"""dev.py: where it looks for a ComfyUI and a Python, and that every failure is one sentence."""

from __future__ import annotations

import ast
import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from by_location import REPOSITORY

from dev_tools import command_line, host, install_host, interpreters, packages, processes, run_demo, run_tests
from dev_tools.errors import DevError


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
    return host.find(home=tmp_path / "home", own_hosts=own_hosts(tmp_path), **options)


def own_hosts(tmp_path: Path) -> dict[str, Path]:
    return {"official": tmp_path / "official", "index": tmp_path / "own"}


def test_host_search_order(tmp_path):
    """--host, COMFYUI_PATH, the ComfyUI around this folder, ~/comfy/ComfyUI, our own: each beats the later ones."""
    own = make_comfyui(tmp_path / "own")
    assert find(tmp_path) == own
    official = make_comfyui(tmp_path / "official")
    assert find(tmp_path) == official
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
    assert find(tmp_path, wanted="index", repository=repository, environment=environment) == own
    assert find(tmp_path, wanted="official", repository=repository, environment=environment) == official


def test_a_source_that_was_not_installed_yet_is_not_replaced_by_another(tmp_path):
    make_comfyui(tmp_path / "home" / "comfy" / "ComfyUI")
    make_comfyui(tmp_path / "official")
    assert find(tmp_path, wanted="index") is None


@pytest.mark.parametrize("wanted", [None, "index"])
def test_one_line_says_which_host_and_why(wanted, tmp_path, monkeypatch, capsys):
    own = make_comfyui(tmp_path / "own")
    places = {}, tmp_path / "elsewhere", tmp_path / "home", own_hosts(tmp_path)
    locate = host.locate
    monkeypatch.setattr(install_host.hosts, "locate", lambda wanted: locate(wanted, *places))
    assert install_host.find_or_install(wanted) == own
    why = {None: "it was installed here earlier (index)", "index": "--host index, installed earlier"}[wanted]
    assert capsys.readouterr().out == f"ComfyUI 0.33.0 in {own}: {why}.\n"


def test_no_host_is_none(tmp_path):
    assert find(tmp_path) is None


def test_a_named_folder_that_is_no_comfyui_is_an_error(tmp_path):
    make_comfyui(tmp_path / "own")
    with pytest.raises(DevError, match="--host names .* not a ComfyUI folder"):
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


def test_our_own_environment_has_to_hold_the_versions_that_the_host_pins(tmp_path):
    """A front end of another version would do, but it would not be this ComfyUI that was tried."""
    (tmp_path / "requirements.txt").write_text(
        "torch\ncomfyui-frontend-package==1.2.3\nav>=14\n# non essential\nk==1\n"
    )
    wanted = {"torch": None, "comfyui-frontend-package": "1.2.3", "av": None}
    assert interpreters._wanted(tmp_path, exactly=True) == wanted
    assert interpreters._wanted(tmp_path, exactly=False) == dict.fromkeys(wanted)
    found = interpreters.probe(Path(sys.executable), (), {"pytest": "0.0.1"})[0]
    assert found.endswith("and 0.0.1 is asked for")


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


def test_old_python_gets_a_sentence(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("dev_script", REPOSITORY / "dev.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "version_info", (3, 6, 15, "final", 0))
    assert script.main() == 1
    error = capsys.readouterr().err
    assert "Python 3.10 or newer" in error and "Python 3.6" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (DevError("Something is wrong: do this."), "Error: Something is wrong: do this."),
        (OSError(errno.ENOSPC, "No space left on device", "/some/file"), "disk is full while writing /some/file"),
    ],
)
def test_failures_end_in_one_sentence(failure, sentence, monkeypatch, capsys):
    def fail(*arguments):
        raise failure

    monkeypatch.setattr(run_demo, "run", fail)
    assert command_line.run(["demo"]) == 1
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


def test_interruption_and_wrong_usage(monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_demo, "run", interrupt)
    assert command_line.run(["demo"]) == 130
    with pytest.raises(SystemExit) as ending:
        command_line.run(["demo", "--prot", "8188"])
    assert ending.value.code == 2


def test_the_disk_is_looked_at_before_an_installation(monkeypatch, tmp_path):
    monkeypatch.setattr(packages.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**30))
    with pytest.raises(DevError, match=r"has 1.0 GiB free and this installation needs about 12 GiB"):
        packages.require_space(tmp_path, packages.HOST_GIB)


def test_pytest_arguments_choose_the_groups():
    assert run_tests._belongs_to("tests/core/test_dev.py::test_x", "core")
    assert run_tests._belongs_to("tests/host", "host")
    assert not run_tests._belongs_to("tests/core", "host")


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ('<testsuite tests="5" failures="0" errors="0" skipped="1"/>', "4 passed, 1 skipped"),
        ('<testsuite tests="5" failures="1" errors="1" skipped="0"/>', "3 passed, 2 FAILED"),
        ('<testsuite tests="0" failures="0" errors="0" skipped="0"/>', "no tests"),
        ("nonsense", "no report"),
    ],
)
def test_counts_of_the_summary(xml, text, tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites>{xml}</testsuites>" if xml.startswith("<") else xml)
    assert run_tests._counts(report) == text


def test_a_group_that_was_skipped_as_a_whole_says_why(tmp_path):
    """Without a browser no browser test runs: that must not look like a pass."""
    report = tmp_path / "report.xml"
    case = "<testcase name='{}'>{}</testcase>"
    skipped = "<skipped message='no Chromium or Chrome was found: apt install chromium'/>"
    report.write_text(f"<testsuite>{case.format('a', skipped)}{case.format('b', skipped)}</testsuite>")
    assert run_tests._why_nothing_ran(report) == "no Chromium or Chrome was found: apt install chromium"
    report.write_text(f"<testsuite>{case.format('a', skipped)}{case.format('b', '')}</testsuite>")
    assert run_tests._why_nothing_ran(report) == ""


WITH_A_SERVER = """
import pathlib, time, pytest

@pytest.fixture(scope="session")
def server():
    pathlib.Path("started").touch()
    yield
    pathlib.Path("ended").touch()

def test_long(server):
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
def test_tests_in_several_processes_end_their_servers_when_stopped(tmp_path):
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    tests = REPOSITORY / "tests"
    for source in (tests / "conftest.py", tests / "by_location.py"):
        shutil.copy(source, tmp_path)
    (tmp_path / "test_long.py").write_text(WITH_A_SERVER)
    command = [sys.executable, REPOSITORY / "dev_tools/run_pytest.py", "test_long.py", "-n2", "-p", "no:cacheprovider"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, **processes.group_options())
    try:
        waited = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < waited:
            time.sleep(0.1)
        assert (tmp_path / "started").exists()
    finally:
        processes.stop(running, patience=30)
    assert (tmp_path / "ended").exists()


def test_only_groups_without_clocks_and_accelerators_share_their_tests(monkeypatch):
    monkeypatch.setattr(run_tests.os, "cpu_count", lambda: 2)
    interpreter = SimpleNamespace(device="cpu")
    assert run_tests._processes("host", interpreter) == run_tests._processes("core", interpreter) == 2
    assert run_tests._processes("browser", interpreter) == 0
    assert run_tests._processes("host", SimpleNamespace(device="cuda")) == 0
