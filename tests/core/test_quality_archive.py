"""The quality benchmark's archive: numbers travel from one cache to another, trainings and paintings do not."""

from __future__ import annotations

import json
import lzma

import pytest
from quality.archive import NAME, pack, unpack
from quality.cache import Cache, OutOfTimeError


def test_numbers_travel_and_paintings_leave_their_note(tmp_path):
    first, second, file = Cache(tmp_path / "one"), Cache(tmp_path / "two"), tmp_path / NAME
    first.numbers("reading", {"thing": "hugsy"}, lambda: [{"look": 0.5}])
    first.file("painting", {"thing": "hugsy"}, ".safetensors", lambda path: path.write_bytes(b"large"))
    assert pack(first, file) == 2 and b"large" not in lzma.decompress(file.read_bytes())

    second.numbers("reading", {"thing": "sippy"}, lambda: "its own")
    assert unpack(file, second) == 2
    with second.closed():
        assert second.numbers("reading", {"thing": "hugsy"}, lambda: "made anew") == [{"look": 0.5}]
        assert second.numbers("reading", {"thing": "sippy"}, lambda: "made anew") == "its own"
        with pytest.raises(OutOfTimeError):
            second.file("painting", {"thing": "hugsy"}, ".safetensors", lambda path: path.write_bytes(b""))
    assert list(first.notes())[0] in list(second.notes()) and len(list(second.notes())) == 3
    assert unpack(file, second) == 0
    assert pack(second, file) == 3


def test_the_same_pieces_make_the_same_file(tmp_path):
    cache = Cache(tmp_path / "cache")
    for seed in range(3):
        cache.numbers("reading", {"seed": seed}, lambda: 1)
    pack(cache, tmp_path / "a")
    pack(cache, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_file_is_nothing_and_a_name_that_leaves_the_folder_is_refused(tmp_path):
    cache = Cache(tmp_path / "cache")
    assert unpack(tmp_path / "none", cache) == 0
    for kind, name in (("..", "..-x"), ("reading", "../reading-x"), ("reading", "reading-../../x"), ("a/b", "a/b-x")):
        line = json.dumps({"kind": kind, "name": name, "note": {}, "numbers": 1})
        (tmp_path / NAME).write_bytes(lzma.compress(line.encode()))
        with pytest.raises(ValueError, match="kind-hash"):
            unpack(tmp_path / NAME, cache)
    assert not [path for path in tmp_path.rglob("*.json")]
