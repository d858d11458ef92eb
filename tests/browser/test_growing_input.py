"""The gate's sockets: workflows of new and of old hosts load whole on each other, with every wire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "Perfusion 04 Two concepts in one picture.json"

LOAD = "async workflow => { await app.loadGraphData(workflow); return (await app.graphToPrompt()).output; }"


def with_sockets(connected: int, free: int) -> tuple[dict, dict[str, list]]:
    """The template with so many of the gate's concept inputs, and what the connected ones are in its prompt."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    gate = next(node for node in workflow["nodes"] if node["type"] == "PerfusionConceptGate")
    shown = [socket for socket in gate["inputs"] if socket["name"].startswith("concepts.")]
    first = gate["inputs"].index(shown[0])
    source = {link[0]: link[1] for link in workflow["links"]}
    loaders = [source[socket["link"]] for socket in shown[:2]]  # the third is free
    loaders += [loaders[1]] * (connected - 2)
    outputs = {node["id"]: node["outputs"] for node in workflow["nodes"]}
    for number in range(2, connected + free):
        name, link = f"concepts.concept{number}", None
        if number < connected:
            link = workflow["last_link_id"] = workflow["last_link_id"] + 1
            workflow["links"].append([link, loaders[number], 0, gate["id"], first + number, "PERFUSION_CONCEPT"])
            outputs[loaders[number]][0]["links"].append(link)
        socket = {**shown[2], "name": name, "localized_name": name, "label": f"concept{number}", "link": link}
        gate["inputs"][first + number : first + number + (number == 2)] = [socket]
    return workflow, {f"concepts.concept{number}": [str(loader), 0] for number, loader in enumerate(loaders)}


@pytest.mark.parametrize(("connected", "free"), [(6, 1), (2, 2)], ids=["of a new host", "of an old host"])
def test_every_wire_is_kept(front_end, connected, free):
    workflow, expected = with_sockets(connected, free)
    prompt = front_end.evaluate(LOAD, workflow)
    (gate,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "PerfusionConceptGate")
    assert {name: link for name, link in gate.items() if name.startswith("concepts.")} == expected
