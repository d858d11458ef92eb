"""Training on a GPU: bf16, memory that really runs out, and how little of it is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="there is no accelerator here that torch.cuda knows (NVIDIA or ROCm)"
    ),
]

SCRIPT = Path(__file__).with_name("gpu_training.py")


def found(action: str, folder: Path) -> dict[str, Any]:
    """What gpu_training.py found; it runs in a process of its own, in which the host has the GPU."""
    import folder_paths

    environment = {**os.environ, "COMFYUI_PATH": folder_paths.base_path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), action, str(folder)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_node_trains_in_bf16(tmp_path):
    result = found("node", tmp_path)
    assert (result["device"], result["dtype"]) == ("cuda", "torch.bfloat16")
    assert len(result["losses"]) == 4 and torch.tensor(result["losses"]).isfinite().all()
    # Kernels of a GPU may add up in another order each time.
    assert result["checkpointed losses"] == pytest.approx(result["losses"], rel=0.02)
    assert result["file is socket"] and result["models unchanged"] and result["report"]


def test_where_memory_really_runs_out_fewer_pictures_are_taken_at_a_time(tmp_path):
    result = found("memory", tmp_path)
    assert result["said"][0].startswith("Memory ran out at step 1; going on with 8 pictures at a time")
    assert result["narrow"] == pytest.approx(result["free"], rel=0.02)
    assert "single picture at a time" in result["refused"] and "\n" not in result["refused"]
    assert result["again"] == pytest.approx(result["free"], rel=0.02)  # nothing of the failed ones is left behind


def test_one_picture_with_checkpointing_trains_in_six_gigabytes(tmp_path, record_property):
    result = found("least", tmp_path)
    record_property("allocated, GB", result["allocated"] / 1e9)
    record_property("reserved, GB", result["reserved"] / 1e9)
    assert torch.tensor(result["losses"]).isfinite().all() and not result["said"]
    assert result["reserved"] <= 6e9


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_standard_trains_within_four_and_ten_gigabytes(standard, family, record_property):
    result = standard[family]
    for name in ("plan", "allocated", "reserved", "seconds"):
        record_property(name, result[name])
    assert torch.tensor(result["losses"]).isfinite().all()
    assert not result["said"], "the plan was right, and memory never ran out"
    assert result["reserved"] <= result["size"]


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    return found("standard", tmp_path_factory.mktemp("standard"))
