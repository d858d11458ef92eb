"""How similar a word is to its concept in many prompts, and which bias follows."""

from __future__ import annotations

import json
import math

import pytest
import torch
from core_examples import make_concept, random

from perfusion_core.concept import RECOMMENDED_BIAS
from perfusion_core.concept_file import load_concept, save_concept
from perfusion_core.edit import FORMS, gate
from perfusion_core.varied_prompts import (
    VARIED_PROMPTS,
    WordSimilarity,
    measured_similarity,
    recommended_bias,
    recorded_similarity,
)

FOUND = WordSimilarity(30, 0.81, 0.62, 0.97)


def test_the_prompts_vary():
    texts = [prompt.format("<w>") for prompt in VARIED_PROMPTS]
    before = [len(text.partition("<w>")[0].split()) for text in texts]
    assert len(set(texts)) == len(texts) >= 30
    assert sum(words == 0 for words in before) >= 5 and sum(words >= 18 for words in before) >= 4
    assert sum(text.count("<w>") == 2 for text in texts) >= 3 and sum("," in text for text in texts) >= 5
    assert all(text.count("<w>") in (1, 2) for text in texts)


def test_the_measure():
    """Of each prompt the mean over the word's tokens; of the prompts the middle one and the extremes."""
    target, inverse = random((4,), 1), random((4,), 2)
    inverse = inverse / (target @ inverse)
    shares = torch.tensor([[0.2, 0.6, 9.0], [0.9, -9.0, 9.0], [0.5, 0.7, 9.0]], dtype=torch.float64)
    positions = torch.tensor([[True, True, False], [True, False, False], [True, True, False]])
    found = measured_similarity(shares[..., None] * target, positions, target, inverse)
    assert found == WordSimilarity(3, 0.6, 0.4, 0.9)


def test_what_a_file_says_of_it(tmp_path):
    save_concept(tmp_path / "a.safetensors", make_concept(training={"steps": 3, **FOUND.recorded()}))
    assert recorded_similarity(load_concept(tmp_path / "a.safetensors").training) == FOUND
    assert FOUND.text() == "similarity 0.81 (0.62 to 0.97 in 30 prompts)"


@pytest.mark.parametrize(
    "other", [{}, {"word_similarity": None}, {"word_similarity": "much"}, {"word_similarity": {"prompts": 3}},
              {"word_similarity": [1, 2]}, {"word_similarity": {**FOUND.recorded()["word_similarity"], "median": "x"}},
              {"word_similarity": {**FOUND.recorded()["word_similarity"], "prompts": 1e400}}]
)  # fmt: skip
def test_files_that_say_nothing_of_it_or_something_else(other):
    assert recorded_similarity(other) is None


@pytest.mark.parametrize("form", FORMS)
def test_the_bias_opens_the_gate_equally_far_in_the_middle_prompt(form):
    for median in (0.6, 0.8, 1.0):
        measured = WordSimilarity(30, median, 0.5, 1.1)
        as_the_gate_measures = median if form == "paper" else 1.0
        bias = recommended_bias(form, measured)
        opened = gate(torch.tensor(as_the_gate_measures), bias, 0.15).item()
        assert opened == pytest.approx(1 / (1 + math.exp(-(1 - RECOMMENDED_BIAS) / 0.15)), abs=0.01)
        assert json.loads(json.dumps(bias)) == bias


def test_without_a_measurement():
    assert [recommended_bias(form, None) for form in ("unlocked", "paper")] == [0.85, 0.65]
