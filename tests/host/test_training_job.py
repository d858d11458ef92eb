"""The training as a job: its four acts, what it does without files or hooks, and what the node's inputs ask for."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields

import comfy.model_management
import pytest
import torch
from perfusion_pack.nodes import trainer_inputs
from perfusion_pack.nodes.host.training.files import NoFiles, TrainingFiles
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
from perfusion_pack.nodes.train_concept import TrainConcept
from perfusion_pack.nodes.trainer_inputs import TrainerInputs
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training import TrainingSettings
from tiny_models import instance_forwards

SETTINGS = TrainingSettings(steps=4, batch_size=2, validate_every=2)
IN_TRAINING = getattr(comfy.model_management, "in_training", None) is not None  # older hosts have no such flag


def request_of(inputs, **changes) -> TrainingRequest:
    asked = {**inputs._asdict(), "word": "hugsy", "superclass": " a  teddy ", "settings": SETTINGS}
    return TrainingRequest(**{**asked, **changes})


def test_the_acts_one_by_one_are_the_training(inputs, folder):
    with torch.inference_mode():
        whole = TrainingJob(request_of(inputs), files=TrainingFiles("whole", False)).train()
        job = TrainingJob(request_of(inputs), files=TrainingFiles("acts", False))
        with job.prepare():
            assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
            assert not IN_TRAINING or comfy.model_management.in_training
            assert job.trainer.step_number == 0 and job.concept_at().training["steps"] == 0
            job.run()
            assert job.trainer.step_number == 4
        assert torch.is_inference_mode_enabled() and not instance_forwards(inputs.model)
        job.verify()
        result = job.result()
    assert (folder / "acts.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()
    assert (result.losses, result.effect, result.chosen_step) == (whole.losses, whole.effect, whole.chosen_step)
    assert result.path == folder / "acts.safetensors" and len(result.validations) == 3


def test_without_files_the_result_is_the_same_and_nothing_is_written(inputs, folder):
    with torch.inference_mode():
        kept = TrainingJob(request_of(inputs), files=TrainingFiles("kept", False)).train()
        before = sorted(folder.iterdir())
        free = TrainingJob(request_of(inputs)).train()
    assert free.path is None and sorted(folder.iterdir()) == before
    assert free.losses == kept.losses and free.concept.training == kept.concept.training
    assert torch.equal(free.concept.target_input, kept.concept.target_input)


def test_a_failure_closes_what_was_prepared(inputs):
    def stop(report):
        raise RuntimeError("stop here")

    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="stop here"):
            TrainingJob(request_of(inputs), TrainingHooks(on_step=stop)).train()
        assert torch.is_inference_mode_enabled()
    assert not IN_TRAINING or not comfy.model_management.in_training
    assert not instance_forwards(inputs.model)


def test_a_job_without_files_is_asked_for_the_same_things():
    """All but the report, which only the node saves."""
    public = {name for name in vars(TrainingFiles) if not name.startswith("_")} - {"save_report"}
    assert public == {name for name in vars(NoFiles) if not name.startswith("_")} - {"path"}
    for name in public:
        ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (NoFiles, TrainingFiles))
        assert list(ours) == list(theirs), name


def test_hooks_follow_the_steps(inputs):
    seen = []
    hooks = TrainingHooks(
        lambda report: seen.append(report.step), lambda concept: seen.append(concept.training), preview_every=2
    )
    with torch.inference_mode():
        TrainingJob(request_of(inputs), hooks).train()
    assert [one if isinstance(one, int) else one["steps"] * 10 for one in seen] == [1, 2, 20, 3, 4]  # none at the end


def test_word_and_superclass_are_as_prompts_have_them(inputs):
    request = request_of(inputs)
    assert (request.word, request.superclass) == ("<hugsy>", "a teddy")
    with pytest.raises(PerfusionError, match="word of a concept"):
        request_of(inputs, word="two words")
    with pytest.raises(PerfusionError, match="superclass must be a plain word"):
        request_of(inputs, superclass="  ").check()


def test_where_the_masks_are_from(inputs):
    sources = [
        request_of(inputs, masks=masks, automatic_mask=automatic).mask_source
        for masks in (inputs.masks, None)
        for automatic in (True, False)
    ]
    assert sources == ["given", "given", "attention", "none"]


def test_an_input_that_is_missing_has_the_default_of_the_schema(monkeypatch):
    """Saved workflows and prompts may lack optional inputs; what they get is what the node shows."""
    schema = {one.id: one for one in TrainConcept.GET_SCHEMA().inputs}
    own = {one.name: one for one in fields(TrainerInputs)}
    assert {name for name, one in schema.items() if not one.optional} == {
        name for name, one in own.items() if one.default is MISSING and one.default_factory is MISSING
    }
    for name, one in own.items():
        if one.default is not MISSING:
            assert schema[name].optional and getattr(schema[name], "default", None) == one.default, name
    custom = [name for name in schema if name not in own]
    given = {name: schema[name].default for name in custom}
    required = {name: None for name, one in schema.items() if not one.optional} | {"preset": "Custom", "seed": 0}
    monkeypatch.setattr(trainer_inputs, "text_encoders", lambda clip: {})
    monkeypatch.setattr(trainer_inputs, "model_family", lambda model, encoders: "sd1")
    assert TrainerInputs.of({**required, **given}).settings() == TrainerInputs.of(required).settings()
