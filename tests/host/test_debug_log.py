"""PERFUSION_DEBUG: what a bug report needs is in the log, and nothing that somebody wrote, painted or named."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import platform
from pathlib import Path

import pytest
import torch
from comfy_api.latest import io
from perfusion_pack.nodes.declared import _looked_at_by_the_node, as_declared
from perfusion_pack.nodes.extension import PerfusionExtension
from perfusion_pack.nodes.host import debug_log
from perfusion_pack.nodes.host.host_version import host_version
from perfusion_pack.nodes.load_concept import LoadConcept
from perfusion_pack.perfusion_core.concept import GatedConcept

SECRET = "anna at home"
NODES = asyncio.run(PerfusionExtension().get_node_list())


@pytest.fixture(autouse=True)
def switched_on(monkeypatch, caplog):
    monkeypatch.setenv(debug_log.SWITCH, "1")
    caplog.set_level(logging.INFO)


def files_of(node: type[io.ComfyNode], schema: io.Schema) -> set[str]:
    return {one.id for one in schema.inputs if _looked_at_by_the_node(node, one.id)}


@pytest.mark.parametrize("value", ["", "0", "off"])
def test_without_the_switch_nothing_is_told(value, monkeypatch, caplog):
    monkeypatch.setenv(debug_log.SWITCH, value)
    debug_log.tell_versions()
    debug_log.tell_inputs(LoadConcept.define_schema(), {"bias": 0.5}, set())
    assert not caplog.records


def test_versions_are_told_at_the_start(caplog):
    debug_log.tell_versions()
    for version in (host_version(), debug_log.pack_version(), torch.__version__, platform.python_version()):
        assert version and version in caplog.text
    assert "unknown" not in caplog.text and str(Path.home()) not in caplog.text


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.define_schema().node_id)
def test_no_text_no_name_and_no_folder_is_told(node, caplog):
    schema = node.define_schema()
    texts = io.String.Input | io.Combo.Input
    inputs = {one.id: f"{Path.home()}/{SECRET}" if isinstance(one, texts) else SECRET for one in schema.inputs}
    debug_log.tell_inputs(schema, inputs, files_of(node, schema))
    debug_log.tell_inputs(schema, {name: [value] * 3 for name, value in inputs.items()}, files_of(node, schema))
    assert len(caplog.records) == 2 and all(record.levelno == logging.INFO for record in caplog.records)
    assert schema.node_id in caplog.text and all(name in caplog.text for name in inputs)
    assert "anna" not in caplog.text and "home" not in caplog.text


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.define_schema().node_id)
def test_choices_that_are_told_are_no_files(node, folder, tmp_path, monkeypatch):
    """Whatever lies in the folders, the other choices stay the same."""
    (tmp_path / "anna").mkdir()
    for name in ("anna/anna.png", "perfusion/anna.safetensors", "perfusion/anna.steps/anna_step_50.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr("folder_paths.input_directory", str(tmp_path))
    schema = node.define_schema()
    listed = {one.id for one in schema.inputs if "anna" in str(getattr(one, "options", None))}
    assert listed <= files_of(node, schema)


def test_settings_are_told_as_they_are(caplog):
    inputs = {"concept_file": "anna.safetensors", "bias": 0.45, "word": SECRET}
    debug_log.tell_inputs(LoadConcept.define_schema(), inputs, {"concept_file"})
    assert "PerfusionLoadConcept: concept_file one of" in caplog.text
    assert "bias 0.45, " in caplog.text and f"word text of {len(SECRET)} letters" in caplog.text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (torch.zeros(5, 8, 8, 3), "5 x 8 x 8 x 3 float32"),
        ({"samples": torch.zeros(1, 4, 2, 2)}, "{samples 1 x 4 x 2 x 2 float32}"),
        ("0.45, 0.8", "'0.45, 0.8'"),
        (True, "True"),
    ],
)
def test_what_is_connected_is_told_by_its_size(value, told):
    assert debug_log.described(value) == told


def test_models_are_told_by_their_kinds(model, clip):
    assert "UNetModel in torch." in debug_log.described(model)
    assert debug_log.described(clip).startswith("CLIP of ")


def test_of_a_concept_all_but_its_words_and_its_picture_is_told(hugsy):
    training = {"steps": 300, "form": "gated", "captions": SECRET, "source": str(Path.home())}
    concept = dataclasses.replace(hugsy, training=training)
    told = debug_log.described((GatedConcept(concept, 0.45, 0.1),))
    for fact in (concept.base_model, concept.form, concept.statistics_hash, "'steps': 300", "clip_l", "'bias': 0.45"):
        assert str(fact) in told
    for secret in ("hugsy", concept.superclass, SECRET, str(Path.home())):
        assert secret not in told


def test_a_node_runs_as_without_it(monkeypatch, caplog):
    class Node(LoadConcept):
        @classmethod
        @as_declared
        def execute(cls, bias: float) -> io.NodeOutput:
            return io.NodeOutput(bias)

    assert Node.execute(bias=0.5).args == (0.5,) and "bias 0.5" in caplog.text
    monkeypatch.setattr(debug_log, "_told", None)
    assert Node.execute(bias=0.5).args == (0.5,) and "could not be told" in caplog.text
