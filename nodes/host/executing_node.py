"""Which node of the graph is running, for messages that name it."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context
from server import PromptServer


def executing_node() -> str | None:
    """Return the class of the node that the host runs now, such as "CLIPTextEncode"; None where that is not known.

    It is not known outside a graph, as in scripts, and of nodes that another node put into the graph while it ran.
    """
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return None
    for _, prompt_id, prompt, *_ in list(server.prompt_queue.currently_running.values()):
        if prompt_id == context.prompt_id and context.node_id in prompt:
            return prompt[context.node_id]["class_type"]
    return None
