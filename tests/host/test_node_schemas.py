"""What saved workflows depend on stays as it was recorded: the nodes, their inputs and their outputs.

`node_schemas.json` holds all of a schema but its texts for people (tooltips, descriptions, search aliases), as ComfyUI
0.33.0 gives it.  What is recorded never changes; nodes, options and optional inputs at the end may be added, and are
recorded by running this file once with PERFUSION_RECORD_SCHEMAS=1.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from comfy_api.latest import io
from test_nodes import SCHEMAS

FILE = Path(__file__).with_name("node_schemas.json")
TEXTS = {"tooltip", "description", "search_aliases"}
AUTOGROW = "COMFY_AUTOGROW_V3"
# Their options are the files and folders of the moment.
LISTED_FILES = {("PerfusionLoadConcept", "concept_file"), ("PerfusionLoadPictures", "folder")}
LISTED_FILES |= {("PerfusionKeptSteps", "training")}

RECORD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"host": "", "nodes": {}}


def without_texts(value: Any) -> Any:
    """A copy without what is said to people, as JSON has it."""
    if isinstance(value, dict):
        return {name: without_texts(part) for name, part in value.items() if name not in TEXTS}
    return [without_texts(part) for part in value] if isinstance(value, list | tuple) else value


def described(schema: io.Schema) -> dict[str, Any]:
    """All of a schema that a workflow or a prompt can depend on."""
    inputs = []
    for one in schema.inputs:
        known = without_texts(one.as_dict())
        if (schema.node_id, one.id) in LISTED_FILES:
            known.pop("options")
        kind = "COMBO" if isinstance(one, io.Combo.Input) else one.get_io_type()  # the list itself on old hosts
        inputs.append({"id": one.id, "type": kind, "optional": bool(one.optional), **known})
    outputs = [{"id": one.id, "type": one.get_io_type(), **without_texts(one.as_dict())} for one in schema.outputs]
    return {
        "display_name": schema.display_name,
        "category": schema.category,
        "is_output_node": schema.is_output_node,
        "is_input_list": schema.is_input_list,
        "hidden": [hidden.name for hidden in schema.hidden or []],  # None on old hosts
        "inputs": inputs,
        "outputs": outputs,
    }


def recording_host() -> bool:
    """Whether this is the host of the record; others may know fewer fields of a schema, or more."""
    return host_version() == RECORD["host"]


def host_version() -> str:
    return importlib.import_module("perfusion_pack.nodes.host.host_version").host_version()


def differences(recorded: Any, found: Any, where: str, same_host: bool) -> list[str]:
    """Where the found one is not what was recorded; on another host fields that only one has are passed over."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        absent = [f"{where} lacks {name}" for name in recorded if name not in found and same_host]
        added = [f"{where} has {name}" for name in found if name not in recorded and same_host]
        both = [name for name in recorded if name in found]
        return absent + added + [d for n in both for d in differences(recorded[n], found[n], f"{where}.{n}", same_host)]
    if where.endswith(".options"):
        return [f"{where} lacks {option}" for option in recorded if option not in found]
    return [] if recorded == found else [f"{where}: {recorded!r} was recorded, {found!r} found"]


def changes(node_id: str, found: dict[str, Any], same_host: bool = True, autogrow: bool = True) -> list[str]:
    """All that a saved workflow or prompt with this node would trip over.

    autogrow: whether the host has inputs that grow; before it had, they are made of others."""
    recorded = RECORD["nodes"][node_id]
    head = [{name: d[name] for name in d if name not in ("inputs", "outputs")} for d in (recorded, found)]
    result = differences(*head, node_id, same_host)
    for kind in ("inputs", "outputs"):
        by_id = {one["id"]: one for one in found[kind]}
        for one in recorded[kind]:
            where = f"{node_id}.{one['id']}"
            if one["id"] in by_id:
                result += differences(one, by_id[one["id"]], where, same_host)
            elif one["type"] != AUTOGROW or autogrow:
                result.append(f"{where} is gone")
    if autogrow:  # saved workflows hold the values of widgets in this order, and no value for a new required input
        for optional in (False, True):
            before, now = ([one["id"] for one in d["inputs"] if one["optional"] == optional] for d in (recorded, found))
            if now[: len(before)] != before or (not optional and len(now) > len(before)):
                result.append(f"{node_id}: the {'optional' if optional else 'required'} inputs {before} became {now}")
    return result


@pytest.mark.parametrize("node_id", RECORD["nodes"])
def test_what_was_recorded_is_as_it_was(node_id):
    assert node_id in SCHEMAS
    assert not changes(node_id, described(SCHEMAS[node_id]), recording_host(), hasattr(io, "Autogrow"))


def test_all_is_recorded():
    found = {node_id: described(schema) for node_id, schema in SCHEMAS.items()}
    if os.environ.get("PERFUSION_RECORD_SCHEMAS"):
        broken = [change for node_id in RECORD["nodes"] for change in changes(node_id, found[node_id])]
        assert not broken, "only what is new can be recorded"
        RECORD.update(host=host_version(), nodes=found)
        FILE.write_text(json.dumps(RECORD, indent=1) + "\n", encoding="utf-8")
    assert set(found) == set(RECORD["nodes"])
    if recording_host():
        assert found == RECORD["nodes"]


def test_a_change_is_seen():
    """The comparison itself: each kind of change that breaks a workflow is found, what may be added is not."""
    node_id = "PerfusionTrainConcept"

    def after(change: Any, same_host: bool = True) -> list[str]:
        found = json.loads(json.dumps(RECORD["nodes"][node_id]))
        change(found)
        return changes(node_id, found, same_host)

    def input_of(found: dict[str, Any], name: str) -> dict[str, Any]:
        return next(one for one in found["inputs"] if one["id"] == name)

    optional = {"id": "new", "type": "INT", "optional": True}
    assert not after(lambda found: None)
    assert not after(lambda found: found["inputs"].append(optional))
    assert not after(lambda found: input_of(found, "preset")["options"].append("Another"))
    assert not after(lambda found: input_of(found, "flip").pop("advanced"), same_host=False)
    assert after(lambda found: input_of(found, "flip").pop("advanced"))
    assert after(lambda found: input_of(found, "seed").update(default=1), same_host=False)
    assert after(lambda found: input_of(found, "preset")["options"].remove("Paper"), same_host=False)
    assert after(lambda found: found["inputs"].remove(input_of(found, "resume")), same_host=False)
    assert after(lambda found: found["inputs"].insert(0, {**optional, "optional": False}))
    assert after(lambda found: found["inputs"].insert(0, optional))
    assert after(lambda found: found["outputs"].pop())
    assert after(lambda found: found.update(display_name="Train"))
