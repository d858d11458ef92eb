"""Concepts of single steps: kept while a training runs, pruned by one rule, and loaded as a list to be compared."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import folder_paths
import pytest
import torch
from perfusion_pack.nodes.host.concept_folders import concept_names, concept_path
from perfusion_pack.nodes.host.kept_steps import kept_steps, step_path
from perfusion_pack.nodes.host.progress import Interrupted
from perfusion_pack.nodes.host.training import files as training_files
from perfusion_pack.nodes.load_kept_steps import KeptSteps, read_steps
from perfusion_pack.nodes.training_samples import FINAL_STEPS, PREVIEW_STEPS, STRIP, TrainingSamples
from perfusion_pack.nodes.training_settings import PRESETS, training_settings
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from training_inputs import run_node, stop_training

EVERY_TWO = {"steps": 6, "keep_every": 2}


def steps_of(folder, name="hugsy") -> list[int]:
    return [kept.step for kept in kept_steps(folder / f"{name}.safetensors")]


def load(**inputs) -> tuple[list, list[str]]:
    """Concepts and labels, as the host runs the node."""
    node = KeptSteps.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    output = node.execute(**inputs)
    output = asyncio.run(output) if asyncio.iscoroutine(output) else output
    stacks, labels = output.result
    assert all(len(stack) == 1 for stack in stacks)
    return [stack[0].concept for stack in stacks], labels


def test_a_training_keeps_what_a_shorter_one_would_have_given(inputs, folder):
    run_node(inputs, **EVERY_TWO, validate_every=0)
    assert steps_of(folder) == [2, 4, 6]
    run_node(inputs, steps=4, keep_every=0, validate_every=0, file_name="four")
    assert not (folder / "four.steps").exists()
    kept, four = load_concept(step_path(folder / "hugsy.safetensors", 4)), load_concept(folder / "four.safetensors")
    assert all(torch.equal(value, four.value_targets[name]) for name, value in kept.value_targets.items())
    assert kept.training["steps"] == kept.training["chosen_step"] == 4 and kept.picture is not None


def test_keeping_changes_no_concept(inputs, folder):
    run_node(inputs, **EVERY_TWO)
    run_node(inputs, steps=6, keep_every=0, file_name="plain")
    assert (folder / "hugsy.safetensors").read_bytes() == (folder / "plain.safetensors").read_bytes()


def test_cancel_and_resume_keep_the_same_steps(inputs, folder, press_cancel):
    """Cancel comes when step 4 is shown, at which a concept is kept."""
    press_cancel(None)
    run_node(inputs, **EVERY_TWO, file_name="straight")
    press_cancel(4)
    with pytest.raises(Interrupted):
        run_node(inputs, **EVERY_TWO)
    assert steps_of(folder) == [2, 4]
    press_cancel(None)
    run_node(inputs, **EVERY_TWO, resume=True)
    assert steps_of(folder) == [2, 4, 6]
    for mine, straight in zip(*(kept_steps(folder / f"{n}.safetensors") for n in ("hugsy", "straight")), strict=True):
        assert mine.path.read_bytes() == straight.path.read_bytes()


def test_a_step_that_a_kill_came_before_is_kept_when_the_training_goes_on(inputs, folder, press_cancel):
    press_cancel(4)
    with pytest.raises(Interrupted):
        run_node(inputs, **EVERY_TWO)
    step_path(folder / "hugsy.safetensors", 4).unlink()  # the state is written first
    press_cancel(None)
    run_node(inputs, **EVERY_TWO, resume=True)
    assert steps_of(folder) == [2, 4, 6]


def test_kept_steps_live_as_long_as_the_state(inputs, folder, press_cancel):
    """Of the last finished trainings, and of those that are not finished; a file of the user's stays in any case."""
    stop_training(inputs, press_cancel, **EVERY_TWO, file_name="stopped")
    names = [f"t{number}" for number in range(training_files.KEPT_FINISHED + 2)]
    for name in names:
        run_node(inputs, steps=2, keep_every=2, file_name=name)
        if name == names[0]:
            (folder / "t0.steps" / "notes.txt").write_text("step 2 is best")
    kept = names[-training_files.KEPT_FINISHED :]
    assert [name for name in [*names, "stopped"] if steps_of(folder, name)] == [*kept, "stopped"]
    assert {path.name for path in folder.glob("*.steps")} == {f"{name}.steps" for name in [*kept, "stopped", "t0"]}
    assert [path.name for path in (folder / "t0.steps").iterdir()] == ["notes.txt"]


def test_a_new_training_neither_takes_old_steps_nor_deletes_them(inputs, folder):
    run_node(inputs, **EVERY_TWO)
    run_node(inputs, steps=2, keep_every=0)  # under a name of its own
    assert steps_of(folder) == [2, 4, 6] and not steps_of(folder, "hugsy_2")
    for ending in ("safetensors", "training_state", "report.jpg"):
        (folder / f"hugsy.{ending}").unlink()
    run_node(inputs, steps=2, keep_every=2)
    assert steps_of(folder) == [2, 4, 6] and steps_of(folder, "hugsy_3") == [2]


def test_a_disk_that_takes_no_more_stops_no_training(inputs, folder, monkeypatch, caplog):
    original = training_files.save_concept

    def full(path, *args, **more):
        if path.parent.suffix == ".steps":
            raise PerfusionError("no space left")
        return original(path, *args, **more)

    monkeypatch.setattr(training_files, "save_concept", full)
    with caplog.at_level(logging.WARNING):
        run_node(inputs, **EVERY_TWO)
    assert load_concept(folder / "hugsy.safetensors").training["steps"] == 6
    assert "Step 2 was not kept" in caplog.text


def test_the_loader_lists_no_kept_steps_but_finds_them(inputs, folder, monkeypatch):
    run_node(inputs, **EVERY_TWO)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "perfusion", ([str(folder)], {".safetensors"}))
    monkeypatch.delitem(folder_paths.filename_list_cache, "perfusion", raising=False)
    assert len(folder_paths.get_filename_list("perfusion")) == 4 and concept_names() == ["hugsy.safetensors"]
    assert load_concept(concept_path("hugsy.steps/hugsy_step_2.safetensors")).training["steps"] == 2
    folder_paths.filename_list_cache.pop("perfusion", None)


def test_the_node_gives_each_step_and_the_saved_one(inputs, folder):
    run_node(inputs, steps=6, keep_every=4, validate_every=0)
    concepts, labels = load()
    assert labels == ["step 4", "step 6 (saved)"]
    assert [concept.training["steps"] for concept in concepts] == [4, 6]
    path = run_node(inputs, steps=4, keep_every=2, validate_every=0, file_name="other")[3]
    assert load()[1] == load(training="other")[1] == ["step 2", "step 4 (saved)"]
    assert load(training="hugsy", path=path)[1] == ["step 2", "step 4 (saved)"]
    assert load(training="hugsy", steps="6, 4")[1] == labels and load(training="hugsy", steps="4")[1] == ["step 4"]
    (folder / "hugsy.safetensors").unlink()
    assert load(training="hugsy")[1] == ["step 4"]


def test_a_file_from_elsewhere_in_the_place_of_the_saved_one_is_left_out(inputs, folder):
    path = run_node(inputs, steps=4, keep_every=2, validate_every=0)[3]
    save_concept(path, dataclasses.replace(load_concept(path), training={}))
    assert load()[1] == ["step 2", "step 4"]


def test_the_node_runs_again_where_steps_were_kept_anew(inputs, folder):
    before = KeptSteps.fingerprint_inputs(training="(last training)")
    run_node(inputs, steps=2, keep_every=2)
    after = KeptSteps.fingerprint_inputs(training="(last training)")
    assert before == [] and len(after) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"training": "cat"}, "'cat' has no kept steps in .*, where hugsy has; choose"),
        ({"training": "../perfusion/hugsy"}, "has no kept steps"),
        ({"path": "/elsewhere/hugsy.safetensors"}, "has no kept steps"),
        ({"steps": "5"}, "asks for 5, but of hugsy there are 2, 4, 6;"),
        ({"steps": "-2"}, "expected steps of the training, but found '-2'"),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(inputs, folder, asked, said):
    run_node(inputs, **EVERY_TWO)
    with pytest.raises(PerfusionError, match=said) as caught:
        load(**asked)
    assert "\n" not in str(caught.value)


def test_without_any_kept_steps_the_trainer_is_named(folder):
    with pytest.raises(PerfusionError, match="No kept steps were found.*keep_every above 0"):
        load()


def test_texts_that_are_no_steps_are_refused_before_anything_runs():
    assert read_steps("50; 100,150\n") == [50, 100, 150] and read_steps(" ") == []
    assert KeptSteps.validate_inputs(training="gone", steps="50") is True is KeptSteps.validate_inputs()
    assert "The input steps expected" in KeptSteps.validate_inputs(steps="half")


def test_the_report_has_a_strip_of_the_kept_steps(inputs, folder, monkeypatch):
    """One picture of one scene and seed for each, the last one too; and none where no samples are wanted."""
    rows, final = [], TrainingSamples.final
    monkeypatch.setattr(TrainingSamples, "final", lambda self, *args: final(self, *args) or rows.append(self.rows))
    run_node(inputs, **EVERY_TWO, samples=1, preview_every=0)
    strip, samples = rows[0]
    assert [caption for caption, _ in strip] == [f"step {step}, kept: a <hugsy> on the beach" for step in (2, 4, 6)]
    assert [caption for caption, _ in samples] == ["a photo of a <hugsy>"]
    run_node(inputs, **EVERY_TWO, samples=0, preview_every=0)
    assert rows[1] == []


def test_the_strip_is_bounded_and_ends_with_the_last_step(inputs, folder, monkeypatch):
    run_node(inputs, steps=2 * STRIP + 3, keep_every=1, preview_every=0)
    painted = []
    monkeypatch.setattr(
        "perfusion_pack.nodes.training_samples.sample_pictures",
        lambda model, clip, vae, prompts, shape, seed, steps, cfg: (
            painted.append((prompts, seed, steps)) or torch.zeros(1, 8, 8, 3)
        ),
    )
    samples = TrainingSamples(inputs.model, inputs.clip, inputs.vae, (4, 8, 8), 5, 3.0)
    samples.strip(kept_steps(folder / "hugsy.safetensors"))
    (row,) = samples.rows
    steps = [int(caption.split()[1].rstrip(",")) for caption, _ in row]
    assert len(steps) == STRIP and steps == sorted(set(steps)) and steps[-1] == 2 * STRIP + 3
    assert painted == [(["a <hugsy> on the beach"], 6, PREVIEW_STEPS)] * STRIP


@pytest.mark.parametrize("preset", PRESETS)
def test_the_strip_is_cheap(preset):
    """In forward passes of one picture, of which a backward pass costs two: a few per cent of the training."""
    settings = training_settings(preset, 0, True, 25, {})
    from perfusion_pack.nodes.advice import KEEP_EVERY

    trained = 3 * settings.steps * settings.batch_size * settings.accumulation
    painted = 2 * PREVIEW_STEPS * min(STRIP, settings.steps // KEEP_EVERY)
    assert painted < 0.03 * trained and PREVIEW_STEPS < FINAL_STEPS
