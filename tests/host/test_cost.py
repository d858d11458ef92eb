"""The benchmark of what concepts cost: its verdicts, and a whole run at its smallest size."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from by_location import REPOSITORY

from dev_tools import host

SCRIPT = REPOSITORY / "benchmarks" / "cost.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = list(sys.path)  # the script puts folders there, as a script may
    sys.path.insert(0, str(SCRIPT.parent))  # where Python looks first for what a script imports
    spec = importlib.util.spec_from_file_location("cost", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def row(benchmark: ModuleType, concepts: int, **changes):
    """A line of the table that meets every bar, but for the changes."""
    memory = {0: 1.0, 8: 1.004}.get(concepts)
    fields = {"seconds": 0.05, "ratio": 0.9, "middle_half": (0.88, 0.92), "shortest": 0.89, "first": 1.1}
    fields |= {"shape": "sd15", "concepts": concepts, "applying_ms": 2.0 * (concepts > 0), "peak_memory": memory}
    return benchmark.Row(**{**fields, **changes})


def test_every_bar_has_its_verdict(benchmark) -> None:
    lines = benchmark.verdicts([row(benchmark, count) for count in benchmark.COUNTS])
    assert lines == [
        "- a step, concepts: 1, sd15: 0.9000, wanted at most 1: met",
        "- a step, concepts: 8, sd15: 0.9000, wanted at most 1.01: met",
        "- putting concepts on MODEL and CLIP, ms: 2.0000, wanted at most 20: met",
        "- peak memory, concepts: 8, sd15: 1.0040, wanted at most 1.01: met",
    ]


@pytest.mark.parametrize(
    ("concepts", "changes", "bar", "verdict"),
    [
        (1, {"ratio": 1.0}, "a step, concepts: 1", "met"),
        (1, {"ratio": 1.0001}, "a step, concepts: 1", "**missed**"),
        (8, {"ratio": 1.01}, "a step, concepts: 8", "met"),
        (8, {"ratio": 1.02}, "a step, concepts: 8", "**missed**"),
        (2, {"applying_ms": 20.0}, "putting concepts", "met"),
        (2, {"applying_ms": 20.1}, "putting concepts", "**missed**"),
        (8, {"peak_memory": 1.011}, "peak memory", "**missed**"),
    ],
)
def test_a_bar_is_missed_by_what_is_above_it_and_no_other_with_it(benchmark, concepts, changes, bar, verdict) -> None:
    rows = [row(benchmark, count, **(changes if count == concepts else {})) for count in benchmark.COUNTS]
    judged = {line.startswith(f"- {bar}"): line.rsplit(": ", 1)[1] for line in benchmark.verdicts(rows)}
    assert judged == {True: verdict, False: "met"}


def test_every_shape_has_its_own_verdicts_but_for_the_slowest_applying(benchmark) -> None:
    rows = [row(benchmark, count) for count in benchmark.COUNTS]
    rows += [row(benchmark, count, shape="sdxl", ratio=1.5, applying_ms=3.0) for count in benchmark.COUNTS]
    missed = [line for line in benchmark.verdicts(rows) if "missed" in line]
    assert len(missed) == 2 and all(", sdxl: 1.5000" in line for line in missed)
    assert sum("ms: 3.0000" in line for line in benchmark.verdicts(rows)) == 1


def test_a_line_has_a_cell_for_every_column(benchmark) -> None:
    assert str(row(benchmark, 8)) == ("| sd15 | 8 | 0.050 | 0.900 | 0.880 to 0.920 | 0.890 | 1.100 | 2.0 | 1.0040 |")
    assert str(row(benchmark, 2)).endswith("| 2.0 |  |")


@pytest.mark.slow
def test_the_smallest_run_writes_the_table_that_it_prints(benchmark, tmp_path) -> None:
    """Its numbers mean nothing, so no verdict is expected."""
    table = tmp_path / "table.md"
    command = [sys.executable, SCRIPT, "--smallest", "--shapes", "sd15", "--output", table]
    environment = {**os.environ, "COMFYUI_PATH": str(host.find())}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    written, printed = Path(table).read_text(encoding="utf-8"), done.stdout.splitlines()
    assert "SMALLEST: these numbers mean nothing" in written
    lines = [line for line in printed if line.startswith("| sd15 |")]
    assert [int(line.split("|")[2]) for line in lines] == list(benchmark.COUNTS)
    assert all(line.count("|") == 10 and line in written for line in lines)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0][3] == "1.000" and cells[0][8] == "1.0000" and float(cells[4][8]) > 0
    assert all(float(line[2]) > 0 and float(line[6]) > 0 for line in cells)
    assert len([line for line in printed if line.startswith("- ")]) == 4
