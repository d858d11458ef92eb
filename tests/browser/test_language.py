"""The nodes in Chinese, in the classic way of drawing: their texts are translated, nothing that is saved changes with
the language, and the English words find them still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_templates import own_nodes
from test_what_nodes_show import FOUND

from dev_tools import locales

pytestmark = pytest.mark.slow  # loads the page once more
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

COME_TO = """type => {
    const node = app.graph.nodes.find(node => node.type === type);
    app.canvas.ds.offset = [400 - node.pos[0], 200 - node.pos[1]];
    app.canvas.draw(true, true);
}"""

# Where a node's widget or socket is on the page, or else its title.
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


@pytest.fixture(scope="module")
def chinese(open_front_end, comfyui) -> Iterator[Any]:
    """The page of a person whose browser speaks Chinese, with one of each node."""
    with open_front_end("zh-CN") as page:
        page.evaluate(BUILD, sorted(own_nodes(comfyui)))
        # In front ends before 1.37 the texts of a language that is loaded late may take the place of those of packs.
        panel = page.evaluate("() => 'Comfy.RightSidePanel.IsOpen' in app.extensionManager.setting.settings")
        if not panel and page.evaluate(SHOWN)[GATE]["title"] != CHINESE[GATE]["display_name"]:
            pytest.skip("needs a front end that keeps the texts of packs (ComfyUI_frontend, pull request 7214)")
        yield page


def test_titles_inputs_and_outputs_are_translated(chinese):
    shown = chinese.evaluate(SHOWN)
    assert set(shown) == set(CHINESE)
    for node, words in CHINESE.items():
        assert shown[node]["title"] == words["display_name"]
        names = {name: found["name"] for name, found in words.get("inputs", {}).items() if "name" in found}
        grown = set(names) - set(shown[node]["inputs"])
        assert grown <= {"concepts", "edits"}, "only of what grows are the sockets there instead"
        assert {name: shown[node]["inputs"][name] for name in names if name not in grown} == {
            name: text for name, text in names.items() if name not in grown
        }
        assert shown[node]["outputs"] == [found["name"] for found in words["outputs"].values()]


@pytest.mark.parametrize("name", ["", "key_lock", "concepts.concept0"], ids=["title", "widget", "socket that grew"])
def test_tooltips_are_translated(chinese, name):
    key = name.replace(".", "_")
    text = CHINESE[GATE]["inputs"][key]["tooltip"] if name else CHINESE[GATE]["description"]
    chinese.evaluate(COME_TO, GATE)
    x, y = chinese.evaluate(PLACE, [GATE, name])
    chinese.mouse.move(x + 3, y + 1)
    chinese.mouse.move(x, y)
    chinese.locator(".node-tooltip").get_by_text(text, exact=True).wait_for(timeout=30_000)


def test_nothing_that_is_saved_changes_with_the_language(chinese, front_end, comfyui):
    front_end.evaluate(BUILD, sorted(own_nodes(comfyui)))
    assert front_end.evaluate(SAVED) == chinese.evaluate(SAVED)
    front_end.evaluate("() => app.graph.clear()")


@pytest.mark.parametrize(
    "words, node",
    [
        ("label grid", "PerfusionLabelGrid"),
        ("train perfusion", "PerfusionTrainConcept"),
        ("key-locked", "PerfusionConceptGate"),
    ],
)
def test_english_words_find_the_nodes(chinese, comfyui, words, node):
    if "search_aliases" not in comfyui.get("/object_info")[node]:
        pytest.skip("needs ComfyUI 0.11.0: search aliases of nodes")
    chinese.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    chinese.get_by_role("combobox").last.fill(words, timeout=60_000)
    title = CHINESE[node]["display_name"]
    chinese.wait_for_function(f"title => ({FOUND})().includes(title)", arg=title, timeout=60_000)
    chinese.keyboard.press("Escape")
