"""Makes subgraphs/*.json: blueprints, which the host offers among the nodes as one node that can be opened.

    python demo/making/run.py make_blueprints --server http://127.0.0.1:8188 [--chromium PATH]

Each is a part of a template, put into a subgraph by the front end itself; what it needs from outside are its inputs.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from .make_templates import BUILD, front_end, plan, registry_name, write_workflow
from .template import NOTE, Template
from .template_layouts import TEMPLATES

SUBGRAPHS = Path(__file__).resolve().parents[2] / "subgraphs"

# The front end offers some widgets of its own choice: they give way to those of the plan.
CONVERT = """({inside, widgets, outputs, title}) => {
    const {subgraph, node} = app.graph.convertToSubgraph(new Set(inside.map(id => app.graph.getNodeById(id))));
    for (const input of [...subgraph.inputs])
        if (node.inputs.find(one => one.name === input.name)?.widget) subgraph.removeInput(input);
    for (const [id, name, label] of widgets) {
        const inner = subgraph.getNodeById(id);
        const slot = inner.inputs.find(one => one.widget?.name === name);
        subgraph.addInput(label, String(slot.type)).connect(slot, inner);
    }
    for (const [id, name, label] of outputs) {
        const inner = subgraph.getNodeById(id);
        const slot = inner.outputs.find(one => one.name === name);
        const there = subgraph.outputs.find(one => one.linkIds.some(link => slot.links?.includes(link)));
        if (there) subgraph.renameOutput(there, label);
        else subgraph.addOutput(label, String(slot.type)).connect(slot, inner);
    }
    subgraph.name = node.title = title;
    for (const other of [...app.graph.nodes]) if (other !== node) app.graph.remove(other);
    for (const group of [...app.graph.groups]) app.graph.remove(group);
    node.pos = [0, 0];
    return JSON.stringify(app.graph.serialize());
}"""

Slot = tuple[str, str, str]  # name of a node, of its widget or output, and what the blueprint calls it


@dataclass(frozen=True)
class Blueprint:
    """A part of a template: its nodes but `outside`, with these widgets and outputs on its face.

    values: of widgets whose links are left outside."""

    name: str
    description: str
    template: str
    outside: tuple[str, ...]
    widgets: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    values: tuple[Slot, ...] = ()


_PICTURE: tuple[Slot, ...] = (
    ("latent", "width", "width"),
    ("latent", "height", "height"),
    ("latent", "batch_size", "batch_size"),
    ("sampler", "seed", "seed"),
    ("sampler", "steps", "steps"),
    ("sampler", "cfg", "cfg"),
)
_PROMPTS: tuple[Slot, ...] = (("positive", "text", "prompt"), ("negative", "text", "negative prompt"))

BLUEPRINTS = (
    Blueprint(
        "Train a concept",
        "Teaches a model a word from a few pictures and paints a picture with it. The file lands in output/perfusion.",
        "Train a concept",
        (NOTE, "demo", "pictures", "picture"),
        (("train", "word", "word"), ("train", "superclass", "superclass"), ("train", "preset", "preset"))
        + _PROMPTS
        + _PICTURE,
        (("decode", "IMAGE", "picture"), ("train", "concept", "concept"), ("train", "report", "report")),
        (("train", "superclass", "teddy"),),
    ),
    Blueprint(
        "Two concepts, one picture",
        "Paints a picture with two concepts that were trained apart, each called by its word in the prompt.",
        "Two concepts in one picture",
        (NOTE, "demo", "picture"),
        (
            ("concept0", "concept_file", "first concept"),
            ("concept0", "bias", "first bias"),
            ("concept1", "concept_file", "second concept"),
            ("concept1", "bias", "second bias"),
        )
        + _PROMPTS
        + _PICTURE,
        (("decode", "IMAGE", "picture"),),
    ),
)


def make(page: Page, blueprint: Blueprint) -> Path:
    """Build the template in the page, put its part into a subgraph, and write what the front end serialises."""
    template: Template = next(one for one in TEMPLATES if one.name == blueprint.template)
    for node, widget, value in blueprint.values:
        template.prompt[node]["inputs"][widget] = value
    number = {name: position for position, name in enumerate([NOTE, *template.prompt], start=1)}
    page.evaluate(BUILD, plan(template))
    text = page.evaluate(
        CONVERT,
        {
            "inside": [number[name] for name in number if name not in blueprint.outside],
            "widgets": [[number[node], *rest] for node, *rest in blueprint.widgets],
            "outputs": [[number[node], *rest] for node, *rest in blueprint.outputs],
            "title": blueprint.name,
        },
    )
    (subgraph,) = json.loads(text)["definitions"]["subgraphs"]
    # Another making of the same blueprint is the same blueprint.
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"perfusion blueprint {blueprint.name}"))
    workflow: dict[str, Any] = json.loads(text.replace(subgraph["id"], name))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"perfusion blueprint file {blueprint.name}"))
    workflow["extra"] = {
        "BlueprintDescription": blueprint.description,
        "BlueprintSearchAliases": ["perfusion", "personalization", "key-locked"],
    }
    (made,) = workflow["definitions"]["subgraphs"]
    made["category"] = "perfusion"
    for slot in (one for end in ("inputs", "outputs") for one in made[end]):
        slot["id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {slot['name']}"))
    for node in made["nodes"]:
        node["properties"] |= {"cnr_id": registry_name(node["type"])}
    return write_workflow(workflow, SUBGRAPHS / f"Perfusion {blueprint.name}.json")


def main() -> None:
    with front_end(__doc__) as opened:
        SUBGRAPHS.mkdir(exist_ok=True)
        for blueprint in BLUEPRINTS:
            # A page keeps the values of widgets by the numbers of their nodes.
            print(make(opened(), blueprint))
