"""What the quality benchmark paints in batches is what the host's nodes paint one by one."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.sample
import pytest
import torch
from perfusion_pack.demo.load import load_demo_model
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept import GatedConcept
from perfusion_pack.perfusion_core.concept_file import load_concept
from quality.painting import LATENT, noise, paint
from test_nodes import REPOSITORY

CONCEPTS = REPOSITORY / "demo" / "concepts"
WITHOUT = "a photo of a red ball in the snow"
# The second word stands late, where a gate that knows no places opens less.
PROMPTS = ("a photo of a <hugsy> on the beach", WITHOUT, "a photo of a <hugsy> and on the right a <sippy> in the snow")
BENCH = SimpleNamespace(batch=2, sampling_steps=2, cfg=3.0, sampler="euler")


@pytest.fixture(scope="module")
def models():
    return load_demo_model()


@pytest.fixture(scope="module", params=["local", "global"])
def patched(request, models):
    """MODEL and CLIP with two concepts."""
    model, clip, _ = models
    stack = tuple(
        GatedConcept(load_concept(CONCEPTS / f"demo_{name}.safetensors"), 0.85, 0.15) for name in ("hugsy", "sippy")
    )
    return apply_concepts(model, stack, request.param), add_words(clip, stack, request.param)


@torch.inference_mode()
def by_itself(model, clip, prompt: str, number: int) -> torch.Tensor:
    """One prompt as the host's own nodes encode and sample it."""
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, ""))
    return comfy.sample.sample(
        model, noise(0, number)[None], BENCH.sampling_steps, BENCH.cfg, BENCH.sampler, "normal", positive, negative,
        torch.zeros(1, *LATENT), disable_pbar=True, seed=0,
    )[0].cpu()  # fmt: skip


def test_a_batch_is_painted_as_each_of_its_prompts(patched):
    together = paint(BENCH, *patched, PROMPTS)
    alone = torch.stack([by_itself(*patched, prompt, number) for number, prompt in enumerate(PROMPTS)])
    assert (together - alone).abs().max() < 1e-3 * alone.std()


def test_a_prompt_without_the_words_is_painted_as_without_concepts(models, patched):
    plain, with_concepts = paint(BENCH, *models[:2], [WITHOUT] * 3), paint(BENCH, *patched, [WITHOUT] * 3)
    assert torch.equal(plain, with_concepts)
