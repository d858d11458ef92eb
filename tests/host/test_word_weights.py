"""The benchmark of word weights prints its table and verdicts, and draws its picture."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "word_weights.py"


@pytest.fixture(scope="module")
def word_weights():
    spec = importlib.util.spec_from_file_location("word_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_verdicts_and_picture(word_weights, tmp_path, capsys):
    path = tmp_path / "new" / "word-weights.jpg"
    word_weights.main(["--pictures", "1", "--steps", "1", "--picture", str(path)])
    printed = capsys.readouterr().out.splitlines()
    cells = [line.strip("| ").split(" | ") for line in printed if line.startswith("| ")]
    assert cells[0][:3] == ["weight", "similarity", "gate"] and "look" in cells[0]
    assert [row[0] for row in cells[2:]] == ["0", "0.25", "0.5", "0.75", "1", "1.25", "1.5"]
    gates = [float(row[2]) for row in cells[2:]]
    assert gates == sorted(gates) and gates[0] < 0.1 < gates[-1]  # a word of weight 0 is as if absent
    assert "- similarity: never falls while the weight grows" in printed
    assert "- gate: never falls while the weight grows" in printed
    assert path.stat().st_size <= 60_000 and list(path.parent.iterdir()) == [path]
    with Image.open(path) as picture:
        assert picture.width == 7 * 132 + 4


def test_verdicts(word_weights):
    assert word_weights.falls([0, 0, 0.1, 0.2, 0.3, 0.3, 1]) == "never falls"
    falling = word_weights.falls([0, 0.5, 0.4, 0.6, 0.35, 0.9, 1])
    assert falling == "falls, most by 0.250 from weight 0.75 to 1"
