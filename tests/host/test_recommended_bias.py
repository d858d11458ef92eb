"""The bias that a trained concept recommends, from the similarity of its word in prompts of many kinds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.host.text.encoders import word_positions
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.load_concept import _summary
from perfusion_pack.perfusion_core.concept import GatedConcept
from perfusion_pack.perfusion_core.edit import similarity
from perfusion_pack.perfusion_core.varied_prompts import VARIED_PROMPTS, WordSimilarity, recorded_similarity
from tiny_models import encode, gated
from training_inputs import run_node


@pytest.mark.parametrize("form", ["paper", "gated", "unlocked"])
def test_a_concept_recommends_a_bias_by_its_words_similarity(inputs, folder, form):
    """As it is in use, in the prompts of many kinds that the file speaks of."""
    concept = run_node(inputs, steps=1, form=form)[0][0].concept
    measured = recorded_similarity(concept.training)
    with torch.inference_mode():
        clip = add_words(inputs.clip, (gated(concept),))
        found = [similarity_in_use(clip, concept, prompt) for prompt in VARIED_PROMPTS]
    assert measured.prompts == len(found) >= 30
    expected = [min(found), sorted(found)[(len(found) - 1) // 2], max(found)]
    assert [measured.lowest, measured.median, measured.highest] == pytest.approx(expected, abs=2e-3)
    assert measured.lowest < measured.highest - 0.02
    assert concept.bias == (pytest.approx(measured.median - 0.15, abs=0.006) if form == "paper" else 0.85)


def similarity_in_use(clip, concept, prompt):
    text = prompt.format(concept.word)
    own = encode(clip, text)[0][0][0, word_positions(clip.tokenize(text), concept.word)]
    return similarity(own, concept.target_input, concept.inverse_target_input).mean().item()


def test_a_word_too_long_to_be_measured_is_trained_all_the_same(inputs, folder, monkeypatch):
    from perfusion_pack.nodes.host.training import word_similarity

    monkeypatch.setattr(word_similarity, "VARIED_PROMPTS", ("a photo of " + 80 * "a " + "{}",))
    concept = run_node(inputs, steps=1)[0][0].concept
    assert recorded_similarity(concept.training) is None and concept.bias == 0.85


def test_the_loader_shows_it(hugsy):
    found = WordSimilarity(30, 0.91, 0.64, 1.02)
    concept = dataclasses.replace(hugsy, bias=0.65, temperature=0.15, training=found.recorded())
    shown = "as the file recommends · temperature 0.15 · similarity 0.91 (0.64 to 1.02 in 30 prompts) · 12 kB"
    assert _summary(GatedConcept(concept, 0.65, 0.15), 12_000).endswith(shown)
    own = GatedConcept(dataclasses.replace(hugsy, temperature=0.1), 0.65, 0.15)
    assert _summary(own, 12_000).endswith("recommends 0.75 · temperature 0.15; the file recommends 0.1 · 12 kB")
