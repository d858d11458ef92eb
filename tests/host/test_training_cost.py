"""The benchmark of what training costs, at its smallest size: every side takes a step, and the table says what is."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from by_location import REPOSITORY
from needs_host import needs_host, train_lora_takes

ARGUMENTS = SimpleNamespace(smallest=True, latent=8, rounds=1, steps=1, paper_steps=1)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = list(sys.path)  # the script puts folders there, as a script may
    spec = importlib.util.spec_from_file_location("training_cost", REPOSITORY / "benchmarks" / "training_cost.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


@needs_host("0.11.0", "the bypass mode of Train LoRA, which is one of the sides", train_lora_takes("bypass_mode"))
def test_every_side_takes_its_steps(benchmark) -> None:
    with torch.inference_mode():
        model, clip = benchmark.make_model(True), benchmark.make_clip(True)
        sides = benchmark.sides_for(1, list(benchmark.NODES))
        times = benchmark.measure_times(model, clip, sides, 1, ARGUMENTS)
    assert set(times) == {*sides, "text encoder"} and len(sides) == 6
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in times.values())
    assert times["text encoder"][0] < times[benchmark.OURS][0]
    lines = benchmark.time_rows(times, 1)
    assert len(lines) == 6 and all(line.count("|") == 9 for line in lines)


def test_fewer_steps_of_the_paper_than_it_has_are_told(benchmark, monkeypatch) -> None:
    """The lines of a GPU, with a GPU that only counts."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5.5e9)
    monkeypatch.setattr(benchmark, "clock", iter((0.0, 0.25, 0.0)).__next__)
    with torch.inference_mode():
        paper, least = benchmark.gpu_lines(benchmark.make_model(True), benchmark.make_clip(True), ARGUMENTS)
    assert "400 steps of 16 (4 x 4)" in paper and "100 s in all, EXTRAPOLATED from 1 steps" in paper
    assert "peak memory 5.50 GB" in paper and "5.50 GB (aim 6 GB)" in least


@pytest.mark.skipif(sys.platform != "linux", reason="the process' memory is counted on Linux only")
def test_memory_is_that_above_what_was_held_before(benchmark) -> None:
    def hold() -> None:
        torch.ones(64_000_000, dtype=torch.uint8)

    assert 60e6 < benchmark.peak_above(hold) < 80e6


def test_a_missed_bar_is_told(benchmark) -> None:
    assert "| 0.950 | 0.900 to 1.000 | <= 0.90 | MISSED |" in benchmark.row(1, "", "", "", [0.9, 0.95, 1.0], 0.9)
    assert "| 0.850 |  | <= 0.90 | met |" in benchmark.row(1, "", "", "", [0.85], 0.9)
