"""The torch trio is found by trying: with the real pip and wheels that can be imported beside some others only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from by_location import REPOSITORY
from stub_packages import make_trio, make_wheel

from dev_tools import lock, pip_runner, torch_trio
from dev_tools.errors import DevError
from dev_tools.paths import venv_python
from dev_tools.probing import versions


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that is all the package index there is."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PERFUSION_TORCH_INDEX", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(lock, "LOCK", tmp_path / "pip.lock")
    return folder


@pytest.fixture
def python(tmp_path) -> Path:
    """The Python of an empty virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    return venv_python(tmp_path / "venv")


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """What pip was asked for, in every call."""
    calls: list[list[str]] = []

    def install(python, requirements, *options):
        calls.append([*requirements, *options])
        pip_runner.install(python, requirements, *options)

    monkeypatch.setattr(torch_trio, "install", install)
    return calls


def use_tested_versions(tmp_path: Path, monkeypatch, text: str) -> None:
    (tmp_path / "tested.txt").write_text(text)
    monkeypatch.setattr(torch_trio, "TESTED_VERSIONS", tmp_path / "tested.txt")


def taken(python: Path) -> tuple[str | None, ...]:
    found = versions(python, torch_trio.TRIO)
    return tuple(found.get(name) for name in torch_trio.TRIO)


def test_the_tested_versions_come_first(index, python, tmp_path, monkeypatch, capsys):
    make_trio(index, ["2.11.0", "2.14.1"], {"2.11.0": ["2.11.0"], "2.11.1": ["2.14.1"]})
    make_wheel(index, "rest", "1.0", {"rest.py": ""})
    use_tested_versions(tmp_path, monkeypatch, "torch==2.11.0\ntorchaudio==2.11.0\n")
    torch_trio.install_with_trio(python, ["rest"])
    assert taken(python) == ("2.11.0", "0.26.0", "2.11.0")
    assert versions(python, ("rest",)) == {"rest": "1.0"}
    assert "Taken: torch 2.11.0, torchvision 0.26.0, torchaudio 2.11.0." in capsys.readouterr().out


def test_where_the_tested_versions_are_not_to_be_had_pip_picks(index, python, tmp_path, monkeypatch, asked):
    """As on a Python or a system for which those were never built."""
    make_trio(index, ["2.13.0", "2.14.1"], {"2.11.1": ["2.13.0", "2.14.1"]})
    make_wheel(index, "rest", "1.0", {"rest.py": ""})
    use_tested_versions(tmp_path, monkeypatch, "torch==2.11.0\n")
    torch_trio.install_with_trio(python, ["rest"])
    assert taken(python) == ("2.14.1", "0.29.1", "2.11.1")
    assert versions(python, ("rest",)) == {"rest": "1.0"}
    assert len(asked) == 2


def test_a_trio_that_cannot_be_imported_is_replaced_and_nothing_else_is(index, python, tmp_path, monkeypatch, asked):
    """As with torch 2.11.0 and torchaudio 2.11.1, which are installed together without a complaint."""
    make_trio(index, ["2.11.0", "2.12.0", "2.13.0"], {"2.10.0": ["2.12.0"], "2.11.1": ["2.14.0"]})
    make_wheel(index, "rest", "1.0", {"rest.py": ""})
    use_tested_versions(tmp_path, monkeypatch, "torch==2.11.0\n")
    torch_trio.install_with_trio(python, ["rest"])
    assert taken(python) == ("2.12.0", "0.27.0", "2.10.0")
    assert ["rest" in call for call in asked] == [True, False, False]


def test_after_four_tries_the_error_names_them(index, python, tmp_path, monkeypatch, asked):
    make_trio(index, ["2.10.0", "2.11.0", "2.12.0", "2.13.0"], {"2.9.0": [], "2.10.0": [], "2.11.0": []})
    use_tested_versions(tmp_path, monkeypatch, "torch==2.11.0\n")
    with pytest.raises(DevError) as failure:
        torch_trio.install_with_trio(python, [])
    assert len(asked) == 4
    sentence = str(failure.value)
    assert "in 4 tries" in sentence and sentence.count("undefined symbol") == 4
    for versions_tried in ("torch 2.11.0", "torch 2.13.0", "torch 2.12.0", "torch 2.11.0"):
        assert versions_tried in sentence


def test_a_trio_that_works_is_kept_when_something_else_is_missing(index, python, tmp_path, monkeypatch, asked):
    make_trio(index, ["2.11.0"], {"2.11.0": ["2.11.0"]})
    use_tested_versions(tmp_path, monkeypatch, "torch==2.11.0\n")
    torch_trio.install_with_trio(python, [])
    make_trio(index, ["2.14.1"], {"2.11.1": ["2.14.1"]})
    make_wheel(index, "rest", "1.0", {"rest.py": ""})
    torch_trio.install_with_trio(python, ["rest"])
    assert taken(python) == ("2.11.0", "0.26.0", "2.11.0")
    assert versions(python, ("rest",)) == {"rest": "1.0"} and len(asked) == 2


def test_an_index_that_answers_nothing_is_told_before_the_older_ones_are_tried(
    index, python, tmp_path, monkeypatch, asked
):
    use_tested_versions(tmp_path, monkeypatch, "torch==2.11.0\n")
    with pytest.raises(DevError, match="The package index cannot be reached, or has nothing for Python"):
        torch_trio.install_with_trio(python, [])
    assert len(asked) <= 2


def test_the_tested_versions_are_whole():
    """Each of the three, and everything else pinned to one version."""
    lines = (REPOSITORY / "dev_tools" / "tested_versions.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split(";")[0].strip().split("==") for line in lines if not line.startswith("#"))
    assert set(torch_trio.TRIO) <= set(pins) and len(pins) > 20
