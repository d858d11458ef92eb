"""What SDXL is told of a prompt beside its encoding: each template's own pooled vector, or that of the superclass."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.edit import ConceptEdit, edit_encoding
from perfusion_pack.perfusion_core.text_statistics import statistics_from_moment
from perfusion_pack.perfusion_core.training import TrainingSettings
from perfusion_pack.perfusion_core.training_batch import Batch
from tiny_models import encode, gated, make_concept, statistics, tiny_clip, tiny_model, tiny_sdxl
from training_inputs import learn_two_steps

TEMPLATES = ["a {}", "{}, a good photo", "the {} at night"]


@pytest.fixture(scope="module")
def models():
    return tiny_sdxl()


@pytest.fixture(scope="module")
def concept(models):
    return make_concept(*models)


def of_use(clip, text):
    """The pooled vector that a stock node gives, [1, p]."""
    return encode(clip, text)[0][1]["pooled_output"]


def told(models, concept, batch, lock=False):
    """What the model is told of the prompt of each sample in a step of the training, [B, p]."""
    model, clip = models
    seen, unet = [], model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda *a: seen.append(a[2]["y"]), with_kwargs=True)
    with torch.inference_mode(False):
        vectors = {key: value.clone() for key, value in concept.word_vectors.items()}
        superclass = encode_superclass_vectors(clip, concept.superclass)
        task = HostDenoisingTask(model, clip, torch.zeros(2, 4, 8, 8), None, concept.word, superclass)
        task.pooled_lock = lock
        with task, torch.no_grad():
            used, rows = batch.templates.unique(return_inverse=True)
            encodings, _ = task.encode(vectors, [TEMPLATES[i] for i in used])
            i = concept.target_input.clone()
            edit = ConceptEdit(i, i, concept.superclass_encoding.clone(), 0.75, 0.1, form="unlocked")
            targets = {name: torch.zeros(layer.to_v.out_features) for name, layer in task.layers.items()}
            task.loss(batch, edit_encoding(encodings[rows], [edit]), targets, torch.Generator().manual_seed(1))
    handle.remove()
    return seen[-1][:, :48]


BATCH = Batch(torch.tensor([0, 1, 0, 1]), torch.zeros(4, dtype=torch.bool), torch.tensor([2, 0, 2, 1]))


def test_each_sample_is_told_of_its_own_template(models, concept):
    found = told(models, concept, BATCH)
    spoken = add_words(models[1], (gated(concept),))
    expected = [of_use(spoken, TEMPLATES[int(i)].format(concept.word)) for i in BATCH.templates]
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3, "these templates have one pooled vector"


def test_the_pooled_lock_tells_of_the_superclass(models, concept):
    """In training, and in use, where it is read off the concept."""
    found = told(models, concept, BATCH, lock=True)
    clip = models[1]
    expected = [of_use(clip, TEMPLATES[int(i)].format(concept.superclass)) for i in BATCH.templates]
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)

    locked = dataclasses.replace(concept, training={"pooled_lock": True})
    text, plain = "a <hugsy> in the snow", "a teddy in the snow"
    free, spoken = add_words(clip, (gated(concept),)), add_words(clip, (gated(locked),))
    torch.testing.assert_close(of_use(spoken, text), of_use(clip, plain), atol=1e-6, rtol=1e-6)
    assert (of_use(free, text) - of_use(clip, plain)).abs().max() > 1e-3
    assert torch.equal(encode(spoken, text)[0][0], encode(free, text)[0][0]), "the encoding is that of the word"
    assert torch.equal(of_use(spoken, plain), of_use(clip, plain))


@pytest.mark.parametrize("key_lock", ["local", "global"])
def test_of_two_concepts_each_keeps_its_own(models, concept, key_lock):
    clip = models[1]
    other = make_concept(*models, "<cuppy>", "cup", seed=4)
    locked = dataclasses.replace(concept, training={"pooled_lock": True})
    spoken = add_words(clip, (gated(locked), gated(other)), key_lock)
    expected = of_use(add_words(clip, (gated(other),)), "a teddy beside a <cuppy>")
    torch.testing.assert_close(of_use(spoken, "a <hugsy> beside a <cuppy>"), expected, atol=1e-6, rtol=1e-6)


def learned(models, **settings):
    metric = statistics_from_moment(statistics(models[1]).float(), 8, "tiny")
    images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    settings = TrainingSettings(steps=2, batch_size=2, validate_every=0, **settings)
    return learn_two_steps(*models, metric, settings=settings, images=images).concept


def test_the_file_says_it(models, tmp_path):
    save_concept(tmp_path / "hugsy.safetensors", learned(models, pooled_lock=True))
    concept = load_concept(tmp_path / "hugsy.safetensors")
    assert concept.pooled_lock
    assert not dataclasses.replace(concept, training={"pooled_lock": "yes"}).pooled_lock
    assert not learned(models).pooled_lock


def test_a_model_that_is_told_nothing_learns_the_same():
    """Bit for bit, with the lock or without."""
    models = tiny_model(), tiny_clip()
    free, locked = learned(models), learned(models, pooled_lock=True)
    assert torch.equal(free.target_input, locked.target_input)
    assert all(torch.equal(value, locked.value_targets[name]) for name, value in free.value_targets.items())


def test_sdxl_learns_something_else_with_it(models):
    free, locked = learned(models), learned(models, pooled_lock=True)
    assert not all(torch.equal(value, locked.value_targets[name]) for name, value in free.value_targets.items())
