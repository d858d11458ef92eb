"""Relative rates, the lock, mirrored pictures and overflowing gradients, through the host's own classes."""

from __future__ import annotations

import dataclasses
import logging

import comfy.model_management
import folder_paths
import pytest
import torch
from perfusion_pack.nodes.host.concept_folders import register_concept_folders
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training import denoising_task
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.latents import encoded_pictures
from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
from perfusion_pack.nodes.load_concept import LoadConcept
from perfusion_pack.nodes.training_settings import (
    AS_STANDARD,
    CAME_LATER,
    CUSTOM,
    DEFAULTS,
    DEMO,
    PRESETS,
    SETTING_OF,
    training_settings,
)
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.learning_rates import size
from perfusion_pack.perfusion_core.training import TrainingSettings
from perfusion_pack.perfusion_core.training_batch import Batch
from perfusion_pack.perfusion_core.training_state_file import load_training, save_training
from test_nodes import SCHEMAS
from test_training_storage import F16, stored_model
from tiny_models import difference, encode, gated, make_concept, sample
from training_inputs import run_node

REAL = ("sd1", "sd2", "sdxl", "some_other_family")
LOCKS = (0.0, 0.5, 1.0)
OF_CUSTOM = {*SETTING_OF, *CAME_LATER}  # its inputs


def job(inputs, settings: TrainingSettings, **changes) -> TrainingJob:
    asked = {**inputs._asdict(), "word": "<hugsy>", "superclass": "teddy", "settings": settings, **changes}
    return TrainingJob(TrainingRequest(**asked), TrainingHooks())


def settings_of(preset: str, family: str = DEMO, **custom) -> TrainingSettings:
    return training_settings(preset, 0, True, 25, custom, family)


# --- what presets and saved workflows ask for ---


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in ("Paper", "Style")])
def test_presets_are_written_in_relative_rates_and_lock_keys_on_real_checkpoints(preset):
    demo = settings_of(preset)
    assert (demo.relative_value_rate, demo.relative_word_rate, demo.form) == (0.03, 0.012, "anchored")
    for family in REAL:
        real = settings_of(preset, family)
        assert (real.relative_value_rate, real.relative_word_rate, real.form) == (0.03, 0.41, "lockable")
        assert real.lock is None  # drawn
        assert dataclasses.replace(real, relative_word_rate=0.012, form="anchored", difference_cap=0.5) == demo


def test_a_style_has_own_keys_on_every_model():
    for family in (DEMO, *REAL):
        style, usual = settings_of("Style", family), settings_of("Standard", family)
        assert dataclasses.replace(usual, form="unlocked", difference_cap=None) == style


def test_a_preset_of_the_demo_model_of_before_goes_on_as_custom():
    """With what docs/training.md says; all settings must be the same for that."""
    whole = {"form": "unlocked", "relative_value_rate": 0.03, "relative_word_rate": 0.012}
    for preset, length in (("Standard", {}), ("Quality", {"steps": 600}), ("Quick", {"steps": 150, "batch_size": 4})):
        before = dataclasses.replace(settings_of(preset), form="unlocked", difference_cap=None)
        as_typed = {name: getattr(DEFAULTS, setting) for name, setting in SETTING_OF.items()}
        assert settings_of(CUSTOM, **{**as_typed, **dict.fromkeys(CAME_LATER, 0.0), **whole, **length}) == before


def test_the_papers_preset_is_one_for_every_model():
    assert all(settings_of("Paper", family) == settings_of("Paper") for family in REAL)


@pytest.mark.parametrize("family", [DEMO, *REAL])
def test_custom_of_a_saved_workflow_trains_with_its_absolute_numbers(family):
    """Whatever they are, the old defaults too; the new inputs are not in it, or 0 where the front end adds them."""
    old = {"value_learning_rate": 0.02, "word_learning_rate": 0.006, "form": "unlocked"}
    for added in ({}, {"relative_value_rate": 0.0, "relative_word_rate": 0.0}):
        settings = settings_of(CUSTOM, family, **old, **added)
        assert settings == TrainingSettings(normalise_gate=True)
        assert settings.relative_value_rate is settings.relative_word_rate is None


@pytest.mark.parametrize("family", [DEMO, *REAL])
def test_an_untouched_custom_trains_as_standard(family):
    untouched = {one.id: one.default for one in SCHEMAS["PerfusionTrainConcept"].inputs if one.id in OF_CUSTOM}
    assert untouched.keys() == OF_CUSTOM and untouched["form"] == AS_STANDARD
    standard = settings_of("Standard", family)
    assert settings_of(CUSTOM, family, **untouched) == standard
    changed = {**untouched, "steps": 50, "relative_value_rate": 0.015}
    assert settings_of(CUSTOM, family, **changed) == dataclasses.replace(standard, steps=50, relative_value_rate=0.015)


def test_custom_takes_a_relative_rate_in_place_of_the_absolute_one():
    settings = settings_of(
        CUSTOM, form="gated", value_learning_rate=0.5, relative_value_rate=0.1, word_learning_rate=0.006
    )
    assert (settings.relative_value_rate, settings.relative_word_rate) == (0.1, None)


# --- what a training makes of it ---


def test_the_file_says_rates_both_ways_and_the_lock(inputs):
    settings = TrainingSettings(
        steps=1, batch_size=1, validate_every=0, form="lockable", relative_value_rate=0.03, relative_word_rate=0.41
    )
    with torch.inference_mode():
        concept = job(inputs, settings).train().concept
    record = concept.training
    word = size(concept.superclass_vectors["clip_l"])
    assert record["relative_rates"] == {"values": [0.03, 0.03], "words": {"clip_l": 0.41}}
    assert record["absolute_rates"]["words"]["clip_l"] == pytest.approx(0.41 * word, rel=1e-3)
    low, high = record["absolute_rates"]["values"]
    assert 0 < low < high  # layers differ
    assert (concept.form, concept.lock, record["lock"]) == ("lockable", 1.0, None)
    # A first step of Adam is as long as the rate.
    moved = (concept.word_vectors["clip_l"] - concept.superclass_vectors["clip_l"]).abs()
    assert moved.max().item() == pytest.approx(0.41 * word, rel=1e-2)


def test_a_fixed_lock_of_the_training_is_what_the_file_recommends(inputs):
    settings = TrainingSettings(steps=1, batch_size=1, validate_every=0, form="lockable", lock=0.25)
    with torch.inference_mode():
        assert job(inputs, settings).train().concept.lock == 0.25


def test_the_node_trains_a_real_family_lockable_and_its_file_comes_back(inputs, folder, monkeypatch):
    monkeypatch.setitem(PRESETS, "Quick", {"steps": 2, "batch_size": 1})
    (gated_concept,) = run_node(inputs, preset="Quick", validate_every=0)[0]
    kept = load_concept(folder / "hugsy.safetensors")
    assert kept.form == "lockable" and kept.lock == 1.0 == gated_concept.edit().lock_in_force
    assert kept.training["relative_rates"]["words"] == {"clip_l": 0.41}


# --- mirrored pictures ---


def test_mirrored_samples_are_latents_of_mirrored_pictures(inputs, monkeypatch):
    training, seen = job(inputs, TrainingSettings(steps=1, batch_size=2)), []
    with torch.inference_mode():
        pictures = training.request.pictures
        plain, mirrored = (encoded_pictures(pictures, inputs.vae, mirrored=m) for m in (False, True))
        expected = inputs.vae.encode(inputs.images.flip(2))
    assert torch.equal(mirrored, expected) and not torch.allclose(mirrored, plain.flip(-1), atol=1e-3)
    with torch.inference_mode(), training.prepare():
        task = training.task
        monkeypatch.setattr(task, "noised", lambda clean, noise, sigma: seen.append(clean) or clean)
        batch = Batch(torch.tensor([0, 2]), torch.tensor([False, True]), torch.zeros(2, dtype=torch.int64))
        monkeypatch.setattr(task, "denoise", lambda noisy, *_: noisy)
        task.loss(batch, None, {}, torch.Generator().manual_seed(9))
    scaled = [inputs.model.model.process_latent_in(latents) for latents in (plain, mirrored)]
    assert torch.equal(seen[0][0], scaled[0][0]) and torch.equal(seen[0][1], scaled[1][2])


def test_without_flip_nothing_is_encoded_twice(inputs, monkeypatch):
    encoded, encode_pictures = [], inputs.vae.encode
    monkeypatch.setattr(
        inputs.vae, "encode", lambda pictures: encoded.append(len(pictures)) or encode_pictures(pictures)
    )
    for flip in (False, True):
        with torch.inference_mode(), job(inputs, TrainingSettings(steps=1, batch_size=2, flip=flip)).prepare():
            pass
    assert encoded == [3, 3, 3]


def stopped_state(inputs, folder, monkeypatch, **changes):
    """The state of a training that stopped at step 2, and its path."""

    def cancel_at_two(self, value, total=None, preview=None):
        if value == 2:
            raise comfy.model_management.InterruptProcessingException

    with monkeypatch.context() as patch:
        patch.setattr("comfy.utils.ProgressBar.update_absolute", cancel_at_two)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run_node(inputs, **changes)
    return load_training(folder / "hugsy.training_state"), folder / "hugsy.training_state"


OLD = ("relative_value_rate", "relative_word_rate", "lock", "mirrored pictures")


def of_an_earlier_version(kept, **changes):
    """The state as the versions before relative rates kept it."""
    inputs = {name: value for name, value in kept.inputs.items() if name not in OLD}
    return dataclasses.replace(kept, inputs={**inputs, **changes})


def test_a_state_from_before_goes_on_and_it_is_said_what_is_new(inputs, folder, monkeypatch, caplog):
    kept, path = stopped_state(inputs, folder, monkeypatch)
    assert kept.inputs["mirrored pictures"] == "encoded"
    save_training(path, of_an_earlier_version(kept))
    with caplog.at_level(logging.INFO):
        run_node(inputs, resume=True)
    assert load_training(path).finished and "did not note: mirrored pictures" in caplog.text


def test_a_preset_of_before_had_absolute_rates_and_goes_on_with_custom(inputs, folder, monkeypatch):
    """Rates of another unit are other rates; it is said which inputs to set back, and Custom can."""
    kept, path = stopped_state(inputs, folder, monkeypatch)
    save_training(path, of_an_earlier_version(kept))
    monkeypatch.setitem(PRESETS, "Quick", {"steps": 4, "batch_size": 2, "form": "unlocked", "difference_cap": None})
    with pytest.raises(PerfusionError, match="another relative_value_rate, relative_word_rate;.*turn resume off"):
        run_node(inputs, preset="Quick", resume=True)
    run_node(inputs, resume=True, value_learning_rate=0.02, word_learning_rate=0.006)
    assert load_training(path).finished


# --- the lock in use ---


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"start_percent": 1.0}, {"end_percent": 0.0}])
def test_nothing_to_do_is_the_base_model_at_every_lock(model, clip, hugsy, lock, settings):
    stack = (gated(dataclasses.replace(hugsy, form="lockable"), lock=lock, **settings),)
    positive, negative = encode(add_words(clip, stack), "a photo of <hugsy>"), encode(clip, "")
    patched = apply_concepts(model, stack)
    assert difference(sample(patched, positive, negative), sample(model, positive, negative)) == 0.0


def test_the_lock_changes_the_picture_and_each_concept_has_its_own(model, clip, hugsy, cuppy):
    pictures = []
    for locks in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        stack = tuple(
            gated(dataclasses.replace(concept, form="lockable"), bias=0.5, lock=lock)
            for concept, lock in zip((hugsy, cuppy), locks, strict=True)
        )
        positive = encode(add_words(clip, stack), "a photo of <hugsy> beside a <cuppy>")
        pictures.append(sample(apply_concepts(model, stack), positive, encode(clip, "")))
        turned = sample(apply_concepts(model, stack[::-1]), positive, encode(clip, ""))
        assert difference(pictures[-1], turned) <= 1e-4 * turned.abs().max()
    for index, one in enumerate(pictures):
        assert all(difference(one, other) > 0 for other in pictures[:index])


def test_the_default_lock_is_that_of_the_form(model, clip, hugsy):
    for form, lock in (("unlocked", 0.0), ("gated", 1.0), ("paper", 1.0), ("lockable", 1.0), ("anchored", 0.0)):
        stack = (gated(dataclasses.replace(hugsy, form=form)),)
        positive = encode(add_words(clip, stack), "a photo of <hugsy>")
        found = [sample(apply_concepts(model, s), positive, encode(clip, ""))
                 for s in (stack, (dataclasses.replace(stack[0], lock=lock),))]  # fmt: skip
        assert torch.equal(*found)


# --- the loader ---


@pytest.fixture
def listed(folder, monkeypatch):
    """The folder whose files the loader lists."""
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    folder_paths.folder_names_and_paths.pop("perfusion", None)
    register_concept_folders()
    return folder


def loaded(path, **inputs):
    usual = {"bias": 0.85, "temperature": 0.15, "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    return LoadConcept.PREPARE_CLASS_CLONE(None).execute(path.name, **usual, **inputs).result[0][0]


@pytest.mark.parametrize(("form", "own"), [("unlocked", 0.0), ("gated", 1.0), ("lockable", 0.4)])
def test_the_loader_takes_the_lock_of_the_file_or_the_one_that_is_set(listed, caplog, model, clip, form, own):
    concept = make_concept(model, clip, form=form, lock=own if form == "lockable" else None)
    path = listed / "a.safetensors"
    save_concept(path, concept)
    for inputs in ({}, {"lock": -1.0}, {"lock": -0.5}, {"lock": own}):  # a saved workflow has no such input
        assert loaded(path, **inputs).edit().lock_in_force == own
    assert not caplog.text
    assert loaded(path, lock=0.75).edit().lock_in_force == 0.75
    assert ("which may cost likeness" in caplog.text) == (form != "lockable")


# --- overflow ---


def test_gradients_that_overflow_in_half_precision_are_scaled_down_and_nothing_is_lost(inputs, monkeypatch, caplog):
    settings = TrainingSettings(steps=2, batch_size=2, validate_every=0)
    found = []
    for scale in (2.0**12, 2.0**30):
        monkeypatch.setattr(denoising_task, "gradient_scale", lambda dtype, numbers, scale=scale: scale)
        with torch.inference_mode():
            found.append(job(inputs._replace(model=stored_model(F16, None)), settings).train())
    assert "Gradients overflowed at step 1; going on with half their scale" in caplog.text
    usual, cured = found
    assert cured.losses == pytest.approx(usual.losses, rel=1e-3)
    for name, value in usual.concept.value_targets.items():
        assert torch.allclose(cured.concept.value_targets[name], value, atol=0.02 * value.abs().max().item())


def test_there_is_no_scale_to_lower_but_in_half_precision(inputs):
    training = job(inputs, TrainingSettings(steps=1, batch_size=1))
    with torch.inference_mode(), training.prepare():
        with torch.inference_mode(False), torch.enable_grad():
            training.trainer.step()
        assert isinstance(training.task, HostDenoisingTask) and not training.task.lower_gradient_scale()
