"""The nodes in Chinese, in the classic way of drawing: their texts are translated, and nothing that is saved."""

from __future__ import annotations

from typing import Any

import pytest
from test_templates import own_nodes

from dev_tools import locales

CHINESE = locales.read("zh")
GATE = "PerfusionConceptGate"

BUILD = """types => {
    app.graph.clear();
    app.canvas.ds.reset();
    for (const [place, type] of types.entries()) {
        const node = LiteGraph.createNode(type);
        node.pos = [450 * place, 200];
        app.graph.add(node);
        node.setSize([400, 900]);  // its own depends on its words
    }
}"""

SHOWN = """() => Object.fromEntries(app.graph.nodes.map(node => [node.type, {
    title: node.title,
    inputs: Object.fromEntries([...node.inputs ?? [], ...node.widgets ?? []]
        .map(one => [one.name, one.label ?? one.localized_name])),
    outputs: (node.outputs ?? []).map(output => output.localized_name),
}]))"""

# What the front end writes beside the names, for people, is left out; it reads none of that.
SAVED = """async () => {
    const {workflow, output} = await app.graphToPrompt();
    const forPeople = ['localized_name', '_meta'];
    return JSON.stringify([workflow.nodes, output], (key, value) => forPeople.includes(key) ? undefined : value);
}"""

# Where a node's title, a widget or a socket is on the page.
PLACE = """([type, name]) => {
    const node = app.graph.nodes.find(node => node.type === type);
    const slot = node.inputs.findIndex(input => input.name === name);
    const widget = node.widgets.find(widget => widget.name === name);
    const inTheNode = widget ? [80, widget.last_y + 10] : [80, -15];
    const [x, y] = slot >= 0 && !widget ? node.getInputPos(slot) : inTheNode.map((part, axis) => node.pos[axis] + part);
    const {left, top} = app.canvas.canvas.getBoundingClientRect();
    const [right, down] = app.canvas.ds.convertOffsetToCanvas([x, y]);
    return [left + right, top + down];
}"""

COME_TO_THE_GATE = """async type => {
    const node = app.graph.nodes.find(node => node.type === type);
    app.canvas.ds.offset = [400 - node.pos[0], 200 - node.pos[1]];
    app.canvas.draw(true, true);
}"""


def hover(page: Any, name: str) -> None:
    x, y = page.evaluate(PLACE, [GATE, name])
    page.mouse.move(x + 3, y + 1)
    page.mouse.move(x, y)


@pytest.mark.slow
def test_a_person_reads_chinese_and_saves_what_all_others_save(open_front_end, front_end, comfyui):
    types = sorted(own_nodes(comfyui))
    with open_front_end("zh-CN") as page:
        page.evaluate(BUILD, types)
        shown = page.evaluate(SHOWN)
        saved = page.evaluate(SAVED)
        page.evaluate(COME_TO_THE_GATE, GATE)
        inputs = CHINESE[GATE]["inputs"]
        for name, text in {
            "": CHINESE[GATE]["description"],
            "key_lock": inputs["key_lock"]["tooltip"],
            "concepts.concept0": inputs["concepts_concept0"]["tooltip"],
        }.items():
            hover(page, name)
            page.locator(".node-tooltip").get_by_text(text, exact=True).wait_for(timeout=30_000)

    for node, words in CHINESE.items():
        assert shown[node]["title"] == words["display_name"]
        names = {name: found["name"] for name, found in words.get("inputs", {}).items() if "name" in found}
        absent = set(names) - set(shown[node]["inputs"])
        assert absent <= {"concepts", "edits"}, "only of what grows are the sockets there instead"
        assert {name: shown[node]["inputs"][name] for name in set(names) - absent} == {
            name: names[name] for name in set(names) - absent
        }
        assert shown[node]["outputs"] == [found["name"] for found in words["outputs"].values()]

    front_end.evaluate(BUILD, types)
    assert front_end.evaluate(SAVED) == saved
    front_end.evaluate("() => app.graph.clear()")
