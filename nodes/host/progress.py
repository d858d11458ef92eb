"""The host's progress bar, which also raises when the user presses Cancel."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
from PIL import Image
from server import PromptServer

# What the host raises where Cancel was pressed.
Interrupted = comfy.model_management.InterruptProcessingException

LINE_LENGTH, SEPARATOR = 38, " · "  # of a line of text: characters, and what stands between its parts


class NodeProgress:
    """The bar, the preview and the line of text under one node."""

    def __init__(self, total: int, node_id: str | None) -> None:
        self._bar = comfy.utils.ProgressBar(total, node_id=node_id)
        self._node_id = node_id

    def show(self, done: int, text: str = "", preview: Image.Image | None = None) -> None:
        """Move the bar to `done`, and show a picture in the node until the next one comes; raises the host's interrupt
        exception if Cancel was pressed."""
        if text:
            self.say(text)
        self._bar.update_absolute(done, preview=None if preview is None else ("JPEG", preview, None))
        # The bar asks for Cancel too, but only where it has something to send, which quick steps have not every time.
        comfy.model_management.throw_exception_if_processing_interrupted()

    def say(self, text: str) -> None:
        """Show a line of text in the node."""
        say(text, self._node_id)


def say(text: str, node_id: str | None) -> None:
    """Show a line of text under a node until the next one comes; it stays after the run.  node_id: None for nowhere."""
    server = getattr(PromptServer, "instance", None)  # absent where nodes run without a server, as in scripts
    if server is not None and node_id is not None:
        server.send_progress_text(for_the_front_end(text), node_id)


def for_the_front_end(text: str) -> str:
    """The text in lines that a node of the usual width holds, since the front end breaks longer ones within words; and
    escaped, since it is drawn as HTML, where <hugsy> would be a tag."""
    lines = [""]
    for part in text.replace("\n", SEPARATOR).split(SEPARATOR):
        longer = f"{lines[-1]}{SEPARATOR}{part}" if lines[-1] else part
        if len(longer) <= LINE_LENGTH:
            lines[-1] = longer
            continue
        # Nodes 2.0 passes over line ends, so the sign between two parts stays.
        lines[-1] += SEPARATOR.rstrip() if lines[-1] else ""
        lines += textwrap.wrap(part, LINE_LENGTH, break_long_words=False, break_on_hyphens=False)
    return html.escape("\n".join(line for line in lines if line), quote=False)


def memory_in_use() -> str:
    """How much of the memory that models run in is in use, by whatever program: "memory 5.2 of 24.0 GB"."""
    device = comfy.model_management.get_torch_device()
    total: Any = comfy.model_management.get_total_memory(device)  # a number, unless it is asked for more
    free: Any = comfy.model_management.get_free_memory(device)
    used = total - free
    return f"memory {used / 2**30:.1f} of {total / 2**30:.1f} GB"


def progress_over(node_id: str | None) -> Callable[[int, int], None]:
    """A function (done, total) that moves the node's bar, for work whose length shows only when it starts."""
    started: dict[str, Any] = {}

    def show(done: int, total: int) -> None:
        if "bar" not in started:
            started["bar"] = NodeProgress(total, node_id)
        started["bar"].show(done, f"Measuring text statistics: {done} of {total} captions")

    return show
