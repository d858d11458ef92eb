"""What the trainer node leaves on disk and in the host's models: after its end, Cancel, an error, too little memory."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
from pathlib import Path

import folder_paths
import pytest
import torch
from perfusion_pack.nodes.host.concept_folders import concept_names, register_concept_folders
from perfusion_pack.nodes.host.progress import Interrupted, NodeProgress
from perfusion_pack.nodes.host.training import concept_effect
from perfusion_pack.nodes.host.training import files as training_files
from perfusion_pack.nodes.host.training.concept_effect import check_effect
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.perfusion_core import tensor_file, training_run
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training import TrainingSettings
from perfusion_pack.perfusion_core.training_state_file import load_training
from tiny_models import encode, instance_forwards, sample, tiny_model
from training_inputs import TRIES, run_node, stop_training


def files(folder: Path) -> list[str]:
    """All but the reports, which only a finished training has."""
    return sorted(path.name for path in folder.glob("*") if not path.name.endswith(".report.jpg"))


def weights_hash(inputs) -> str:
    """Hash of every parameter and buffer of MODEL, CLIP and VAE."""
    digest = hashlib.sha256()
    for module in (inputs.model.model, inputs.clip.cond_stage_model, inputs.vae.first_stage_model):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("validate_every", [25, 8])
def test_forty_steps_are_twenty_cancel_and_twenty_more(inputs, folder, press_cancel, validate_every):
    press_cancel(None)
    forty = {"steps": 40, "validate_every": validate_every}
    straight = run_node(inputs, **forty, file_name="straight")
    press_cancel(20)
    with pytest.raises(Interrupted):
        run_node(inputs, **forty)
    assert files(folder) == [f"{n}.{e}" for n in ("hugsy", "straight") for e in ("safetensors", "training_state")]
    partial = load_concept(folder / "hugsy.safetensors")
    assert partial.training["steps"] == 20 and partial.picture is not None
    assert load_training(folder / "hugsy.training_state").state.step == 20

    press_cancel(None)
    resumed = run_node(inputs, **forty, resume=True)
    assert resumed[3] == str(folder / "hugsy.safetensors") and len(files(folder)) == 4
    assert (folder / "hugsy.safetensors").read_bytes() == (folder / "straight.safetensors").read_bytes()
    assert resumed[1] == straight[1]
    one, other = (load_training(folder / f"{name}.training_state") for name in ("hugsy", "straight"))
    assert one.state.validations == other.state.validations and len(one.state.validations) == 1 + 40 // validate_every
    assert one.finished and all(torch.equal(t, other.state.tensors[n]) for n, t in one.state.tensors.items())


def test_a_partial_concept_is_listed_and_its_state_is_not(inputs, folder, press_cancel, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "perfusion", ([], {".safetensors"}))
    register_concept_folders()
    press_cancel(2)
    with pytest.raises(Interrupted):
        run_node(inputs, file_name="listed")
    monkeypatch.delitem(folder_paths.filename_list_cache, "perfusion", raising=False)
    assert "listed.safetensors" in concept_names()
    assert not any("training_state" in name for name in concept_names())
    folder_paths.filename_list_cache.pop("perfusion", None)


def test_cancel_inside_a_step_keeps_the_steps_before(inputs, folder, press_cancel, monkeypatch):
    """The host raises from inside the model too."""
    press_cancel(None)
    run_node(inputs, steps=6, file_name="straight")
    original, calls = HostDenoisingTask.loss, []

    def loss(self, *args):
        calls.append(1)
        result = original(self, *args)
        if len(calls) == TRIES + 2 + 4:  # two were the validation of step 0
            raise Interrupted
        return result

    monkeypatch.setattr(HostDenoisingTask, "loss", loss)
    with pytest.raises(Interrupted):
        run_node(inputs, steps=6)
    assert load_training(folder / "hugsy.training_state").state.step == 3
    run_node(inputs, steps=6, resume=True)
    assert (folder / "hugsy.safetensors").read_bytes() == (folder / "straight.safetensors").read_bytes()


def test_cancel_before_the_first_step_leaves_nothing(inputs, folder, press_cancel, monkeypatch):
    def stopped(*_):
        raise Interrupted

    monkeypatch.setattr(HostDenoisingTask, "loss", stopped)
    with pytest.raises(Interrupted):
        run_node(inputs)
    assert files(folder) == []


def test_other_inputs_are_named_and_nothing_is_lost(inputs, folder, press_cancel):
    stop_training(inputs, press_cancel)
    kept = (folder / "hugsy.training_state").read_bytes()
    other = inputs._replace(images=inputs.images.flip(0), masks=inputs.masks * 0.5)
    for changed, changes, said in (
        (other, {}, "another pictures, masks;"),
        (inputs, {"seed": 3, "superclass": "dog"}, "another superclass, seed;"),
        (inputs, {"value_learning_rate": 0.05}, "another value_learning_rate;"),
    ):
        with pytest.raises(PerfusionError, match=said + ".*step 2, or turn resume off") as caught:
            run_node(changed, resume=True, **changes)
        assert "\n" not in str(caught.value)
    with torch.inference_mode():
        model = tiny_model(seed=9)
    with pytest.raises(PerfusionError, match="another model;"):
        run_node(inputs._replace(model=model), resume=True)
    assert (folder / "hugsy.training_state").read_bytes() == kept
    run_node(inputs, seed=3)  # with resume off it starts anew, beside the old one
    assert (folder / "hugsy.training_state").read_bytes() == kept
    assert "hugsy_2.safetensors" in files(folder)
    # What stopped last under this name is finished, so other inputs are simply another training.
    run_node(inputs, seed=4, resume=True)
    assert "hugsy_3.safetensors" in files(folder)
    # And the old one still goes on where its inputs come back.
    run_node(inputs, resume=True)
    assert load_training(folder / "hugsy.training_state").finished


def test_a_finished_training_goes_on_with_more_steps_in_a_file_of_its_own(inputs, folder):
    run_node(inputs, steps=4)
    finished = (folder / "hugsy.safetensors").read_bytes()
    again = run_node(inputs, steps=4, resume=True)
    assert again[3] == str(folder / "hugsy.safetensors") and len(files(folder)) == 2
    longer = run_node(inputs, steps=6, resume=True)
    assert longer[3] == str(folder / "hugsy_2.safetensors") and len(longer[1]["loss"]) == 6
    assert (folder / "hugsy.safetensors").read_bytes() == finished
    run_node(inputs, steps=6, file_name="straight")
    assert (folder / "hugsy_2.safetensors").read_bytes() == (folder / "straight.safetensors").read_bytes()


def test_a_finished_training_is_not_what_was_asked_with_fewer_steps(inputs, folder):
    run_node(inputs, steps=4)
    fewer = run_node(inputs, steps=2, resume=True)
    assert fewer[3] == str(folder / "hugsy_2.safetensors") and len(fewer[1]["loss"]) == 2


def test_a_damaged_state_is_refused_in_one_sentence(inputs, folder, press_cancel):
    stop_training(inputs, press_cancel)
    state = folder / "hugsy.training_state"
    state.write_bytes(state.read_bytes()[:-40])
    with pytest.raises(PerfusionError, match="hugsy.training_state") as caught:
        run_node(inputs, resume=True)
    assert "numbers and the file has" in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith("; turn resume off to start anew in another file.")  # which is what helps
    assert run_node(inputs)[3] == str(folder / "hugsy_2.safetensors")


def test_an_unfinished_training_of_another_name_is_no_obstacle(inputs, folder, press_cancel):
    """<cat_2> is not the second file of <cat>, though its file is called so; and the other way round."""
    stop_training(inputs, press_cancel, word="<cat_2>")
    assert run_node(inputs, word="<cat>", resume=True)[3] == str(folder / "cat.safetensors")
    assert load_training(folder / "cat_2.training_state").state.step == 2

    press_cancel(2)
    for _ in range(2):
        with pytest.raises(Interrupted):
            run_node(inputs, word="<dog>")
    press_cancel(None)
    assert run_node(inputs, word="<dog_2>", resume=True)[3] == str(folder / "dog_2_2.safetensors")
    # The second one of a name is still found, by the name of its file too.
    assert run_node(inputs, word="<dog>", file_name="dog_2", resume=True)[3] == str(folder / "dog_2.safetensors")
    assert run_node(inputs, word="<cat_2>", resume=True)[3] == str(folder / "cat_2.safetensors")


def test_a_bad_file_name_is_refused_before_the_training(inputs, folder, monkeypatch):
    monkeypatch.setattr(HostDenoisingTask, "loss", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(PerfusionError, match="plain file name"):
        run_node(inputs, file_name="../elsewhere")


def test_a_name_that_is_too_long_is_refused_before_the_training(inputs, folder, monkeypatch):
    monkeypatch.setattr(HostDenoisingTask, "loss", lambda *_: pytest.fail("a step was made"))
    for names in ({"file_name": "n" * 250}, {"word": f"<{'n' * 250}>"}):
        with pytest.raises(PerfusionError, match="at most 200 (letters|signs) long") as caught:
            run_node(inputs, **names)
        assert len(str(caught.value)) < 300
    assert files(folder) == []


def refuse_to_write(monkeypatch, number):
    """What a full disk and one that is read only do: the first lets files be made and not be filled."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tensor_file.os, "fsync", refuse)
    if number == errno.EROFS:
        monkeypatch.setattr(Path, "mkdir", refuse)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_folder_that_takes_nothing_is_found_before_the_training(inputs, folder, monkeypatch, number):
    refuse_to_write(monkeypatch, number)
    monkeypatch.setattr(TrainingJob, "prepare", lambda *_: pytest.fail("the training began"))
    with pytest.raises(PerfusionError) as caught:
        run_node(inputs)
    sentence = str(caught.value)
    assert str(folder) in sentence and os.strerror(number) in sentence and "\n" not in sentence
    assert "free some space" in sentence and files(folder) == []


@pytest.mark.parametrize("error", [RuntimeError("injected"), Interrupted(), None])
def test_the_models_stay_bit_identical_and_sample_as_before(inputs, folder, monkeypatch, error):
    """After its end, after Cancel, and after an error from the depth of a step."""
    with torch.inference_mode():
        prompts = [encode(inputs.clip, text) for text in ("a photo of a teddy", "")]
        pictures = sample(inputs.model, *prompts)
    before, original, calls = weights_hash(inputs), HostDenoisingTask.denoise, []

    def denoise(self, *args):
        calls.append(1)
        result = original(self, *args)
        if error is not None and len(calls) == TRIES + 2 + 3:  # two were the validation of step 0
            raise error
        return result

    monkeypatch.setattr(HostDenoisingTask, "denoise", denoise)
    if error is None:
        run_node(inputs)
    else:
        with pytest.raises(type(error)):
            run_node(inputs)
        assert load_training(folder / "hugsy.training_state").state.step == 2
    assert weights_hash(inputs) == before
    modules = [*inputs.model.model.modules(), *inputs.clip.cond_stage_model.modules()]
    assert not instance_forwards(inputs.model) and not any(module._forward_pre_hooks for module in modules)
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())
    with torch.inference_mode():
        assert all(
            torch.equal(encode(inputs.clip, text)[0][0], prompt[0][0])
            for text, prompt in zip(("a photo of a teddy", ""), prompts, strict=True)
        )
        assert torch.equal(sample(inputs.model, *prompts), pictures)


def test_numbers_that_are_not_finite_stop_with_the_last_good_state(inputs, folder, monkeypatch):
    original, calls = HostDenoisingTask.loss, []

    def loss(self, *args):
        calls.append(1)
        return original(self, *args) * (float("nan") if len(calls) == TRIES + 2 + 3 else 1.0)

    monkeypatch.setattr(HostDenoisingTask, "loss", loss)
    with pytest.raises(PerfusionError, match=r"nan at step 3.*2 steps are kept in .*hugsy\.safetensors") as caught:
        run_node(inputs)
    assert "\n" not in str(caught.value)
    assert load_training(folder / "hugsy.training_state").state.step == 2
    assert load_concept(folder / "hugsy.safetensors").training["steps"] == 2


@pytest.mark.parametrize("room", [2, 1, 0])
def test_out_of_memory_halves_the_micro_batch_down_to_one(inputs, folder, monkeypatch, room):
    original, sizes = HostDenoisingTask.denoise, []

    def denoise(self, noisy, *args):
        if len(noisy) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        sizes.append(len(noisy))
        return original(self, noisy, *args)

    monkeypatch.setattr(HostDenoisingTask, "denoise", denoise)
    if room == 0:
        with pytest.raises(PerfusionError, match="single picture at a time.*smaller pictures"):
            run_node(inputs, batch_size=4, steps=2)
        assert files(folder) == []
        return
    run_node(inputs, batch_size=4, steps=2)
    assert sizes == [1] * TRIES + [room] * (2 * 4 // room)
    assert load_training(folder / "hugsy.training_state").state.micro_batch == room


def test_work_is_kept_while_the_training_runs(inputs, folder, press_cancel, monkeypatch):
    monkeypatch.setattr(training_run.train, "__defaults__", (*training_run.train.__defaults__[:-1], 2))
    seen = []
    original = NodeProgress.show

    def show(self, done, text="", preview=None):
        if text.startswith("step "):
            seen.append(load_concept(folder / "hugsy.safetensors").training["steps"] if files(folder) else 0)
        return original(self, done, text, preview)

    monkeypatch.setattr(NodeProgress, "show", show)
    run_node(inputs, steps=5)
    assert seen == [0, 2, 2, 4, 4]


def test_a_concept_that_learned_nothing_is_an_error(inputs, folder):
    """With a rate that the node itself would refuse."""
    settings = TrainingSettings(steps=2, batch_size=2, value_learning_rate=1e-12, word_learning_rate=0.0)
    request = TrainingRequest(**inputs._asdict(), word="<hugsy>", superclass="teddy", settings=settings)
    job = TrainingJob(request, files=training_files.TrainingFiles("hugsy", False))
    with (
        torch.inference_mode(),
        pytest.raises(PerfusionError, match="learned nothing.*raise relative_value_rate or steps in the preset Custom"),
    ):
        job.train()


def test_a_concept_that_changes_nothing_is_an_error(inputs, folder, monkeypatch):
    monkeypatch.setattr(concept_effect, "apply_concepts", lambda model, stack: model)
    monkeypatch.setattr(concept_effect, "add_words", lambda clip, stack: clip)
    monkeypatch.setattr(concept_effect, "PROMPT", "a photo")
    with pytest.raises(PerfusionError, match="changes the model's prediction by 0.0e"):
        run_node(inputs, steps=2)


def test_a_file_that_does_not_read_back_is_an_error(inputs, folder, monkeypatch):
    def damaged(path, concept, **how):
        save_concept(path, dataclasses.replace(concept, bias=0.1), **how)

    monkeypatch.setattr(training_files, "save_concept", damaged)
    with pytest.raises(PerfusionError, match="read back it holds another bias"):
        run_node(inputs, steps=2)


def test_the_effect_grows_with_the_training(inputs, folder):
    few, many = (run_node(inputs, steps=steps, file_name=f"s{steps}")[0][0].concept for steps in (1, 12))
    shape = (4, 8, 8)
    assert (
        check_effect(inputs.model, inputs.clip, many, shape) > check_effect(inputs.model, inputs.clip, few, shape) > 0
    )


def test_of_finished_trainings_the_newest_keep_their_state(inputs, folder, press_cancel):
    """Concepts, reports and whatever is not finished stay; a newest one is gone on with as before."""
    stop_training(inputs, press_cancel, file_name="stopped")
    (folder / "damaged.training_state").write_bytes(b"no state")
    names = [f"t{number}" for number in range(training_files.KEPT_FINISHED + 2)]
    for name in names:
        run_node(inputs, steps=2, file_name=name)
    kept = names[-training_files.KEPT_FINISHED :]
    assert {path.stem for path in folder.glob("*.training_state")} == {*kept, "stopped", "damaged"}
    assert {path.stem for path in folder.glob("*.safetensors")} == {*names, "stopped"}
    assert len(list(folder.glob("*.report.jpg"))) == len(names)
    assert not load_training(folder / "stopped.training_state").finished
    longer = run_node(inputs, steps=3, file_name=kept[0], resume=True)
    assert longer[3] == str(folder / f"{kept[0]}_2.safetensors") and len(longer[1]["loss"]) == 3
    # A name whose state is gone is still taken, and resume begins anew beside it.
    again = run_node(inputs, steps=2, file_name=names[0], resume=True)
    assert again[3] == str(folder / f"{names[0]}_2.safetensors")


def test_a_state_that_cannot_be_deleted_stops_no_training(inputs, folder, monkeypatch):
    for number in range(training_files.KEPT_FINISHED):
        run_node(inputs, steps=2, file_name=f"t{number}")

    def refused(*_args, **_more):
        raise PermissionError("read-only")

    monkeypatch.setattr(training_files.Path, "unlink", refused)
    training_files.forget_old_states(folder / "t9.training_state")
    assert len(list(folder.glob("*.training_state"))) == training_files.KEPT_FINISHED
