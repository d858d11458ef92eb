"""What a template is, and the sizes of the nodes that most of them have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .prompts import Prompt

Box = tuple[int, int, int, int]  # left, top, width, height of a node without its title bar

NOTE = "note"
LOADER = 266  # height of Load Perfusion Concept; below it is room for its line of text and its picture
GROWN_LOADER = 536  # with both of these
GATE = 146  # with room for what it tells of a run
DEMO = 98  # of Load Perfusion Demo Model, in the newer of the two ways in which the host draws nodes the higher


@dataclass(frozen=True)
class Template:
    """A template: its prompt, and for each node of it (and the note) its box; titles where the node's own says too
    little; names of nodes that are muted; groups by title; for app mode the inputs (node, name) and the node whose
    pictures are the result."""

    name: str
    prompt: Prompt
    note: str
    boxes: Mapping[str, Box]
    inputs: tuple[tuple[str, str], ...]
    result: str
    titles: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Box] = field(default_factory=dict)
    muted: tuple[str, ...] = ()
