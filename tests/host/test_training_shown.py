"""What the trainer node shows: the line of text, previews while it runs, and the report that is saved at the end."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import folder_paths
import numpy as np
import pytest
import torch
from perfusion_pack.nodes.advice import BIAS_OF_A_STYLE
from perfusion_pack.nodes.host import progress
from perfusion_pack.nodes.host.progress import NodeProgress
from perfusion_pack.nodes.host.text.statistics import cached_statistics
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.measured_memory import memory_in_use
from perfusion_pack.nodes.training_report import TrainingReport, smoothed, under_masks
from perfusion_pack.nodes.training_samples import TrainingSamples
from perfusion_pack.nodes.training_settings import (
    CUSTOM,
    PRESET_TOOLTIP,
    PRESETS,
    training_settings,
    uses_checkpointing,
)
from perfusion_pack.perfusion_core.captions import CAPTIONS_ATTACHMENT, built_in_captions
from perfusion_pack.perfusion_core.concept import RECOMMENDED_BIAS
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.step_choice import Validation, validation_samples
from perfusion_pack.perfusion_core.text_statistics import statistics_from_moment
from perfusion_pack.perfusion_core.training import TrainingSettings
from perfusion_pack.perfusion_core.training_state_file import load_training
from PIL import Image
from tiny_models import WIDTH, CountForwards, instance_forwards, make_concept
from training_inputs import run_node

Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture
def shown(monkeypatch):
    """All that was shown: (done, text, preview)."""
    calls = []
    original = NodeProgress.show

    def show(self, done, text="", preview=None):
        calls.append((done, text, preview))
        return original(self, done, text, preview)

    monkeypatch.setattr(NodeProgress, "show", show)
    return calls


def test_previews_and_text_appear_while_it_runs_and_the_concept_stays_the_same(inputs, folder, shown):
    plain = run_node(inputs, steps=6, preview_every=0, file_name="plain")
    seen = [(done, preview.size) for done, _, preview in shown if preview]
    assert seen[0] == (0, (480, 160)) and [done for done, _ in seen] == [0, 6]  # the pictures, and the report
    shown.clear()
    run_node(inputs, steps=6, preview_every=2, samples=1, file_name="shown")
    previews = [(done, preview.size) for done, _, preview in shown if preview]
    # None after the last step: the report, which comes then, has the samples.
    assert previews[:-1] == [(0, (480, 160)), (2, (128, 64)), (4, (128, 64))] and previews[-1][0] == 6
    texts = [text for _, text, _ in shown if text.startswith("step ")]
    assert len(texts) == 6 and texts[0].startswith("step 1 of 6 · ") and " s left · loss " in texts[0]
    assert texts[-1].startswith("step 6 of 6 · choosing the best step · loss ") and "memory " in texts[-1]
    assert (folder / "plain.safetensors").read_bytes() == (folder / "shown.safetensors").read_bytes()
    assert plain[1]["loss"] and not instance_forwards(inputs.model)


def test_the_report_is_saved_beside_the_concept_and_returned(inputs, folder):
    _, _, report, path = run_node(inputs, steps=3, samples=2, validate_every=1)
    with Image.open(folder / "hugsy.report.jpg") as saved:
        assert saved.size == (report.shape[2], report.shape[1])
        difference = np.asarray(saved.convert("RGB")).astype(float) / 255 - report[0].numpy()
    assert np.abs(difference).mean() < 0.02
    assert path == str(folder / "hugsy.safetensors")
    assert sorted(p.name for p in folder.iterdir()) == ["hugsy.report.jpg", "hugsy.safetensors", "hugsy.training_state"]


@pytest.fixture
def reported(monkeypatch):
    """The reports that were drawn."""
    reports, original = [], TrainingReport.draw
    monkeypatch.setattr(TrainingReport, "draw", lambda self: reports.append(self) or original(self))
    return reports


def test_the_report_says_how_the_text_statistics_were_measured_and_shrunk(inputs, folder, reported, monkeypatch):
    """Those that the trainer measures by itself, over two captions, which cannot fill a matrix of 32 x 32."""
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(folder.parent))
    clip = inputs.clip.clone()
    clip.patcher.set_attachments(CAPTIONS_ATTACHMENT, lambda: built_in_captions(2))
    run_node(inputs, clip=clip, statistics=None, steps=1)
    statistics = cached_statistics(clip, lambda done, total: pytest.fail("they were kept"))
    said = reported[0].settings
    assert said.endswith(f"text statistics: {statistics.summary()}") and "2 captions, 32 x 32" in said
    assert statistics.shrinkage > 0 and f"{statistics.shrinkage:.2%} of it shrunk" in said


def test_the_report_says_that_given_statistics_were_not_shrunk(inputs, folder, reported):
    run_node(inputs, statistics=statistics_from_moment(torch.eye(WIDTH), 500, "encoder"), steps=1)
    assert "text statistics: 500 captions" in reported[0].settings and "not shrunk" in reported[0].settings


@pytest.mark.parametrize(
    "changes, source", [({}, "the masks input"), ({"masks": None}, "automatic"), ({"automatic_mask": False}, "")]
)
def test_the_report_shows_the_masks_that_were_used_and_where_they_are_from(
    inputs, folder, reported, monkeypatch, changes, source
):
    results, original = [], TrainingJob.train
    monkeypatch.setattr(TrainingJob, "train", lambda job: results.append(original(job)) or results[0])
    run_node(inputs, **({"masks": None} if source == "" else {}), **changes, steps=1)
    (report,), masks = reported, results[0].masks
    assert report.mask_source == source
    if not source:
        assert masks is None and not report.masked
        return
    expected = under_masks(inputs.images, masks)
    assert [picture.tobytes() for picture in report.masked] == [picture.tobytes() for picture in expected]
    used = load_concept(folder / "hugsy.safetensors").training["masks"]
    assert used == ("attention" if source == "automatic" else "given")


def test_previews_of_one_concept_are_equal_pictures(inputs):
    """So what differs between two of them is what was learned in between."""
    concept = make_concept(inputs.model, inputs.clip, training={"steps": 5})

    def preview(concept, seed):
        with torch.inference_mode():
            return TrainingSamples(inputs.model, inputs.clip, inputs.vae, (4, 8, 8), seed, cfg=3.0).preview(concept)

    first, again = preview(concept, 3), preview(concept, 3)
    assert torch.equal(first, again) and first.shape == (2, 64, 64, 3)
    assert not torch.equal(first, preview(concept, 4))
    learned = replace(concept, value_targets={name: 2 * value for name, value in concept.value_targets.items()})
    assert not torch.equal(first, preview(learned, 3))


def test_a_preview_that_fails_does_not_stop_the_training(inputs, folder, monkeypatch, caplog):
    def broken(self, concept):
        raise RuntimeError("no memory for a preview")

    monkeypatch.setattr(TrainingSamples, "preview", broken)
    losses = run_node(inputs, steps=3, preview_every=1)[1]["loss"]
    assert len(losses) == 3 and "preview at step 1 failed" in caplog.text


def test_cancel_in_a_preview_stops_and_keeps_the_work(inputs, folder, monkeypatch):
    def cancelled(self, concept):
        raise Interrupted

    monkeypatch.setattr(TrainingSamples, "preview", cancelled)
    with pytest.raises(Interrupted):
        run_node(inputs, steps=5, preview_every=3)
    assert load_training(folder / "hugsy.training_state").state.step == 3
    assert not (folder / "hugsy.report.jpg").exists() and not instance_forwards(inputs.model)


def test_after_a_preview_the_models_are_made_ready_again(inputs, folder, monkeypatch):
    """The host may have moved weights in inference mode, and encodes with options of its own."""
    loads, original = [], HostDenoisingTask.load

    def load(self):
        loads.append(1)
        original(self)
        modules = (self.model.model, self.clip.cond_stage_model)
        assert not any(parameter.is_inference() for module in modules for parameter in module.parameters())

    def spoil(self, concept):
        weight = self.model.model.diffusion_model.out[2].weight
        with torch.inference_mode():
            self.model.model.diffusion_model.out[2].weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
        return torch.zeros(1, 8, 8, 3)

    monkeypatch.setattr(HostDenoisingTask, "load", load)
    monkeypatch.setattr(TrainingSamples, "preview", spoil)
    run_node(inputs, steps=3, preview_every=1)
    assert len(loads) == 3


def test_cancel_is_seen_where_the_bar_has_nothing_to_send(monkeypatch):
    class Pressed(BaseException):
        pass

    def pressed():
        raise Pressed

    monkeypatch.setattr(progress.comfy.model_management, "throw_exception_if_processing_interrupted", pressed)
    with pytest.raises(Pressed):
        NodeProgress(10, None).show(1)


def test_memory_is_said_in_words():
    assert memory_in_use().startswith("memory ") and memory_in_use().endswith(" GB")


def test_a_report_shows_masks_validations_and_the_chosen_step():
    pictures = [Image.new("RGB", (64, 48), "red")] * 3
    few = TrainingReport("title", "settings", pictures, [0.5])
    small = few.draw()
    full = TrainingReport(
        "title", "settings " * 60, pictures, [1.0, 0.5, 0.4, 0.3], masked=pictures, mask_source="automatic",
        validations=[Validation(0, 0.9), Validation(2, 0.5), Validation(4, 0.6)], chosen_step=2,
        samples=[[("step 2: a photo", pictures[0])], [(f"a {i}", pictures[0]) for i in range(9)]],
    ).draw()  # fmt: skip
    assert small.width <= full.width and full.height > small.height + 4 * 160
    assert (200, 60, 40) in {colour for _, colour in full.getcolors(1 << 24)}  # the mark of the chosen step
    assert (200, 60, 40) not in {colour for _, colour in small.getcolors(1 << 24)}


def test_under_masks_darkens_what_did_not_count():
    masks = torch.zeros(1, 1, 2, 2)
    masks[..., 0, 0] = 1.0
    drawn = np.asarray(under_masks(torch.ones(1, 64, 64, 3), masks)[0])
    assert drawn[0, 0, 0] == 255 and drawn[63, 63, 0] == round(0.15 * 255)


def test_smoothing_is_a_running_mean():
    assert smoothed([1.0, 3.0]) == ([1.0, 3.0], 1)
    mean, window = smoothed([float(i) for i in range(30)])
    assert window == 2 and mean[:3] == [0.0, 0.5, 1.5]


@pytest.mark.parametrize("preset", PRESETS)
def test_validations_take_at_most_a_twentieth_of_a_training(preset):
    """In samples; one without gradients takes .61 of one with them on the demo model."""
    settings = training_settings(preset, seed=0, flip=True, validate_every=25, custom={})
    of_a_step = settings.batch_size * settings.accumulation
    validated = (1 + settings.steps // settings.validate_every) * validation_samples(of_a_step)
    assert 0.61 * validated <= 0.05 * settings.steps * of_a_step


def preset(name):
    return training_settings(name, seed=0, flip=True, validate_every=25, custom={})


def test_presets_that_saved_workflows_hold_stay():
    assert {"Quick", "Standard", "Quality", "Paper", "Low memory", "Style"} <= set(PRESETS) and CUSTOM == "Custom"
    assert all(name in PRESET_TOOLTIP for name in [*PRESETS, CUSTOM])


def test_presets_differ_from_standard_in_what_they_are_for():
    usual = preset("Standard")
    assert replace(preset("Quality"), steps=usual.steps) == usual and preset("Quality").steps == 2 * usual.steps
    low = preset("Low memory")  # one picture at a time whatever is free
    assert low.batch_size == 1 and low.accumulation == usual.batch_size and low.steps == usual.steps
    assert [name for name in PRESETS if uses_checkpointing(name)] == ["Low memory"]
    assert uses_checkpointing("Standard", asked_for=True) and not uses_checkpointing(CUSTOM)


@pytest.mark.parametrize("name", [*PRESETS, CUSTOM])
def test_the_node_trains_with_what_the_preset_says(inputs, folder, monkeypatch, name):
    """All inputs of Custom are there whatever the preset is, and only Custom takes them."""
    asked = []

    def note(job):
        asked.append(job.request)
        raise Interrupted

    monkeypatch.setattr(TrainingJob, "train", note)
    with pytest.raises(Interrupted):
        run_node(inputs, preset=name, steps=7, batch_size=3)
    of_family = training_settings(name, 0, True, 25, {}, asked[0].family)
    expected = replace(TrainingSettings(), steps=7, batch_size=3) if name == CUSTOM else of_family
    assert asked[0].settings == expected
    assert asked[0].gradient_checkpointing == (name == "Low memory")
    assert asked[0].automatic_mask == (name != "Style")
    assert asked[0].bias_in_use == (BIAS_OF_A_STYLE if name == "Style" else None)


def test_a_style_recommends_a_bias_of_its_own(inputs, folder, monkeypatch):
    for name in ("Quick", "Style"):
        monkeypatch.setitem(PRESETS, name, {**PRESETS[name], "steps": 2, "batch_size": 1})
        run_node(inputs, preset=name, validate_every=0, file_name=name)
    recommended = [load_concept(folder / f"{name}.safetensors").bias for name in ("Quick", "Style")]
    assert recommended == [RECOMMENDED_BIAS, BIAS_OF_A_STYLE] and recommended[0] != recommended[1]


def test_low_memory_trains_through_the_node(inputs, folder, monkeypatch):
    monkeypatch.setitem(PRESETS, "Low memory", {**PRESETS["Low memory"], "steps": 2})
    with CountForwards(inputs.model) as count:
        run_node(inputs, preset="Low memory", validate_every=0)
    assert len(load_concept(folder / "hugsy.safetensors").value_targets) == 7 and count.batches[:16] == [1] * 16
