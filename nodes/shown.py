"""What a node shows under its inputs: one line of text, and the picture of a concept.

Both of the host's ways of drawing nodes draw the pictures of any node's output, but a text of the output for a few
nodes of its own only; so the line goes the way of the trainer's.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from .drawing import THEMES
from .host.node_text import say
from .host.old_hosts import ADVANCED, choice
from .pictures import opened, to_tensor


def shown(text: str, picture: bytes | None, cls: type[io.ComfyNode]) -> dict[str, Any]:
    """Show the line, and return what the node gives as its `ui`.

    picture: a JPEG file, as concepts carry it, or None.  cls: the node, with its id among its hidden inputs.
    """
    say(text, cls.hidden.unique_id)
    told: dict[str, Any] = ui.PreviewText(text).as_dict()
    image = opened(picture)
    if image is not None:
        told |= ui.PreviewImage(to_tensor(image), cls=cls).as_dict()
    return told


def with_picture(picture: Image.Image, text: str, cls: type[io.ComfyNode]) -> tuple[Tensor, dict[str, Any]]:
    """Show a picture that was drawn and a line; return the picture as an IMAGE, and what the node gives as its `ui`."""
    say(text, cls.hidden.unique_id)
    image = to_tensor(picture)
    return image, ui.PreviewText(text).as_dict() | ui.PreviewImage(image, cls=cls).as_dict()


def theme_input() -> io.Combo.Input:
    """The input of a node that draws a picture to be looked at in the node."""
    return choice(
        "theme",
        options=list(THEMES),
        default="dark",
        **ADVANCED,
        tooltip="Colours of the picture, to go with those of your front end.",
    )
