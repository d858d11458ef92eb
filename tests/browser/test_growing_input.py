"""The gate's sockets: a workflow with more concepts than old hosts show from the start loads whole, with every wire."""

from __future__ import annotations

import json
from pathlib import Path

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "Two concepts in one picture.json"
CONNECTED = 6

LOAD = "async workflow => { await app.loadGraphData(workflow); return (await app.graphToPrompt()).output; }"


def with_many_concepts() -> tuple[dict, dict[str, list]]:
    """The template as a new host saves it with six concepts on its gate, and what these inputs are in its prompt."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    gate = next(node for node in workflow["nodes"] if node["type"] == "PerfusionConceptGate")
    sockets = gate["inputs"]
    first = next(index for index, socket in enumerate(sockets) if socket["name"] == "concepts.concept0")
    free = next(socket for socket in sockets if socket["link"] is None and socket["name"].startswith("concepts."))
    sockets.remove(free)
    links = {link[0]: link for link in workflow["links"]}
    loader = links[sockets[first + 1]["link"]][1]
    outputs = next(node for node in workflow["nodes"] if node["id"] == loader)["outputs"]
    for number in range(2, CONNECTED):
        last = workflow["last_link_id"] = workflow["last_link_id"] + 1
        name = f"concepts.concept{number}"
        sockets.insert(first + number, {**free, "name": name, "label": name.split(".")[1], "link": last})
        workflow["links"].append([last, loader, 0, gate["id"], first + number, "PERFUSION_CONCEPT"])
        outputs[0]["links"].append(last)
    loaders = [links[sockets[first]["link"]][1]] + [loader] * (CONNECTED - 1)
    return workflow, {f"concepts.concept{number}": [str(node), 0] for number, node in enumerate(loaders)}


def test_every_wire_of_a_large_gate_is_kept(front_end):
    workflow, expected = with_many_concepts()
    prompt = front_end.evaluate(LOAD, workflow)
    (gate,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "PerfusionConceptGate")
    assert {name: link for name, link in gate.items() if name.startswith("concepts.")} == expected
