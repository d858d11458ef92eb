"""Training in transformers with text cross-attention: stills, in latents of one frame, by the model's own objective."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import comfy.model_base
import comfy.sample
import comfy.samplers
import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.gate.refined_text import refined_text
from perfusion_pack.nodes.host.text.statistics import cached_statistics, measure_statistics
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.autograd import host_in_training
from perfusion_pack.nodes.host.training.checks import check_models
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.perfusion_core.captions import built_in_captions
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.edit import ConceptEdit, edit_encoding, similarity
from perfusion_pack.perfusion_core.encoding_offset import with_offset
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training import TrainingSettings
from perfusion_pack.perfusion_core.word_in_prompt import WordsInPrompt
from tiny_models import difference, encode, gated, instance_forwards
from tiny_transformers import tiny_hunyuan_dit, tiny_video_vae
from torch import Tensor
from training_inputs import TrainingInputs, run_node
from transformer_families import FAMILIES, IN_ALL, needs_anima, random_offset, sample_family, transformer_concept

TEMPLATES = ("a photo of a {}", "A {} shown in a photo")
SIGMAS = (0.4, 0.9)


@pytest.fixture
def family(request, families):
    if request.param not in families:
        with torch.inference_mode():
            made = FAMILIES[request.param]()
            statistics = measure_statistics(
                made.clip, built_in_captions(60), lambda done, total: None, refined_text(made.model)
            )
            families[request.param] = made, statistics, tiny_video_vae()
    return families[request.param]


def prediction(model, clip, prompt: str, noisy: Tensor, sigma: float) -> Tensor:
    """The denoised latent that one of the host's samplers sees at a noise level."""
    seen = []

    def sampler(predict, _noise, sigmas, extra_args, **_):
        seen.append(predict(noisy, sigmas[:1], **extra_args))
        return seen[0]

    latent, condition = torch.zeros_like(noisy), encode(clip, prompt)
    with torch.inference_mode():
        comfy.sample.sample_custom(
            model, latent, 1.0, comfy.samplers.KSAMPLER(sampler), torch.tensor([sigma, 0.0]), condition, condition,
            latent, disable_pbar=True, seed=0,
        )  # fmt: skip
    return seen[0].clone()


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def as_in_use(encodings: Tensor, positions: Tensor, edit: ConceptEdit) -> WordsInPrompt:
    """Where the word stands in each prompt, and how similar it is there; the trainer itself measures plainly."""
    plain = similarity(encodings, edit.target_input, edit.inverse_target_input)
    word = (plain * positions).sum(dim=1, keepdim=True) / positions.sum(dim=1, keepdim=True)
    return WordsInPrompt(positions[..., None], word.expand_as(plain)[..., None].detach())


def ordinary_copies(concept):
    tensors = {f.name: v.clone() for f in dataclasses.fields(concept) if torch.is_tensor(v := getattr(concept, f.name))}
    tables = ("word_vectors", "superclass_vectors", "value_targets")
    tensors |= {name: {key: v.clone() for key, v in getattr(concept, name).items()} for name in tables}
    return dataclasses.replace(concept, **tensors)


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
@pytest.mark.parametrize(("form", "lock", "has_offset"), [("gated", None, False), ("lockable", 0.5, True)])
def test_the_trainers_forward_pass_is_the_gates(family, form, lock, has_offset):
    made, statistics, _ = family
    model, clip = made
    concept = ordinary_copies(transformer_concept(made, form=form, superclass="teddy bear"))
    # The gate is half open, or its bias would not be seen.
    i = concept.target_input + 0.2 * concept.target_input.std() * torch.randn(
        len(concept.target_input), generator=torch.Generator().manual_seed(9)
    )
    inverse = statistics.inverse.clone() @ i
    offset = random_offset(made, "teddy bear") if has_offset else None
    concept = dataclasses.replace(
        concept, target_input=i, inverse_target_input=inverse / (i @ inverse), encoding_offset=offset
    )
    stack = (gated(concept, temperature=0.1, lock=lock),)
    noisy = torch.randn(2, 16, 1, 8, 8, generator=torch.Generator().manual_seed(22))
    used, spoken = apply_concepts(model, stack), add_words(clip, stack)
    per_prompt = list(zip(TEMPLATES, noisy.split(1), SIGMAS, strict=True))
    expected = [prediction(used, spoken, t.format("<hugsy>"), *rest) for t, *rest in per_prompt]
    plain = [prediction(model, spoken, t.format("<hugsy>"), *rest) for t, *rest in per_prompt]

    vectors = {key: value.requires_grad_() for key, value in concept.word_vectors.items()}
    opened = HostDenoisingTask(
        model, clip, torch.zeros(1, 16, 1, 8, 8), None, "<hugsy>", concept.superclass_vectors, superclass="teddy bear"
    )
    with torch.inference_mode(False), torch.enable_grad(), host_in_training(), opened as task:
        encodings, positions = task.encode(vectors, TEMPLATES)
        learned_offset = None if offset is None else offset.clone().requires_grad_()
        encodings = with_offset(encodings, positions, learned_offset)
        learned = concept.target_input, concept.inverse_target_input, concept.superclass_encoding
        drawn = None if lock is None else torch.full((2, 1), lock)
        edit = ConceptEdit(*learned, 0.75, 0.1, form=form, lock=drawn)
        edited = edit_encoding(encodings, [edit], as_in_use(encodings, positions, edit))
        found = task.denoise(noisy, torch.tensor(SIGMAS), edited, concept.value_targets)
        parameters = [*vectors.values(), *([] if learned_offset is None else [learned_offset])]
        gradients = torch.autograd.grad(found.square().sum(), parameters)
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)
    assert positions.any(dim=1).all()
    for row in range(2):
        assert relative(found[row : row + 1], expected[row]) <= 1e-5 < 1e-4 < relative(plain[row], expected[row])


def request(family, **changes) -> TrainingRequest:
    made, statistics, vae = family
    settings = TrainingSettings(steps=3, batch_size=2, value_learning_rate=0.2)
    return TrainingRequest(
        model=made.model, clip=made.clip, vae=vae, word="<hugsy>", superclass="teddy bear", settings=settings,
        images=torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(6)), statistics=statistics, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
@pytest.mark.parametrize("automatic_mask", [False, True])
def test_from_pictures_to_a_picture(family, tmp_path, automatic_mask):
    """Train, save, load, gate, sample; and the models are what they were."""
    model, clip = family[0]
    before = {name: tensor.clone() for name, tensor in model.model.diffusion_model.state_dict().items()}
    with torch.inference_mode():
        result = TrainingJob(request(family, automatic_mask=automatic_mask)).train()
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.model.diffusion_model.state_dict().items())
    assert result.effect > 0 and all(loss > 0 for loss in result.losses)
    for key, vectors in result.concept.word_vectors.items():
        assert not torch.equal(vectors, result.concept.superclass_vectors[key]), f"{key} did not learn"
    assert (result.masks is None) != automatic_mask

    save_concept(tmp_path / "hugsy.safetensors", result.concept)
    concept = load_concept(tmp_path / "hugsy.safetensors")
    assert concept.base_model in ("anima", "cosmos_predict2", "wan2.1")
    stack = (gated(concept),)
    knowing = add_words(clip, stack)
    with torch.inference_mode():
        positive, negative = encode(knowing, "a <hugsy> in the snow"), encode(knowing, "")
    base, found, off = (
        sample_family(chosen, positive, negative)
        for chosen in (model, apply_concepts(model, stack), apply_concepts(model, (gated(concept, strength=0.0),)))
    )
    assert difference(base, found) > 0 and difference(base, off) == 0.0
    assert not instance_forwards(model)


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_gradient_checkpointing_gives_the_same_concept(family):
    with torch.inference_mode():
        plain, again = (
            TrainingJob(request(family, gradient_checkpointing=chosen)).train().concept for chosen in (False, True)
        )
    for name, value in plain.value_targets.items():
        torch.testing.assert_close(again.value_targets[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", [IN_ALL[0], IN_ALL[2]], indirect=True)
def test_statistics_are_of_what_the_layers_see(family, tmp_path, monkeypatch):
    import folder_paths

    (model, clip), statistics, _ = family
    width = next(iter(transformer_concept(family[0]).value_targets))
    assert statistics.second_moment.shape[0] == transformer_concept(family[0]).encoding_width, width
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    with torch.inference_mode():
        kept = cached_statistics(clip, lambda *_: None, count=20, at_layers=refined_text(model))
        calls = []
        again = cached_statistics(clip, lambda *done: calls.append(done), count=20, at_layers=refined_text(model))
        alone = cached_statistics(clip, lambda *_: None, count=20)
    assert again.hash() == kept.hash() != alone.hash() and not calls
    with pytest.raises(PerfusionError, match="statistics input was expected to be of the text as"):
        dataclasses.replace(request(family), statistics=alone).check()


def test_the_statistics_of_a_model_that_sees_the_encodings_need_no_model():
    assert refined_text(FAMILIES["Cosmos-Predict2"]().model) is None


@needs_anima
def test_the_trainer_node_goes_on_where_it_stopped(families, folder):
    """With masks, samples and previews; four steps in one go and in two are the same concept."""
    with torch.inference_mode():
        made = FAMILIES["Anima"]()
        statistics = measure_statistics(
            made.clip, built_in_captions(60), lambda done, total: None, refined_text(made.model)
        )
        masks = torch.zeros(2, 64, 64)
        masks[:, 16:48, 16:48] = 1
        images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(6))
        inputs = TrainingInputs(made.model, made.clip, tiny_video_vae(), images, masks, statistics)
    rates = {"value_learning_rate": 0.2, "relative_offset_rate": 0.1, "validate_every": 2, "preview_every": 2}
    whole, _, report, path = run_node(inputs, file_name="whole", samples=1, **rates)
    run_node(inputs, file_name="halves", steps=2, **rates)
    halves, *_ = run_node(inputs, file_name="halves", resume=True, **rates)
    assert report.dim() == 4 and Path(path).is_file()
    for name, value in whole[0].concept.value_targets.items():
        assert torch.equal(halves[0].concept.value_targets[name], value)
    assert torch.equal(halves[0].concept.target_input, whole[0].concept.target_input)
    offset = whole[0].concept.encoding_offset
    assert torch.equal(halves[0].concept.encoding_offset, offset) and offset.any(dim=1).all()


def test_a_model_of_two_texts_side_by_side_is_refused(families):
    clip = FAMILIES["Cosmos-Predict2"]().clip
    with pytest.raises(PerfusionError, match="needs a model that is given one text encoding, but HunyuanDiT"):
        check_models(tiny_hunyuan_dit(), clip, tiny_video_vae())
