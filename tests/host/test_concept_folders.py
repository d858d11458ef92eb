"""Names and links: no file outside the folders of concepts is read as one, named, or written over."""

from __future__ import annotations

import errno
import importlib
import os

import folder_paths
import pytest
import torch

folders = importlib.import_module("perfusion_pack.nodes.host.concept_folders")
concept_module = importlib.import_module("perfusion_pack.perfusion_core.concept")
concept_file = importlib.import_module("perfusion_pack.perfusion_core.concept_file")
PerfusionError = importlib.import_module("perfusion_pack.perfusion_core.errors").PerfusionError


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The folder of saved concepts, registered as the host's only one."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    folder = tmp_path / "output" / "perfusion"
    folder.mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "perfusion", ([str(folder)], {".safetensors"}))
    monkeypatch.delitem(folder_paths.filename_list_cache, "perfusion", raising=False)
    return folder


@pytest.fixture
def concept():
    half, one = torch.ones(4) / 2, {"clip_l": torch.ones(1, 4)}
    return concept_module.Concept(
        "<hugsy>", "bear", "sd1", 4, None, "gated", 0.6, 0.15, "", {}, half, half, half, one, one, {"a": torch.ones(2)}
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../up",
        "a/b",
        "/etc/a",
        "\\\\server\\a",
        "..\\up",
        "C:a",
        "~/../a/b",
        ".hidden",
        "a?",
        "a*",
        "<>",
        "a\nb",
        "a\0b",
        "a\udc80b",
    ],
)
def test_names_that_leave_the_folder_are_refused(output, concept, name):
    with pytest.raises(PerfusionError) as caught:
        folders.save_new_concept(name, concept)
    assert "plain file name" in str(caught.value)
    assert list(output.parent.rglob("*.*")) == []


@pytest.mark.parametrize("name", ["n" * 250, "\u00e9" * 101])
def test_a_name_that_is_too_long_is_refused(output, concept, name):
    with pytest.raises(PerfusionError, match="at most 200 letters"):
        folders.save_new_concept(name, concept)
    assert list(output.iterdir()) == []
    assert folders.save_new_concept("n" * 200, concept).exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_made_is_told_in_one_sentence(output, concept, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    output.rmdir()
    monkeypatch.setattr(type(output), "mkdir", refuse)
    with pytest.raises(PerfusionError) as caught:
        folders.save_new_concept("hugsy", concept)
    assert os.strerror(number) in str(caught.value) and "hugsy.safetensors could not be written" in str(caught.value)


def test_a_name_is_taken_by_the_state_of_a_training_too(output, concept):
    (output / "hugsy.training_state").write_bytes(b"")
    assert folders.save_new_concept("hugsy", concept).name == "hugsy_2.safetensors"
    assert folders.save_new_concept("<hugsy>", concept).name == "hugsy_3.safetensors"


@pytest.mark.parametrize("left", ["hugsy.report.jpg", "hugsy.steps"])
def test_a_name_is_taken_by_whatever_a_training_left(output, concept, left):
    (output / left).write_bytes(b"")
    assert folders.save_new_concept("hugsy", concept).name == "hugsy_2.safetensors"


@pytest.fixture
def models(output, tmp_path, monkeypatch):
    """A folder that the host searches before that of saved concepts."""
    folder = tmp_path / "models" / "perfusion"
    folder.mkdir(parents=True)
    both = [str(folder), str(output)]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "perfusion", (both, {".safetensors"}))
    return folder


def test_a_name_is_taken_by_a_concept_in_any_folder(output, models, concept):
    """The host takes the first folder's file, so that a second one of the name could not be loaded."""
    concept_file.save_concept(models / "rex.safetensors", concept)
    path = folders.save_new_concept("rex", concept)
    assert path == output / "rex_2.safetensors" and folders.concept_path(path.name) == path


def test_of_two_files_of_one_name_it_is_said_which_is_used(output, models, concept):
    name = "rex.safetensors"
    for folder in (output, models):
        assert not folders.hidden_by(output / name, name)
        concept_file.save_concept(folder / name, concept)
    used = folders.concept_path(name)
    assert used == models / name
    assert "of 2 files called rex.safetensors the one in models/perfusion is used" in folders.hidden_by(used, name)
    folder_paths.folder_names_and_paths["perfusion"][0].append(str(models))  # one folder that is named twice
    assert "of 2 files" in folders.hidden_by(used, name)
    (output / name).unlink()
    assert not folders.hidden_by(used, name)


@pytest.mark.parametrize("name", ["../../secret.safetensors", "/etc/passwd", "none.safetensors", "..", ""])
def test_a_name_outside_the_folder_is_not_found(output, concept, name):
    concept_file.save_concept(output.parent.parent / "secret.safetensors", concept)
    with pytest.raises(PerfusionError, match="was not found"):
        folders.concept_path(name)


def test_links(output, concept, tmp_path):
    """A link to something else is refused as what it is; a link is replaced, never written through."""
    outside = tmp_path / "outside.txt"
    outside.write_text("not a concept")
    try:
        (output / "link.safetensors").symlink_to(outside)
        (output / "dangling.safetensors").symlink_to(tmp_path / "new.safetensors")
        (output / "circle.safetensors").symlink_to(output / "circle.safetensors")
    except OSError:
        pytest.skip("this system lets nobody make links")
    with pytest.raises(PerfusionError, match="no safetensors file"):
        concept_file.load_concept(folders.concept_path("link.safetensors"))
    for name in ("dangling.safetensors", "circle.safetensors"):
        with pytest.raises(PerfusionError, match="was not found"):
            folders.concept_path(name)
    for name in ("link", "dangling", "circle"):
        path = folders.save_new_concept(name, concept)
        assert path.parent == output
        assert concept_file.load_concept(path).word == "<hugsy>"
    assert outside.read_text() == "not a concept"
    assert not (tmp_path / "new.safetensors").exists()


def test_the_lora_of_the_demo_is_listed_and_new_ones_go_where_they_went(monkeypatch, tmp_path):
    own = str(tmp_path / "loras")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([own], {".safetensors"}))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "perfusion", ([], {".safetensors"}))
    for name in ("loras", "perfusion"):
        monkeypatch.delitem(folder_paths.filename_list_cache, name, raising=False)
    folders.register_concept_folders()
    first, last = folder_paths.get_folder_paths("loras")
    assert first == own and folder_paths.get_full_path("loras", "demo_evening.safetensors").startswith(last)
    monkeypatch.delitem(folder_paths.filename_list_cache, "loras", raising=False)
