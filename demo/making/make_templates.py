"""Makes workflows/*.json: builds each template in the front end of a running ComfyUI that has this pack, and saves what
the front end itself writes.

    python demo/making/run.py make_templates --server http://127.0.0.1:8188 [--chromium PATH]

Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from .template import NOTE, Template
from .template_layouts import TEMPLATES, file_name

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"

SCREEN = 1536, 730  # a small laptop's page, in pixels
TITLE = 30  # height of a node's title bar
FRONT_END_NODES = {"MarkdownNote"}

# The workflow that the front end opens at the start comes last, and would replace one that is made earlier.
READY = """() => window.LiteGraph?.registered_node_types?.KSampler
    && window.app?.extensionManager?.workflow?.activeWorkflow?.isLoaded"""

# Nodes are numbered in the order of the plan. Inputs that grow appear a moment after the one before is connected.
BUILD = """async (plan) => {
    const settled = () => new Promise(done => setTimeout(done, 100));
    await app.loadGraphData({nodes: [], links: [], groups: [], version: 0.4});
    app.graph.clear();
    const nodes = {};
    for (const {name, type, title, box, mode, widgets} of plan.nodes) {
        const node = LiteGraph.createNode(type);
        if (!node) throw new Error(`no node type ${type}`);
        app.graph.add(node);
        node.pos = box.slice(0, 2);
        if (title) node.title = title;
        node.mode = mode;
        for (const [key, value] of Object.entries(widgets)) {
            const widget = type === 'MarkdownNote' ? node.widgets[0] : node.widgets.find(one => one.name === key);
            if (!widget) throw new Error(`${type} has no widget ${key}`);
            widget.value = value;
        }
        nodes[name] = node;
    }
    for (const {target, input, source, output} of plan.links) {
        const slot = nodes[target].inputs.findIndex(one => one.name === input);
        if (slot < 0) throw new Error(`${target} has no input ${input}`);
        nodes[source].connect(output, nodes[target], slot);
        await settled();
    }
    for (const {name, box} of plan.nodes) nodes[name].setSize(box.slice(2));
    for (const {title, box} of plan.groups) {
        const group = new LiteGraph.LGraphGroup(title);
        app.graph.add(group);
        group.pos = box.slice(0, 2);
        group.size = box.slice(2);
    }
    await settled();
    return JSON.stringify(app.graph.serialize());
}"""


def large(note: str) -> str:
    """The note with all its text as headings: plain text of a note is smaller than that of the nodes, and cannot be
    read at the scale at which the template opens."""
    return "\n\n".join(
        re.sub("^(## )?", "# " if line.startswith("## ") else "## ", line) for line in note.split("\n") if line
    )


def registry_name(node_type: str) -> str:
    """Which pack of the registry has this node; the host's manager offers to install it where the node is missing."""
    return "perfusion" if node_type.startswith("Perfusion") else "comfy-core"


def view(template: Template) -> dict[str, Any]:
    """What front ends before 1.37 show of the template, in the middle of the page; later ones fit it by themselves."""
    left, top = (min(box[axis] for box in template.boxes.values()) for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in template.boxes.values()) for axis in (0, 1))
    width, height = right - left, bottom - top + TITLE
    scale = min(0.85 * SCREEN[0] / width, 0.85 * SCREEN[1] / height)
    offset = [SCREEN[0] / scale / 2 - (left + right) / 2, SCREEN[1] / scale / 2 - (top - TITLE + bottom) / 2]
    return {"scale": round(scale, 3), "offset": [round(one) for one in offset]}


def plan(template: Template) -> dict[str, Any]:
    """The template as a list of nodes, links and groups that the page can build."""
    if set(template.boxes) != {*template.prompt, NOTE}:
        raise ValueError(
            f"The layout of {template.name!r} and its prompt differ: {set(template.boxes) ^ {*template.prompt, NOTE}}."
        )
    nodes: list[dict[str, Any]] = [
        {"name": NOTE, "type": "MarkdownNote", "title": "Read me", "mode": 0, "widgets": {"text": large(template.note)}}
    ]
    links = []
    for name, node in template.prompt.items():
        widgets = {}
        for key, value in node["inputs"].items():
            if isinstance(value, list):
                links.append({"target": name, "input": key, "source": value[0], "output": value[1]})
            else:
                widgets[key] = value
        if node["class_type"] == "KSampler":
            # The same seed again shows what another bias does.
            widgets["control_after_generate"] = "fixed"
        mode = 2 if name in template.muted else 0
        nodes.append({"name": name, "type": node["class_type"], "title": template.titles.get(name), "mode": mode})
        nodes[-1]["widgets"] = widgets
    for node in nodes:
        node["box"] = template.boxes[node["name"]]
    groups = [{"title": title, "box": box} for title, box in template.groups.items()]
    return {"nodes": nodes, "links": links, "groups": groups}


def make(page: Page, template: Template) -> Path:
    """Build the template in the page and write what the front end serialises."""
    workflow = json.loads(page.evaluate(BUILD, plan(template)))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"perfusion {template.name}"))
    number = {name: str(position) for position, name in enumerate([NOTE, *template.prompt], start=1)}
    for node in workflow["nodes"]:
        node["properties"] |= {} if node["type"] in FRONT_END_NODES else {"cnr_id": registry_name(node["type"])}
    workflow["extra"] = {
        "ds": view(template),
        "linearData": {
            "inputs": [[number[node], name] for node, name in template.inputs],
            "outputs": [number[template.result]],
        },
    }
    return write_workflow(workflow, WORKFLOWS / f"{file_name(template)}.json")


@contextmanager
def front_end(description: str | None) -> Iterator[Callable[[], Page]]:
    """Gives a function that opens a new page of the classic front end, ready to build in; of the server that the
    command line names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=arguments.chromium, args=["--headless", "--no-sandbox"])

        def opened() -> Page:
            page = browser.new_page()
            page.goto(arguments.server)
            page.wait_for_function(READY, timeout=120_000)
            page.evaluate("async () => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
            return page

        yield opened
        browser.close()


def write_workflow(workflow: dict[str, Any], path: Path) -> Path:
    """Write a workflow as the repository keeps it; returns the path."""
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def main() -> None:
    with front_end(__doc__) as opened:
        WORKFLOWS.mkdir(exist_ok=True)
        page = opened()
        for template in TEMPLATES:
            print(make(page, template))
