"""perfusion_core.concept_file: what is saved comes back, and nothing is lost on the way."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import fields

import pytest
import safetensors.torch
import torch
from core_examples import PICTURE, SD15_VALUE_WIDTHS, make_concept

from perfusion_core import tensor_file
from perfusion_core.concept import Concept
from perfusion_core.concept_file import load_concept, read_header, round_for_file, save_concept
from perfusion_core.edit import FORMS
from perfusion_core.errors import PerfusionError


def assert_same(found: Concept, expected: Concept) -> None:
    for field in fields(Concept):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, torch.Tensor):
            assert torch.equal(ours, theirs), field.name
        elif field.name in ("word_vectors", "superclass_vectors", "value_targets"):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs), field.name
        else:
            assert ours == theirs, field.name


# --- round trip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"picture": PICTURE},
        {"clip_layer": -2, "form": "paper", "base_model": "sd2"},
        {"form": "unlocked"},
        {"form": "lockable"},
        {"form": "lockable", "lock": 0.25},
        {"encoding_offset": torch.randn(1, 16)},
        {"encoding_offset": torch.randn(3, 16), "form": "lockable", "picture": PICTURE},
    ],
)
def test_round_trip(tmp_path, changes):
    concept = make_concept(**changes)
    save_concept(tmp_path / "hugsy.safetensors", concept)
    assert_same(load_concept(tmp_path / "hugsy.safetensors"), round_for_file(concept))


@pytest.mark.parametrize("form", FORMS)
def test_packs_from_before_the_lock_read_the_old_forms_and_ask_for_an_update_at_the_new_one(tmp_path, form):
    save_concept(tmp_path / "a.safetensors", make_concept(form=form))
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["perfusion.version"] == {"lockable": "2", "residual": "3", "anchored": "5"}.get(form, "1")
    assert metadata.get("perfusion.lock") == ("1.0" if form == "lockable" else None)


@pytest.mark.parametrize("form", FORMS)
def test_an_offset_needs_a_newer_pack_and_nothing_else_does(tmp_path, form):
    plain = make_concept(form=form)
    save_concept(tmp_path / "plain.safetensors", plain)
    offset = dataclasses.replace(plain, encoding_offset=torch.ones(2, 16))
    save_concept(tmp_path / "offset.safetensors", offset)
    without, beside = ({}, {})
    for name, found in (("plain", without), ("offset", beside)):
        with safetensors.safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            found.update(file.metadata(), tensors=set(file.keys()))
    assert beside.pop("perfusion.version") == "6" and int(without.pop("perfusion.version")) < 6
    assert beside.pop("perfusion.encoding_offset") == "2"
    assert beside.pop("tensors") == without.pop("tensors") | {"encoding_offset"}
    assert beside == without
    # Taken out again it is the file that it would have been.
    save_concept(tmp_path / "again.safetensors", dataclasses.replace(offset, encoding_offset=None))
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()


def test_round_trip_of_two_encoders_and_odd_texts(tmp_path):
    """SDXL has two text encoders of different widths; superclass and settings may be in any language."""
    vectors = {"clip_l": torch.randn(2, 12), "clip_g": torch.randn(1, 20)}
    concept = make_concept(
        "<größe>",
        superclass="\u043f\u043b\u044e\u0448\u0435\u0432\u044b\u0439 \u043c\u0438\u0448\u043a\u0430",
        base_model="sdxl",
        word_vectors=vectors,
        superclass_vectors={"clip_g": torch.randn(3, 20), "clip_l": torch.randn(1, 12)},
        training={"note": 'quotes " and \n lines', "nested": {"a": [1, 2.5, None, True]}},
    )
    path = tmp_path / "größe.safetensors"
    save_concept(path, concept)
    assert_same(load_concept(path), round_for_file(concept))
    save_concept(path, load_concept(path))  # a second time changes nothing
    assert_same(load_concept(path), round_for_file(concept))


def test_only_the_target_values_are_rounded():
    concept = make_concept()
    rounded = round_for_file(concept)
    assert torch.equal(rounded.target_input, concept.target_input)
    for name, target in concept.value_targets.items():
        assert torch.equal(rounded.value_targets[name], target.half().float())
    assert_same(round_for_file(rounded), rounded)


def test_sd15_file_fits_into_60_kb(tmp_path):
    picture = b"\xff\xd8" + os.urandom(8 * 1024 - 2)
    prompts = [f"a photo of a {{}} number {n} in some place" for n in range(9)]
    concept = make_concept(width=768, value_widths=SD15_VALUE_WIDTHS, picture=picture, training={"prompts": prompts})
    save_concept(tmp_path / "a.safetensors", concept)
    assert (tmp_path / "a.safetensors").stat().st_size <= 61_440
    assert_same(load_concept(tmp_path / "a.safetensors"), round_for_file(concept))


def test_same_concept_same_bytes(tmp_path):
    concept = make_concept(picture=PICTURE)
    contents = set()
    for n in range(4):
        save_concept(tmp_path / f"{n}.safetensors", concept)
        contents.add((tmp_path / f"{n}.safetensors").read_bytes())
    assert len(contents) == 1


def test_header_tells_everything_and_reads_no_numbers(tmp_path, monkeypatch):
    concept = make_concept(picture=PICTURE, training={"steps": 400, "date": "2026-11-20"})
    save_concept(tmp_path / "a.safetensors", concept)
    monkeypatch.setattr(tensor_file, "tensors_of", None)
    header = read_header(tmp_path / "a.safetensors")
    assert header["tensors"]["target_input"] == (16,)
    assert header["tensors"]["value.middle_block.1.transformer_blocks.0.attn2"] == (12,)
    for name, value in header.items():
        if name != "tensors":
            assert value == getattr(concept, name)


def test_other_programs_can_read_the_file(tmp_path):
    """By the plain safetensors library: modelspec fields, and the word under its embedding key as in an embedding."""
    concept = make_concept(picture=PICTURE, training={"date": "2026-11-20"})
    save_concept(tmp_path / "a.safetensors", concept)
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
        assert torch.equal(file.get_tensor("clip_l"), concept.word_vectors["clip_l"])
        assert file.get_tensor("value.middle_block.1.transformer_blocks.0.attn2").dtype == torch.float16
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/perfusion"
    assert metadata["modelspec.trigger_phrase"] == "<hugsy>"
    assert metadata["modelspec.date"] == "2026-11-20"
    assert metadata["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch, broken, failure):
    path = tmp_path / "a.safetensors"
    old = make_concept()
    save_concept(path, old)

    def fail(*_):
        raise failure

    monkeypatch.setattr(tensor_file.os, broken, fail)
    expected = PerfusionError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        save_concept(path, make_concept(seed=9))
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert_same(load_concept(path), round_for_file(old))


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PerfusionError, match="could not be written"):
        save_concept(tmp_path / "file" / "a.safetensors", make_concept())


def test_target_values_beyond_half_precision(tmp_path):
    concept = make_concept(value_targets={"middle_block.1.transformer_blocks.0.attn2": torch.tensor([1e6])})
    with pytest.raises(PerfusionError, match="finite numbers in value_targets"):
        save_concept(tmp_path / "a.safetensors", concept)
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_made(tmp_path):
    save_concept(tmp_path / "new" / "a.safetensors", make_concept())
    assert read_header(tmp_path / "new" / "a.safetensors")["word"] == "<hugsy>"
