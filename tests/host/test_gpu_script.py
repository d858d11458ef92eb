"""The script that a machine with a GPU runs first, tried whole on tiny models on a CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import folder_paths
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "benchmarks" / "gpu.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COMFYUI_PATH": folder_paths.base_path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, str(SCRIPT), *options], env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("SD1.5", r"(?s)\| SD1.5 \| fp8 \| all \| all 8 pictures at once .*a step of a sampler: .* with a concept"),
        ("SDXL", r"(?s)\| SDXL \| fp16 \| 10 GB \| all 8 pictures at once .*a step of a sampler: .* with a concept"),
        ("Train LoRA", r"step / step of Train LoRA \|"),
        ("dynamic VRAM", r"Training <hugsy> with all 8 pictures at once .* Trained <hugsy> to step 2"),
        ("tests", r"test_standard_trains_within_four_and_ten_gigabytes"),
        ("compiled", r"SDXL, a step of a sampler, compiled: .* with a concept"),
    ],
)
def test_each_part_runs_to_its_end(part, said, tmp_path):
    page = tmp_path / "page.md"
    done = run("--dry", "--parts", part, "--minutes", "20", "--output", str(page))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert f"## {part}, " in page.read_text() and "DRY" in done.stdout
    assert re.search(said, done.stdout), done.stdout


def test_a_part_for_which_there_is_no_time_is_said_to_be_left_out():
    done = run("--dry", "--parts", "SD1.5", "--minutes", "0")
    assert "No time was left" in done.stdout and done.returncode == 0
