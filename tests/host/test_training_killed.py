"""What kill -9 leaves of a training that runs in the real node: files that load, and from which it goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from by_location import REPOSITORY
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.training_state_file import load_training
from training_inputs import run_node

OPTIONS = {"preview_every": 0, "validate_every": 10, "batch_size": 1}

TRAINS_FOR_EVER = f"""
import sys
sys.path[:0] = [sys.argv[1] + "/host", sys.argv[1]]  # the conftest.py of the host tests comes first
import conftest, folder_paths, torch
torch.set_num_threads(1)
folder_paths.output_directory = sys.argv[2]
from perfusion_pack.perfusion_core import training_run
from training_inputs import run_node, training_inputs
training_run.train.__defaults__ = (*training_run.train.__defaults__[:-1], 1)  # keep the work after every step
run_node(training_inputs(), steps=10_000, resume=True, **{OPTIONS!r})
"""


def temporaries(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tmp"))


def until(true, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.0005)  # shorter than a save takes


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_kill_9_loses_no_more_than_a_step(inputs, folder):
    state, concept = folder / "hugsy.training_state", folder / "hugsy.safetensors"
    draw, reached = random.Random(), 0
    command = [sys.executable, "-c", TRAINS_FOR_EVER, str(REPOSITORY / "tests"), str(folder.parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for moment in ("saving", "any", "saving"):
        written = state.stat().st_mtime_ns if state.exists() else 0
        process = subprocess.Popen(command, env=environment)
        try:
            until(lambda at=written: state.exists() and state.stat().st_mtime_ns > at, process)
            time.sleep(draw.uniform(0.0, 0.5))
            if moment == "saving":
                until(lambda: temporaries(folder), process)
        finally:
            process.kill()
            process.wait()
        kept = load_training(state)
        assert kept.state.step > reached and not kept.finished
        reached = kept.state.step
        if concept.exists():
            # The state is written first, so that the concept is of the same step or of the one before.
            assert load_concept(concept).training["steps"] in (reached, reached - 1)

    for path in temporaries(folder):
        os.utime(path, (0, 0))
    stale, fresh, other = (folder / name for name in (f".{'0a' * 16}.tmp", f".{'1b' * 16}.tmp", ".mine.tmp"))
    for path in (stale, fresh, other):
        path.write_bytes(b"half a file")
    for path in (stale, other):
        os.utime(path, (time.time() - 3700,) * 2)
    losses = run_node(inputs, steps=reached + 2, resume=True, **OPTIONS)[1]["loss"]
    assert len(losses) == reached + 2 and losses[:reached] == list(kept.state.losses)
    assert load_training(state).finished and load_concept(concept).training["steps"] == reached + 2
    assert sorted(temporaries(folder)) == sorted([fresh, other])
