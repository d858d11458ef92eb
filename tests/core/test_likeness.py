"""perfusion_core.likeness: similarities by hand, and what a measure of its own changes in a training."""

from __future__ import annotations

import math

import pytest
import torch
from toy_training import start

from perfusion_core.errors import PerfusionError
from perfusion_core.likeness import Likeness, harmonic_mean, mean_similarity, paired_similarity
from perfusion_core.training_run import train

# The paper's figure: text relative to the superclass, image (docs/method.md, "Training").  "Best harmonic" comes first.
PAPER = (
    (0.937, 0.753), (0.842, 0.777), (0.882, 0.775), (0.922, 0.748), (0.959, 0.713), (0.958, 0.712), (0.994, 0.673),
    (1.006, 0.647), (1.012, 0.627), (0.914, 0.730), (0.881, 0.769), (0.917, 0.743), (0.766, 0.776), (1.0, 0.629),
)  # fmt: skip


def test_the_harmonic_mean_wants_both():
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.7, 0.7) == pytest.approx(0.7) == Likeness(0.7, 0.7).harmonic_mean
    assert harmonic_mean(-0.2, 0.9) == harmonic_mean(0.9, -0.2) == harmonic_mean(-1.0, -1.0) == 0.0
    assert math.isnan(harmonic_mean(float("nan"), 0.5)) and math.isnan(harmonic_mean(0.5, float("nan")))


def test_relative_text_similarities_are_what_the_paper_must_have_used():
    means = [harmonic_mean(text, image) for text, image in PAPER]
    assert means.index(max(means)) == 0 and means[0] == pytest.approx(0.835, abs=5e-4)
    raw = [harmonic_mean(0.3 * text, image) for text, image in PAPER]
    assert raw.index(max(raw)) != 0


def test_similarities_by_hand():
    pictures = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert mean_similarity(pictures, pictures) == pytest.approx(0.5)
    assert paired_similarity(pictures, 5 * pictures) == pytest.approx(1.0)
    assert paired_similarity(pictures, pictures.flip(0)) == pytest.approx(0.0)
    assert mean_similarity(pictures[:1], torch.tensor([[1.0, 1.0], [-1.0, 0.0]])) == pytest.approx((2**-0.5 - 1) / 2)


def test_a_measure_chooses_the_step_and_changes_nothing_in_the_training():
    """Errors that are lowest in the middle, asked for once a validation and once for the last step."""
    judged, plain = start(steps=12, validate_every=5), start(steps=12)
    asked = []

    def measure() -> float:
        asked.append(judged.step_number)
        return abs(judged.step_number - 6.0)

    judged.measure = measure
    assert train(judged, lambda report: None) == train(plain, lambda report: None)
    assert judged.best_step() == 5 and asked == [0, 5, 10, 12]
    assert [v.error for v in judged.choice.validations] == [6.0, 1.0, 4.0]


def test_a_measure_that_is_not_finite_stops():
    trainer = start(steps=3, validate_every=1)
    trainer.measure = lambda: float("nan")
    with pytest.raises(PerfusionError, match="validation error became nan"):
        train(trainer, lambda report: None)
