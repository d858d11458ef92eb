"""The mistake in which nothing of this pack runs: prompts with concepts are sampled by the MODEL from before the gate.

It is read off the graph when it is queued, since every node of it may come from the host's cache.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from server import PromptServer

GATE = "PerfusionConceptGate"
_MODEL_OUTPUT, _CLIP_OUTPUT = 0, 1

Link = tuple[str, int]  # a node and the number of its output

logger = logging.getLogger(__name__)

# By its name at run time: in this repository `nodes` is also the pack's own folder.
host_nodes: Any = importlib.import_module("nodes")


def tell_of_queued_prompts(tell: Callable[[str, str], None]) -> None:
    """Look at every graph that is queued from now on.  tell: is given the line and the gate node's id."""
    server = getattr(PromptServer, "instance", None)  # absent in scripts
    if server is None:
        return

    def on_prompt(queued: dict[str, Any]) -> dict[str, Any]:
        for gate, line in passed_by(queued.get("prompt", {})).items():
            logger.warning("Node %s, Apply Perfusion Concepts (Gate): %s.", gate, line)
            tell(line, gate)
        return queued

    server.add_on_prompt_handler(on_prompt)


def passed_by(prompt: Mapping[str, Any]) -> dict[str, str]:
    """What to say of each gate node of an API prompt whose CLIP is used for sampling but whose MODEL never is."""
    right: set[str] = set()
    wrong: dict[str, str] = {}
    gates = [name for name, node in prompt.items() if node.get("class_type") == GATE]
    for node in prompt.values() if gates else ():
        models, conditionings = (_links_of(prompt, node, kind) for kind in ("MODEL", "CONDITIONING"))
        if not models or not conditionings:
            continue  # no sampler and no guider
        of_model, of_prompts = set(_behind(prompt, models)), set(_behind(prompt, conditionings))
        for gate in gates:
            if (gate, _MODEL_OUTPUT) in of_model:
                right.add(gate)
            elif (gate, _CLIP_OUTPUT) in of_prompts:
                title = node.get("_meta", {}).get("title") or node["class_type"]
                wrong[gate] = f"{title} samples the MODEL from before this node; connect this node's model to it"
    # Who also samples the gate's MODEL compares the two.
    return {gate: line for gate, line in wrong.items() if gate not in right}


def _links_of(prompt: Mapping[str, Any], node: Mapping[str, Any], kind: str = "") -> list[Link]:
    """What the inputs of a node are linked to; kind: only what is of this type."""
    values = [value for value in node.get("inputs", {}).values() if isinstance(value, list) and len(value) == 2]
    links = [(str(name), number) for name, number in values]
    return [link for link in links if kind in ("", _type_of(prompt, link))]


def _type_of(prompt: Mapping[str, Any], link: Link) -> str:
    """The type of what a link carries, "" where it is not known."""
    node_class = host_nodes.NODE_CLASS_MAPPINGS.get(prompt.get(link[0], {}).get("class_type"))
    types = getattr(node_class, "RETURN_TYPES", ())
    return str(types[link[1]]) if isinstance(link[1], int) and link[1] < len(types) else ""


def _behind(prompt: Mapping[str, Any], links: list[Link]) -> Iterator[Link]:
    """These links and all that they depend on."""
    waiting, seen = [*links], set()
    while waiting:
        link = waiting.pop()
        if link not in seen and link[0] in prompt:
            seen.add(link)
            yield link
            waiting += _links_of(prompt, prompt[link[0]])
