"""The host's progress bar, which also raises when the user presses Cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
from PIL import Image

from .node_text import say

# What the host raises where Cancel was pressed.
Interrupted = comfy.model_management.InterruptProcessingException


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


def progress_over(node_id: str | None, text: str) -> Callable[[int, int], None]:
    """A function (done, total) that moves the node's bar, for work whose length shows only when it starts.

    text: of the line below it, with a pair of braces for each of the two numbers.
    """
    started: dict[str, Any] = {}

    def show(done: int, total: int) -> None:
        if "bar" not in started:
            started["bar"] = NodeProgress(total, node_id)
        started["bar"].show(done, text.format(done, total))

    return show
