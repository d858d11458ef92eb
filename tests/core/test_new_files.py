"""A new file never takes the place of another, whoever writes it, and a folder that takes nothing is found at once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perfusion_core import tensor_file
from perfusion_core.errors import PerfusionError
from perfusion_core.tensor_file import NameTakenError, check_room, read_tensors, write_tensors

REPOSITORY = Path(__file__).resolve().parents[2]
TENSORS, HEADER = {"a": torch.ones(3)}, {"perfusion.format": "test"}

WRITER = """
import itertools, sys
from pathlib import Path
import torch
from perfusion_core import tensor_file
folder, writer, links = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "links"
if not links:
    def refuse(*_):
        raise OSError("no links here")
    tensor_file.os.link = refuse
print("ready", flush=True)
sys.stdin.readline()
for turn in range(60):
    for number in itertools.count(1):
        path = folder / f"hugsy_{number}.safetensors"
        if path.exists():
            continue
        try:
            tensor_file.write_tensors(path, {"a": torch.ones(3)}, {"perfusion.by": f"{writer} {turn}"}, replace=False)
        except tensor_file.NameTakenError:
            continue
        break
"""


@pytest.mark.parametrize("links", ["links", "no links"])
def test_two_writers_of_one_name_lose_nothing(tmp_path, links):
    """Two processes, 60 saves each, with file systems that know hard links and those that do not."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name, links],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "AB"
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for process in processes:
        process.stdin.close()
        process.stdout.close()
    files = sorted(tmp_path.iterdir())
    found = {read_tensors(path, "test file")[0].metadata["perfusion.by"] for path in files}
    assert len(files) == 120 and found == {f"{name} {turn}" for name in "AB" for turn in range(60)}


@pytest.mark.parametrize("links", [True, False])
def test_a_taken_name_is_told_and_left_alone(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(tensor_file.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS, HEADER, replace=False)
    before = path.read_bytes()
    with pytest.raises(NameTakenError, match="a.safetensors was expected to be free"):
        write_tensors(path, {"a": torch.zeros(3)}, HEADER, replace=False)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    write_tensors(path, {"a": torch.zeros(3)}, HEADER)
    assert path.read_bytes() != before


def test_a_name_that_was_claimed_is_given_back_where_it_cannot_be_filled(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(tensor_file.os, "link", refuse)
    monkeypatch.setattr(tensor_file.os, "replace", refuse)
    with pytest.raises(PerfusionError, match="could not be written"):
        write_tensors(tmp_path / "a.safetensors", TENSORS, HEADER, replace=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_no_taken_name(tmp_path):
    (tmp_path / "perfusion").write_text("")
    with pytest.raises(PerfusionError, match="could not be written") as caught:
        write_tensors(tmp_path / "perfusion" / "a.safetensors", TENSORS, HEADER, replace=False)
    assert not isinstance(caught.value, NameTakenError)
    with pytest.raises(PerfusionError, match="nothing can be saved there"):
        check_room(tmp_path / "perfusion", 10)


def test_room_is_tried_and_left_as_it_was(tmp_path, monkeypatch):
    check_room(tmp_path / "new" / "folder", 1000)
    assert not (tmp_path / "new" / "folder").exists()
    written = []
    monkeypatch.setattr(tensor_file.os, "fsync", lambda number: written.append(os.fstat(number).st_size))
    check_room(tmp_path, 4 * 2**20)
    assert written == [4 * 2**20]

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tensor_file.os, "fsync", full)
    with pytest.raises(PerfusionError, match=r"must take a file of 4 MB.*No space left on device.*free some space"):
        check_room(tmp_path, 4 * 2**20)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
