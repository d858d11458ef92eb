"""Blueprints: the host lists them, its search finds them, and as one node they run with the demo model."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_templates import RUN

NAMES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "subgraphs").glob("*.json"))

# The demo model and whatever else a blueprint needs from outside, and a node that shows its first output.
CONNECT = """(settings) => {
    const [node] = app.graph.nodes;
    const add = type => { const made = LiteGraph.createNode(type); app.graph.add(made); return made; };
    const connect = (from, names) => names.forEach((name, output) => {
        const slot = node.inputs.findIndex(input => input.name === name);
        if (slot >= 0) from.connect(output, node, slot);
    });
    connect(add('PerfusionDemoModel'), ['model', 'clip', 'vae']);
    if (node.inputs.some(input => input.name === 'images')) connect(add('PerfusionDemoPictures'), ['images', 'masks']);
    node.connect(0, add('PreviewImage'), 0);
    for (const [name, value] of Object.entries(settings)) node.widgets.find(one => one.name === name).value = value;
    // A training that only shows that it runs.
    for (const trainer of node.subgraph.nodes.filter(one => one.type === 'PerfusionTrainConcept'))
        for (const [name, value] of Object.entries({steps: 2, batch_size: 1, samples: 0}))
            trainer.widgets.find(one => one.name === name).value = value;
}"""


@pytest.fixture
def page(open_front_end):
    """A page for each blueprint: the search of the one before may still be open."""
    with open_front_end() as page:
        yield page


def test_the_host_lists_them(comfyui):
    offered = [one for one in comfyui.get("/global_subgraphs").values() if one["source"] == "custom_node"]
    assert NAMES and sorted(one["name"] for one in offered) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_blueprint_is_found_added_and_run(name, front_end):
    if not front_end.evaluate("() => 'Comfy.RightSidePanel.IsOpen' in app.extensionManager.setting.settings"):
        pytest.skip("front ends before 1.37 read blueprints of users alone")
    front_end.evaluate(
        "() => { app.graph.clear(); app.extensionManager.command.execute('Workspace.SearchBox.Toggle'); }"
    )
    front_end.get_by_role("combobox").last.fill(name, timeout=60_000)
    front_end.locator("[data-testid=result-item]", has_text=name).first.click(timeout=60_000)
    front_end.wait_for_function("name => app.graph.nodes[0]?.title === name", arg=name, timeout=60_000)
    front_end.mouse.move(600, 400)  # the node follows the mouse
    front_end.mouse.click(700, 300)  # and is put down here
    front_end.evaluate(CONNECT, {"steps": 2, "batch_size": 1} | ({"preset": "Custom"} if "Train" in name else {}))
    assert front_end.evaluate(RUN), "the queue refused the blueprint"
    front_end.wait_for_function("() => window.ended", timeout=240_000)
    assert front_end.evaluate("() => window.ended.kind") == "execution_success", front_end.evaluate(
        "() => window.ended"
    )
    front_end.evaluate("() => app.graph.clear()")
