"""A graph that forgives: a gate without concepts, two files of one word, the bias of a file, and what nodes show."""

from __future__ import annotations

import dataclasses
import io as bytes_io
from types import SimpleNamespace

import folder_paths
import pytest
import torch
from comfy_api.latest import io
from perfusion_pack.nodes import advice, load_concept, save_concept
from perfusion_pack.nodes.apply_concepts import CONCEPTS, ConceptGate
from perfusion_pack.nodes.host import concept_folders, node_text
from perfusion_pack.nodes.host.concept_folders import concept_path, register_concept_folders
from perfusion_pack.nodes.load_concept import LoadConcept
from perfusion_pack.nodes.pictures import thumbnail, thumbnail_room
from perfusion_pack.nodes.save_concept import SaveConcept
from perfusion_pack.perfusion_core.concept import check_stack
from perfusion_pack.perfusion_core.concept_file import load_concept as read_concept
from perfusion_pack.perfusion_core.concept_file import save_concept as write_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from PIL import Image
from tiny_models import difference, encode, gated, make_concept, sample


@pytest.fixture
def said(monkeypatch):
    """The lines that the nodes show, by id, without the ends of lines; loader, gate and saver are 1, 2 and 3."""
    lines: dict[str, str] = {}
    server = SimpleNamespace(
        send_progress_text=lambda text, node_id: lines.__setitem__(node_id, " ".join(text.split()))
    )
    monkeypatch.setattr(node_text, "PromptServer", SimpleNamespace(instance=server))
    for node_id, node in (("1", LoadConcept), ("2", ConceptGate), ("3", SaveConcept)):
        hidden = SimpleNamespace(unique_id=node_id, prompt=None, extra_pnginfo=None)
        monkeypatch.setattr(node, "hidden", hidden, raising=False)
    return lines


@pytest.fixture
def files(folder, tmp_path, monkeypatch, hugsy):
    """Two files of the word <hugsy> in the loader's list, of other things; the first has a picture and bias 0.65."""
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    folder_paths.folder_names_and_paths.pop("perfusion", None)
    register_concept_folders()
    picture = thumbnail(torch.full((64, 48, 3), 0.5))
    write_concept(folder / "one.safetensors", dataclasses.replace(hugsy, bias=0.65, temperature=0.15, picture=picture))
    return folder


@pytest.fixture
def other(files, model, clip):
    write_concept(files / "other.safetensors", make_concept(model, clip, "<hugsy>", "dog", seed=9))
    return "other.safetensors"


def loaded(name="one.safetensors", bias=advice.BIAS_OF_THE_FILE, temperature=0.15, strength=1.0, start=0.0, **more):
    return LoadConcept.execute(name, bias, temperature, strength, start, 1.0, **more)


@pytest.mark.parametrize("concepts", [None, {}])
@pytest.mark.parametrize("lock", ["local", "global"])
def test_a_gate_without_concepts_is_the_base_model(model, clip, said, concepts, lock):
    given = {} if concepts is None else {"concepts": concepts}
    patched, speaking = ConceptGate.execute(model=model, clip=clip, key_lock=lock, **given).result
    prompts = [encode(speaking, text) for text in ("a photo of a teddy", "")]
    base = [encode(clip, text) for text in ("a photo of a teddy", "")]
    for ((encoding, extra),), ((expected, keys),) in zip(prompts, base, strict=True):
        assert torch.equal(encoding, expected) and extra.keys() == keys.keys()
    assert difference(sample(patched, *prompts), sample(model, *base)) == 0.0
    assert "base model" in said["2"]


def test_no_concept_is_needed_and_none_before_another():
    inputs = CONCEPTS.inputs(io.Custom("THING").Input("thing"), "Things.")
    if hasattr(io, "Autogrow"):
        assert inputs[0].template.min == 0
    else:
        assert all(one.optional for one in inputs)


def test_the_second_concept_works_without_the_first(model, clip, hugsy, said):
    stack = (gated(hugsy),)
    second, first = (
        ConceptGate.execute(model=model, clip=clip, key_lock="local", concepts={name: stack}).result
        for name in ("concept1", "concept0")
    )
    pictures = [sample(m, encode(c, "a photo of <hugsy>"), encode(c, "")) for m, c in (second, first)]
    assert torch.equal(*pictures)


@pytest.mark.parametrize("bias", [advice.LOWEST_BIAS, -0.5, 0.0, 0.65, 0.85, advice.HIGHEST_BIAS])
def test_a_number_of_a_saved_workflow_stays_that_number(files, said, bias):
    (stack, *_) = loaded(bias=bias).result
    assert stack[0].bias == bias


@pytest.mark.parametrize("temperature", [0.01, 0.15, 1.0])
def test_a_temperature_of_a_saved_workflow_stays_that_temperature(files, said, temperature):
    write_concept(
        files / "one.safetensors", dataclasses.replace(read_concept(files / "one.safetensors"), temperature=2)
    )
    (stack, *_) = loaded(temperature=temperature).result
    assert stack[0].temperature == temperature
    assert f"· temperature {temperature:g}; the file recommends 2 ·" in said["1"]


def test_the_default_takes_what_the_file_recommends(files, said):
    (stack, *_) = loaded().result
    assert stack[0].bias == 0.65
    (default,) = (one.default for one in LoadConcept.define_schema().inputs if one.id == "bias")
    assert default == advice.BIAS_OF_THE_FILE < advice.LOWEST_BIAS


def test_the_gate_that_was_saved_comes_back(files, said):
    """All that a file keeps of it; the line of the saver says what it does not keep."""
    (stack, *_) = loaded(bias=0.7, temperature=0.1, strength=0.8, start=0.1, lock=0.5).result
    SaveConcept.execute(concept=stack, name="mine")
    left_out = "the file does not keep strength 0.8, lock 0.5, steps from 0.1 to 1, so set that in the loader again"
    assert said["3"].endswith(f" · recommends bias 0.7, temperature 0.1 · {left_out}")
    (back, *_) = loaded("mine.safetensors", temperature=advice.TEMPERATURE_OF_THE_FILE).result
    assert (back[0].bias, back[0].temperature) == (0.7, 0.1)
    assert " · bias 0.7, as the file recommends · temperature 0.1 · " in said["1"]


def test_two_files_of_one_word_work_under_two(files, other, model, clip, said):
    (one, word, _), (two, renamed, superclass) = loaded().result, loaded(other, word=" REX ").result
    assert (word, renamed, superclass) == ("<hugsy>", "<rex>", "dog")
    patched, speaking = ConceptGate.execute(
        model=model, clip=clip, key_lock="local", concepts={"concept0": one, "concept1": two}
    ).result
    prompts = [encode(speaking, f"a photo of {name}") for name in ("<hugsy>", "<rex>")]
    sample(patched, *prompts)
    assert said["2"].count("gate 0.") + said["2"].count("gate 1.") == 2, said["2"]


def test_two_of_one_word_are_refused_with_advice_that_can_be_followed(files, other, said):
    (one, *_), (two, *_) = loaded().result, loaded(other).result
    (advised,) = (name for name in ("word",) if name in {i.id for i in LoadConcept.define_schema().inputs})
    with pytest.raises(PerfusionError, match=f"input {advised} of one of their Load Perfusion Concept nodes"):
        check_stack((*one, *two))
    with pytest.raises(PerfusionError, match=f"input {advised} of one of their Load Perfusion Concept nodes"):
        loaded(other, stack=one)


def test_a_word_that_none_can_be_is_refused_before_the_run(files):
    assert "word of a concept must be" in LoadConcept.validate_inputs("one.safetensors", word="two words")
    for word in ("", " ", None, "<rex>", "rex"):
        assert LoadConcept.validate_inputs("one.safetensors", word=word) is True


def shown_picture(ui):
    (image,) = ui["images"]
    return Image.open(folder_paths.get_directory_by_type(image["type"]) + f"/{image['filename']}").size


def test_the_loader_shows_what_it_loads(files, said):
    ui = loaded().ui
    size = f"{concept_path('one.safetensors').stat().st_size / 1000:.0f} kB"
    gate = "bias 0.65, as the file recommends · temperature 0.15"
    assert said["1"] == f"&lt;hugsy&gt; · teddy · for sd1 models · {gate} · {size}"
    assert ui["text"] == (f"<hugsy> · teddy · for sd1 models · {gate} · {size}",)
    assert shown_picture(ui) == (48, 64)
    loaded(bias=0.9)
    assert said["1"].endswith(f"bias 0.9; the file recommends 0.65 · temperature 0.15 · {size}")
    loaded(word="rex")
    assert said["1"].startswith("&lt;rex&gt; ")


def test_a_file_without_a_picture_shows_the_line_alone(files, other, said):
    assert "images" not in loaded(other).ui and "dog" in said["1"]


def test_save_shows_what_it_saved(files, said):
    (stack, *_) = loaded(bias=0.7).result
    output = SaveConcept.execute(concept=stack, name="mine")
    saved = read_concept(output.result[0])
    assert (saved.bias, saved.word) == (0.7, "<hugsy>")
    size = (files / "mine.safetensors").stat().st_size / 1000
    gate = "recommends bias 0.7, temperature 0.15"
    assert said["3"] == f"Saved &lt;hugsy&gt; (teddy) as mine.safetensors · {size:.1f} kB · {gate}"
    assert shown_picture(output.ui) == (48, 64)


def test_a_line_is_drawn_as_it_was_written(said):
    """The front end draws it as HTML; a word in brackets would be a tag that it takes away."""
    node_text.say("<hugsy> & <b>", "1")
    assert said["1"] == "&lt;hugsy&gt; &amp; &lt;b&gt;"
    node_text.say("nowhere", None)
    assert set(said) == {"1"}


def test_the_folder_for_files_from_elsewhere_is_made(files, tmp_path, monkeypatch):
    assert (tmp_path / "models" / "perfusion").is_dir()
    (tmp_path / "occupied").write_text("")  # nothing can be made below a file
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "occupied"))
    assert concept_folders.models_folder() == tmp_path / "occupied" / "perfusion"


def test_thumbnails_of_the_test_are_what_files_carry():
    assert Image.open(bytes_io.BytesIO(thumbnail(torch.zeros(64, 48, 3)))).size == (48, 64)
    assert load_concept.shown is save_concept.shown


def test_a_thumbnail_leaves_room_for_many_wide_layers():
    noise = torch.rand(160, 160, 3, generator=torch.Generator().manual_seed(1))
    rooms = {name: thumbnail_room(widths) for name, widths in (("SD1.5", [1280] * 10), ("Anima", [2048] * 28))}
    assert rooms == {"SD1.5": 8192, "Anima": 4096}
    assert 4096 < len(thumbnail(noise, rooms["SD1.5"])) <= 8192 and len(thumbnail(noise, rooms["Anima"])) <= 4096
