"""What the host asks of Load Perfusion Concept before it runs a prompt: no file that is none gets any further."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import folder_paths
import pytest
import torch
from perfusion_pack.nodes.blend_concepts import BlendConcepts
from perfusion_pack.nodes.host.concept_folders import register_concept_folders
from perfusion_pack.nodes.load_concept import LoadConcept
from perfusion_pack.perfusion_core.concept_file import VERSION, save_concept
from safetensors.torch import load, save


@pytest.fixture
def good(folder: Path, monkeypatch, hugsy) -> Path:
    """A whole concept file in the list of the loader."""
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    folder_paths.folder_names_and_paths.pop("perfusion", None)
    register_concept_folders()
    save_concept(folder / "hugsy.safetensors", hugsy)
    return folder / "hugsy.safetensors"


def of_version(content: bytes, version: int) -> bytes:
    """The file as a later pack would write it; numbers and settings as they are."""
    old, new = (f'"perfusion.version":"{number}"'.encode() for number in (VERSION, version))
    assert content.count(old) == 1 and len(old) == len(new)
    return content.replace(old, new)


SPOILT = {
    "truncated in its header": (lambda content: content[:200], "it ends after 200 bytes, inside its header"),
    "truncated in its numbers": (lambda content: content[:-4], "bytes of numbers and the file has"),
    "LoRA": (
        lambda _: save({"lora_unet_a.lora_up.weight": torch.ones(4, 1), "lora_unet_a.alpha": torch.ones(1)}),
        "it is a LoRA file; choose another file",
    ),
    "textual inversion": (
        lambda _: save({"clip_l": torch.ones(2, 32)}),
        "it is a textual inversion (embedding) file; choose another file",
    ),
    "textual inversion of a concept": (
        lambda content: save({"clip_l": load(content)["clip_l"]}, {"modelspec.title": "hugsy"}),
        "it is a textual inversion (embedding) file; choose another file",
    ),
    "of a later version": (
        lambda content: of_version(content, VERSION + 1),
        f"of version {VERSION + 1}, but this pack reads versions up to {VERSION}; update the pack",
    ),
}


def test_a_whole_file_is_let_through(good):
    assert LoadConcept.validate_inputs(good.name) is True


@pytest.mark.parametrize("node", [LoadConcept, BlendConcepts])
def test_a_word_that_no_prompt_can_hold_is_refused_before_the_run(node):
    assert node.validate_inputs(word="  ") is True and node.validate_inputs(word="Rex") is True
    assert "choose another word" in node.validate_inputs(word="two words")
    assert "at most 200 signs" in node.validate_inputs(word="x" * 300)


def test_the_line_under_the_node_says_that_there_is_an_offset(good, hugsy):
    node = LoadConcept.PREPARE_CLASS_CLONE({"hidden_inputs": {}})

    def line() -> str:
        return str(node.execute(good.name, -2.0, 0.15, 1.0, 0.0, 1.0).ui)

    assert "offset" not in line()
    save_concept(good, dataclasses.replace(hugsy, encoding_offset=torch.ones(1, hugsy.encoding_width)))
    assert LoadConcept.validate_inputs(good.name) is True and "with an offset of its encoding" in line()


def test_the_line_under_the_node_says_that_another_file_of_the_name_is_hidden(good, hugsy, tmp_path):
    node = LoadConcept.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    (tmp_path / "later").mkdir()
    folder_paths.add_model_folder_path("perfusion", str(tmp_path / "later"))
    for there in (False, True):
        assert (f"the one in {good.parent.parent.name}/perfusion is used, so rename it"
                in str(node.execute(good.name, -2.0, 0.15, 1.0, 0.0, 1.0).ui)) == there  # fmt: skip
        save_concept(tmp_path / "later" / good.name, hugsy)


@pytest.mark.parametrize("kind", SPOILT)
def test_a_file_that_cannot_be_loaded_is_refused_before_the_run(good, kind):
    spoil, found = SPOILT[kind]
    path = good.with_name("spoilt.safetensors")
    path.write_bytes(spoil(good.read_bytes()))
    sentence = LoadConcept.validate_inputs(path.name)
    assert isinstance(sentence, str) and found in sentence
    assert sentence.startswith(str(path))
    assert sentence.endswith(".") and ". " not in sentence and "\n" not in sentence


def test_a_file_that_is_gone_is_refused_by_its_name(good):
    sentence = LoadConcept.validate_inputs("gone.safetensors")
    assert isinstance(sentence, str) and "'gone.safetensors' was not found" in sentence
    assert sentence.endswith(".") and "\n" not in sentence
