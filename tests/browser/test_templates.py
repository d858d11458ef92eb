"""Every template opens in ComfyUI's own front end, with no node missing, and is accepted by the queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dev_tools.server import PACK_FOLDER

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((REPOSITORY / "workflows").glob("*.json"))

LOAD = """async (workflow) => {
    await app.loadGraphData(workflow);
    return app.graph.nodes.map(node => node.type).filter(type => !LiteGraph.registered_node_types[type]);
}"""


def _is_queueing(answer) -> bool:
    return answer.url.endswith("/prompt") and answer.request.method == "POST"


def own_nodes(comfyui) -> set[str]:
    return {name for name in comfyui.get("/object_info") if name.startswith("Perfusion")}


def test_the_front_end_knows_every_node(comfyui, front_end):
    """The nodes that the server offers are all in the front end's registry."""
    offered = own_nodes(comfyui)
    if not offered:
        pytest.skip("this pack has no nodes yet")
    known = set(front_end.evaluate("() => Object.keys(LiteGraph.registered_node_types)"))
    assert offered <= known


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_template(template, comfyui, front_end):
    """The template is in the browser of templates, loads with all its nodes, and the queue takes it."""
    assert template.stem in comfyui.get("/workflow_templates")[PACK_FOLDER]
    assert template.with_suffix(".jpg").is_file(), "the template has no thumbnail beside it"

    workflow = json.loads(template.read_text(encoding="utf-8"))
    missing = front_end.evaluate(LOAD, workflow)
    assert not missing, f"node types that the front end does not know: {missing}"
    prompt = front_end.evaluate("async () => (await app.graphToPrompt()).output")
    classes = {node["class_type"] for node in prompt.values()}
    assert classes & own_nodes(comfyui), "a template of this pack uses none of its nodes"

    try:
        with front_end.expect_response(_is_queueing) as sent:
            front_end.evaluate("() => app.queuePrompt(0, 1)")
        answer = sent.value.json()
        assert sent.value.status == 200, f"the queue refused it: {answer}"
        assert not answer.get("node_errors"), f"nodes were refused: {answer['node_errors']}"
    finally:
        # That it can be queued is what is asked here; the host tests run it.
        comfyui.post("/queue", {"clear": True})
        comfyui.post("/interrupt", {})
