"""Every template, from its file alone: readable when it opens on a small screen, tidy, and told what it is."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from by_location import load_package
from template_geometry import boxes, fitting_scale, hidden_wires

load_package("demo", "demo")
from demo.making.template_layouts import TEMPLATES, file_name  # noqa: E402

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
SMALL_SCREEN = 1536, 730
SMALLEST_TEXT = 0.571  # below this scale the classic front end draws no text

each_template = pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)


def workflow_of(template) -> dict:
    return json.loads((WORKFLOWS / f"{file_name(template)}.json").read_text(encoding="utf-8"))


def note_of(workflow: dict) -> str:
    (note,) = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    return note


def test_the_folder_holds_these_templates_and_their_thumbnails():
    """The host lists every .json of the folder, so that an index of titles would be one more template."""
    names = [file_name(template) for template in TEMPLATES]
    assert sorted(path.name for path in WORKFLOWS.iterdir()) == sorted(
        f"{name}.{ending}" for name in names for ending in ("jpg", "json")
    )
    assert names == sorted(names) and names[0].endswith("First picture"), "the order of learning is that of the names"
    assert all(name.startswith("Perfusion ") for name in names), "the search for templates looks at the name alone"


@each_template
def test_a_template_opens_readable(template):
    assert fitting_scale(workflow_of(template), *SMALL_SCREEN) >= SMALLEST_TEXT


@each_template
def test_nodes_do_not_touch_and_no_wire_goes_under_one(template):
    workflow = workflow_of(template)
    titles = {node["id"]: node.get("title") or node["type"] for node in workflow["nodes"]}
    pairs = combinations(boxes(workflow).items(), 2)
    assert not [(titles[one], titles[other]) for (one, a), (other, b) in pairs if a.touches(b)]
    assert not hidden_wires(workflow)


@each_template
def test_the_note_names_the_node_to_change_for_a_real_checkpoint(template):
    note = note_of(workflow_of(template))
    assert "Load Checkpoint" in note and "Load Perfusion Demo Model" in note
    assert "Run" in note and "`" not in note  # code cannot be read on brown in Nodes 2.0


@each_template
def test_the_file_holds_the_note_of_its_source(template):
    texts = (note_of(workflow_of(template)), template.note)
    in_file, source = (re.sub(r"(?m)^#+ ", "", text).split() for text in texts)
    assert in_file == source


@each_template
def test_the_manager_is_told_the_pack_of_every_node(template):
    for node in workflow_of(template)["nodes"]:
        pack = "perfusion" if node["type"].startswith("Perfusion") else "comfy-core"
        assert node["properties"].get("cnr_id") == (None if node["type"] == "MarkdownNote" else pack)


@each_template
def test_app_mode_shows_inputs_and_a_result_that_are_there(template):
    workflow = workflow_of(template)
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    shown = workflow["extra"]["linearData"]
    assert shown["inputs"] and len(shown["outputs"]) == 1
    for number, name in shown["inputs"]:
        assert name in [one["name"] for one in nodes[number]["inputs"] if "widget" in one], (number, name)
        assert nodes[number]["mode"] == 0
    assert nodes[shown["outputs"][0]]["type"] in {
        "SaveImage",
        "PreviewImage",
        "PerfusionAttentionMaps",
        "PerfusionInspectGate",
    }


def three_in_a_row(middle_top: int) -> dict:
    """Three nodes, and a wire from the first to the last."""
    outputs, inputs = [{"name": "a"}], [{"name": "a"}]
    nodes = [
        {
            "id": number,
            "type": str(number),
            "pos": [left, top],
            "size": [200, 100],
            "inputs": inputs,
            "outputs": outputs,
        }
        for number, left, top in ((1, 0, 0), (2, 300, middle_top), (3, 600, 0))
    ]
    return {"nodes": nodes, "links": [[1, 1, 0, 3, 0, "A"]]}


def test_the_rules_see_what_is_not_tidy():
    assert hidden_wires(three_in_a_row(0)) == [("1", "3", "2")] and not hidden_wires(three_in_a_row(60))
    assert fitting_scale(three_in_a_row(0), *SMALL_SCREEN) == pytest.approx(0.75 * 1536 / 820)
    assert fitting_scale(three_in_a_row(2000), *SMALL_SCREEN) == pytest.approx(0.75 * 730 / 2150)
    first, middle, last = boxes(three_in_a_row(-120)).values()
    assert not middle.touches(first) and boxes(three_in_a_row(0))[1].touches(middle._replace(left=100))
