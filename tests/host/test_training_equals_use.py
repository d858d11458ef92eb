"""What is trained is what is used: the trainer's forward pass against the gate's, from the same learned tensors.

The two are written apart, one differentiable and one for the host's samplers. Were they to differ, a training would
silently learn for another edit than the one that draws the pictures.  One thing differs on purpose: in use the gate is
measured against the word as it stands in the prompt, and here both are.
"""

from __future__ import annotations

import dataclasses
import itertools

import comfy.sample
import comfy.samplers
import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.perfusion_core.edit import FORMS, ConceptEdit, edit_encoding, similarity
from perfusion_pack.perfusion_core.word_in_prompt import WordsInPrompt
from tiny_models import WIDTH, encode, gated, make_concept, statistics, tiny_clip, tiny_model
from torch import Tensor

BIAS, TEMPERATURE = 0.75, 0.10  # of the paper's training
TEMPLATES = ("a photo of a {}", "A {} shown in a photo")
SUPERCLASSES = {1: "teddy", 2: "teddy bear"}
SIGMAS = (3.0, 10.0)  # one a template


@pytest.fixture(scope="module")
def models():
    with torch.inference_mode():
        return tiny_model(), tiny_clip()


def ordinary_copies(concept):
    """The concept with tensors that autograd may have, as the trainer's are."""
    tensors = {f.name: v.clone() for f in dataclasses.fields(concept) if torch.is_tensor(v := getattr(concept, f.name))}
    tables = ("word_vectors", "superclass_vectors", "value_targets")
    tensors |= {name: {key: v.clone() for key, v in getattr(concept, name).items()} for name in tables}
    return dataclasses.replace(concept, **tensors)


def learned_concept(models, form: str, tokens: int):
    """Random learned tensors; the word and its i are apart by so much that the gate is half open."""
    model, clip = models
    draw = torch.Generator().manual_seed(21)
    with torch.inference_mode(False):
        superclass = encode_superclass_vectors(clip, SUPERCLASSES[tokens])
        word = {key: torch.randn(vectors.shape, generator=draw) * 0.3 for key, vectors in superclass.items()}
        empty = torch.zeros(1, 4, 8, 8)
        with torch.no_grad(), HostDenoisingTask(model, clip, empty, None, "<hugsy>", superclass) as task:
            encodings, positions = task.encode(word, TEMPLATES)
        i = encodings[positions].mean(dim=0)
        i = i + 0.3 * i.std() * torch.randn(WIDTH, generator=draw)
        inverse = torch.linalg.inv(statistics(clip).clone()).float() @ i
    concept = make_concept(
        model, clip, superclass=SUPERCLASSES[tokens], form=form, word_vectors=word, target_input=i,
        inverse_target_input=inverse / (i @ inverse), superclass_vectors=superclass,
    )  # fmt: skip
    return ordinary_copies(concept)


def host_prediction(model, clip, prompt: str, noisy: Tensor, sigma: float) -> Tensor:
    """The denoised latent that one of the host's samplers sees at a noise level, [1, C, h, w]."""
    seen = []

    def sampler(predict, _noise, sigmas, extra_args, **_):
        seen.append(predict(noisy, sigmas[:1], **extra_args))
        return seen[0]

    latent, condition = torch.zeros_like(noisy), encode(clip, prompt)
    sigmas = torch.tensor([sigma, 0.0])
    with torch.inference_mode():
        comfy.sample.sample_custom(
            model, latent, 1.0, comfy.samplers.KSAMPLER(sampler), sigmas, condition, condition, latent,
            disable_pbar=True, seed=0,
        )  # fmt: skip
    return seen[0].clone()


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def as_in_use(encodings: Tensor, positions: Tensor, edit: ConceptEdit) -> WordsInPrompt:
    """Where the word stands in each prompt, and how similar it is there; the trainer itself measures plainly."""
    plain = similarity(encodings, edit.target_input, edit.inverse_target_input)
    word = (plain * positions).sum(dim=1, keepdim=True) / positions.sum(dim=1, keepdim=True)
    return WordsInPrompt(positions[..., None], word.expand_as(plain)[..., None].detach())


@pytest.mark.parametrize("tokens", SUPERCLASSES)
@pytest.mark.parametrize(
    ("form", "lock"), [*((form, None) for form in FORMS), ("lockable", 0.0), ("lockable", 0.5), ("lockable", 1.0)]
)
def test_the_trainers_forward_pass_is_the_gates(models, form, lock, tokens, record_property):
    model, clip = models
    concept = learned_concept(models, form, tokens)
    noisy = torch.randn(len(TEMPLATES), 4, 8, 8, generator=torch.Generator().manual_seed(22))
    stack = (gated(concept, bias=BIAS, temperature=TEMPERATURE, lock=lock),)
    used, spoken = apply_concepts(model, stack), add_words(clip, stack)
    per_prompt = list(zip(TEMPLATES, noisy.split(1), SIGMAS, strict=True))
    expected = torch.cat([host_prediction(used, spoken, t.format("<hugsy>"), *rest) for t, *rest in per_prompt])
    plain = torch.cat([host_prediction(model, spoken, t.format("<hugsy>"), *rest) for t, *rest in per_prompt])

    vectors = {key: value.requires_grad_() for key, value in concept.word_vectors.items()}
    opened = HostDenoisingTask(model, clip, torch.zeros(1, 4, 8, 8), None, "<hugsy>", concept.superclass_vectors)
    with torch.inference_mode(False), torch.enable_grad(), opened as task:
        encodings, positions = task.encode(vectors, TEMPLATES)
        learned = concept.target_input, concept.inverse_target_input, concept.superclass_encoding
        drawn = None if lock is None else torch.full((len(TEMPLATES), 1), lock)  # one a sample, as the trainer draws
        edit = ConceptEdit(*learned, BIAS, TEMPERATURE, form=form, lock=drawn)
        edited = edit_encoding(encodings, [edit], as_in_use(encodings, positions, edit))
        found = task.denoise(noisy, torch.tensor(SIGMAS), edited, concept.value_targets)

    assert positions.sum(dim=1).tolist() == [tokens] * len(TEMPLATES)
    gates = edited.gates[positions]
    assert ((gates > 0.05) & (gates < 0.95)).any()  # or its bias and temperature would not be seen
    for row in range(len(TEMPLATES)):
        off, effect = relative(found[row], expected[row]), relative(plain[row], expected[row])
        record_property(f"{form}, {tokens} tokens, prompt {row}", f"{off:.1e} where the concept changes {effect:.1e}")
        assert off <= 1e-5 and effect > 1e-3


def test_the_forms_are_told_apart(models):
    """Otherwise the test above could pass with any of them."""
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(22))
    found = []
    for form in FORMS:
        stack = (gated(learned_concept(models, form, 1), bias=BIAS, temperature=TEMPERATURE),)
        used, spoken = apply_concepts(models[0], stack), add_words(models[1], stack)
        found.append(host_prediction(used, spoken, "a photo of a <hugsy>", noisy, 3.0))
    assert all(relative(one, other) > 1e-4 for one, other in itertools.combinations(found, 2))


def test_locks_are_told_apart(models):
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(22))
    concept, found = learned_concept(models, "lockable", 1), []
    for lock in (0.0, 0.5, 1.0):
        stack = (gated(concept, bias=BIAS, temperature=TEMPERATURE, lock=lock),)
        used, spoken = apply_concepts(models[0], stack), add_words(models[1], stack)
        found.append(host_prediction(used, spoken, "a photo of a <hugsy>", noisy, 3.0))
    assert all(relative(one, other) > 1e-4 for one, other in itertools.combinations(found, 2))


def test_values_start_at_what_the_layer_makes_of_the_superclass(models):
    """o_V = W_V e_super of every layer (paper, section 4.4)."""
    model, clip = models
    encoding = torch.randn(WIDTH, generator=torch.Generator().manual_seed(23))
    with torch.inference_mode(False), torch.no_grad():
        superclass = encode_superclass_vectors(clip, "teddy")
        with HostDenoisingTask(model, clip, torch.zeros(1, 4, 8, 8), None, "<hugsy>", superclass) as task:
            outputs = task.value_outputs(encoding)
            weights = {name: layer.to_v.weight.clone() for name, layer in task.layers.items()}
    assert set(outputs) == set(weights) and len(outputs) == 7
    for name, weight in weights.items():
        assert outputs[name].dtype == torch.float32
        assert relative(outputs[name], weight @ encoding) <= 1e-6, name
