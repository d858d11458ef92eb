"""Every input of every node, given what other nodes and API prompts give: it works, or one sentence names the input."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import execution
import folder_paths
import pytest
import torch
from perfusion_pack.nodes import measure_statistics, train_concept
from perfusion_pack.nodes.extension import PerfusionExtension
from perfusion_pack.nodes.host.concept_folders import concept_names, output_folder, register_concept_folders
from perfusion_pack.nodes.host.editing.edit_masks import LATENT_KEY, EditMasks
from perfusion_pack.nodes.host.kept_steps import step_path
from perfusion_pack.nodes.load_concept import LoadConcept
from perfusion_pack.nodes.load_pictures import LoadPictures
from perfusion_pack.nodes.measure_statistics import TextStatisticsNode
from perfusion_pack.nodes.record_attention import RecordAttention
from perfusion_pack.nodes.sweep import read_sweep
from perfusion_pack.perfusion_core.concept_file import save_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.prompt_edit import PromptEdit
from PIL import Image
from tiny_models import encode, gated, sample

import nodes

NODES = {node.GET_SCHEMA().node_id: node for node in asyncio.run(PerfusionExtension().get_node_list())}


def inputs_of(node):
    """The ids as prompts write them, and the declarations; of a socket that grows, the first two."""
    found = {}
    for one in node.define_schema().inputs:
        grown = hasattr(one, "template")
        found |= {f"{one.id}.{one.template.prefix}{n}": one for n in range(2)} if grown else {one.id: one}
    return found


EVERY_INPUT = [(node_id, name) for node_id, node in NODES.items() for name in inputs_of(node)]
each_input = pytest.mark.parametrize(("node_id", "name"), EVERY_INPUT)


class AnyType(str):
    """What other packs do so that all hosts take it, lists of choices too."""

    def __ne__(self, other):
        return False


class AnyValue:
    """A node of another pack whose output is of any type."""

    RETURN_TYPES, FUNCTION, CATEGORY = (AnyType("*"),), "value", "test"
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})


@pytest.fixture(autouse=True)
def host(monkeypatch, tmp_path):
    """The host with all nodes of the pack, and its folders."""
    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "AnyValue", AnyValue)
    for node_id, node in NODES.items():
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, node_id, node)
    for kind in ("input", "output"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    Image.new("RGB", (64, 64)).save(tmp_path / "input" / "photo.png")
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    folder_paths.folder_names_and_paths.pop("perfusion", None)
    monkeypatch.delitem(folder_paths.filename_list_cache, "perfusion", raising=False)
    register_concept_folders()
    return tmp_path


def validated(node_id, **changes):
    """What the host says of a prompt in which all sockets are linked and widgets hold their defaults: its errors."""
    given = {}
    for name, one in inputs_of(NODES[node_id]).items():
        default = getattr(one, "default", None)
        options = getattr(one, "options", None)
        given[name] = next(iter(options)) if default is None and options else default
        if name == "superclass":  # which has no default that would do
            given[name] = "teddy"
        if given[name] is None:
            given[name] = ["any", 0]
    prompt = {
        "any": {"class_type": "AnyValue", "inputs": {}},
        "own": {"class_type": node_id, "inputs": {**given, **changes}},
    }
    valid, errors, _ = asyncio.run(execution.validate_inputs("prompt", prompt, "own", {}))
    assert valid == (not errors)
    return errors


@each_input
def test_an_input_can_be_linked(node_id, name):
    assert validated(node_id, **{name: ["any", 0]}) == []


@pytest.mark.parametrize("node_id", NODES)
def test_all_inputs_can_be_linked(node_id):
    assert validated(node_id, **{name: ["any", 0] for name in inputs_of(NODES[node_id])}) == []


VALUES = [None, 5, 0.7, -1, "text", True, {"a": 1}]


@each_input
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_an_api_prompt_holds_is_never_an_exception_of_the_validation(node_id, name, value):
    for error in validated(node_id, **{name: value}):
        assert "exception" not in error["type"], error
        if error["type"] == "custom_validation_failed":
            assert_one_sentence(error["details"].removeprefix(f"{name} - "))


def assert_one_sentence(text):
    assert text.endswith(".") and "\n" not in text and "NoneType" not in text and "object" not in text, text


class ReachedError(Exception):
    """The inputs were taken, and minutes of work would begin."""


@pytest.fixture(scope="module")
def good(inputs, hugsy):
    """What every input takes."""
    return {
        **inputs._asdict(),
        "picture": torch.rand(1, 64, 64, 3),
        "concept": (gated(hugsy),),
        "concept_a": (gated(hugsy),),
        "concept_b": (gated(hugsy),),
        "concepts": {"concept0": (gated(hugsy),), "concept1": ()},
        "concepts.concept0": (gated(hugsy),),
        "edits": {"edit0": PromptEdit(), "edit1": PromptEdit("a cup")},
        "edits.edit0": PromptEdit(),
        "edit": "teddy -> cup",
        "text": "a photo of a teddy",
        "latent": {"samples": torch.zeros(1, 4, 8, 8)},
        "word": "<word>",
        "superclass": "teddy",
        "maps": a_recorded_run(inputs),
        "sweep": read_sweep({"biases": "0.5"}),
    }


def a_recorded_run(inputs):
    """The maps of a run of as many pictures as there are."""
    recording, maps, noting = RecordAttention.execute(inputs.model, inputs.clip).result
    with torch.inference_mode():
        sample(recording, encode(noting, "a ball"), encode(noting, ""), steps=1, batch=len(inputs.images))
    return maps


def ran(node_id, good, **changes):
    """Run the node as the host does, with one input as given."""
    node = NODES[node_id]
    given = {}
    for name, one in inputs_of(node).items():
        key = one.id if hasattr(one, "template") else name
        options = getattr(one, "options", None)
        default = getattr(one, "default", None)
        if key in good:
            given[key] = good[key]
        elif default is not None or options:
            given[key] = next(iter(options)) if default is None else default
    if node_id == "PerfusionGateSweep":
        given["model"] = (
            NODES["PerfusionConceptGate"]
            .PREPARE_CLASS_CLONE({"hidden_inputs": {}})
            .execute(model=good["model"], clip=good["clip"], concepts=good["concepts"], key_lock="local")[0]
        )
        given["word"] = ""
    if node_id == "PerfusionEditMask":
        masks = EditMasks()
        masks.keep(given["latent"]["samples"], torch.zeros(1, 8, 8))
        given["latent"] = {**given["latent"], LATENT_KEY: masks}
    if node.GET_SCHEMA().is_input_list:
        given = {name: [value] for name, value in given.items()}
        changes = {name: [value] for name, value in changes.items()}
    if node_id == "PerfusionLabelGrid":
        given["labels"] = ["one"]
    return node.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute(**{**given, **changes})


@each_input
@pytest.mark.parametrize("value", [None, 5, 0.7, "text", [None, 5]], ids=repr)
def test_what_a_wire_brings_works_or_is_told_by_the_name_of_the_input(node_id, name, value, good, monkeypatch):
    def reached(*_, **__):
        raise ReachedError

    monkeypatch.setattr(train_concept.TrainingJob, "train", reached)
    monkeypatch.setattr(measure_statistics, "cached_statistics", reached)
    one = inputs_of(NODES[node_id])[name]
    changes = {name: value}
    if hasattr(one, "template"):
        changes = {one.id: {**good[one.id], name.partition(".")[2]: value}}
    try:
        ran(node_id, good, **changes)
    except ReachedError:
        return
    except PerfusionError as problem:
        assert_one_sentence(str(problem).replace(" object(s)", ""))


@pytest.mark.parametrize("node_id", NODES)
def test_what_is_right_works(node_id, good, hugsy, monkeypatch):
    """So that the test above does not hold because everything is refused."""

    def reached(*_, **__):
        raise ReachedError

    monkeypatch.setattr(train_concept.TrainingJob, "train", reached)
    monkeypatch.setattr(measure_statistics, "cached_statistics", reached)
    save_concept(step_path(output_folder() / "hugsy.safetensors", 50), hugsy)
    try:
        ran(node_id, good)
    except ReachedError:
        assert node_id in ("PerfusionTrainConcept", "PerfusionTextStatistics")


def test_numbers_and_texts_stand_for_each_other(good):
    def labels(value):
        return ran("PerfusionGateSweep", good, biases=value)[1]

    assert labels(0.7) == labels("0.7") == ["bias 0.7"]
    assert ran("PerfusionDemoPictures", good, count="2")[0].shape[0] == 2
    for count in (0, 2.5, "many", float("nan")):
        with pytest.raises(PerfusionError, match="input count expected a whole number from 1 to 64, but found"):
            ran("PerfusionDemoPictures", good, count=count)
    with pytest.raises(PerfusionError, match="input key_lock expected one of local, global, but found 'none'"):
        ran("PerfusionConceptGate", good, key_lock="none")
    with pytest.raises(PerfusionError, match="input latent expected a LATENT from a wire, but found"):
        ran("PerfusionEditPrompt", good, latent={"samples": 5})
    with pytest.raises(PerfusionError, match="input model expected a MODEL from a wire, but found 5; connect"):
        ran("PerfusionConceptGate", good, model=5)
    with pytest.raises(
        PerfusionError, match=r"input (concepts\.)?concept0 expected a PERFUSION_CONCEPT from a wire, but found 5"
    ):
        ran("PerfusionConceptGate", good, **{"concepts": {"concept0": 5}, "concepts.concept0": 5})


def test_a_linked_concept_file_is_read_again_when_it_changed(host):
    """Nobody knows yet which file a wire will name, so a change of any runs the node again."""
    linked, own = LoadConcept.fingerprint_inputs(concept_file=None), concept_names()[0]
    assert linked == LoadConcept.fingerprint_inputs(concept_file=None) != []
    shipped = Path(folder_paths.get_full_path("perfusion", own))
    (host / "output" / "perfusion").mkdir()
    mine = host / "output" / "perfusion" / "mine.safetensors"
    shutil.copy(shipped, mine)
    folder_paths.filename_list_cache.pop("perfusion", None)
    one = [LoadConcept.fingerprint_inputs(concept_file=name) for name in (None, own, "mine.safetensors")]
    os.utime(mine, (1, 1))
    other = [LoadConcept.fingerprint_inputs(concept_file=name) for name in (None, own, "mine.safetensors")]
    assert [before == after for before, after in zip(one, other, strict=True)] == [False, True, False]


def test_a_linked_folder_is_read_again_when_it_changed(host):
    before = LoadPictures.fingerprint_inputs(folder=None, names=None)
    assert before == LoadPictures.fingerprint_inputs(folder=None) != []
    (host / "input" / "other").mkdir()
    Image.new("RGB", (64, 64)).save(host / "input" / "other" / "photo.png")
    assert LoadPictures.fingerprint_inputs(folder=None) != before


def test_a_linked_captions_file_is_read_again_when_it_changed(host):
    before = TextStatisticsNode.fingerprint_inputs(captions_file=None)
    (host / "input" / "mine.txt").write_text("a dog")
    assert TextStatisticsNode.fingerprint_inputs(captions_file=None) != before
