"""Where a template's nodes and wires lie on the canvas, computed from its file as the classic front end draws it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Workflow = Mapping[str, Any]

TITLE, SLOT, WIDGET = 30, 20, 24  # heights of a title bar, of a socket's row, and of a widget with its gap


class Box(NamedTuple):
    """A rectangle on the canvas; `grown` moves its edges outwards."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)

    def holds(self, x: float, y: float) -> bool:
        return self.left < x < self.right and self.top < y < self.bottom


def boxes(workflow: Workflow) -> dict[int, Box]:
    """Each node with its title bar, by its number."""
    return {
        node["id"]: Box(x, y - TITLE, x + width, y + height)
        for node in workflow["nodes"]
        for (x, y), (width, height) in [(node["pos"], node["size"])]
    }


def bounds(workflow: Workflow) -> Box:
    """What the front end fits into the page: all nodes."""
    all_boxes = list(boxes(workflow).values())
    return Box(*(edge(box[side] for box in all_boxes) for side, edge in enumerate((min, min, max, max))))


def fitting_scale(workflow: Workflow, width: float, height: float) -> float:
    """The scale at which the front end opens the template on such a page: in three quarters of it, with a margin of 10
    around the nodes."""
    around = bounds(workflow)
    return 0.75 * min(width / (around.right - around.left + 20), height / (around.bottom - around.top + 20))


def _end(node: Mapping[str, Any], index: int, side: str) -> tuple[float, float]:
    """Where a wire begins or ends.  Inputs of widgets have no row among the sockets; theirs lies in the middle of the
    widget, whose place is estimated."""
    (x, y), (width, _) = node["pos"], node["size"]
    if side == "outputs":
        return x + width - 9, y + (index + 0.7) * SLOT
    sockets = [one for one in node["inputs"] if "widget" not in one]
    if node["inputs"][index] in sockets:
        return x + 10, y + (sockets.index(node["inputs"][index]) + 0.7) * SLOT
    widgets = [one for one in node["inputs"] if "widget" in one]
    rows = max(len(sockets), len(node["outputs"]))
    return x + 10, y + rows * SLOT + (widgets.index(node["inputs"][index]) + 0.5) * WIDGET


def _curve(start: tuple[float, float], end: tuple[float, float], pieces: int = 60) -> Iterator[tuple[float, float]]:
    """The spline of a wire: it leaves to the right and arrives from the left, a quarter of its length each."""
    reach = 0.25 * ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    points = start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end
    for piece in range(pieces + 1):
        t = piece / pieces
        weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
        yield tuple(sum(w * point[axis] for w, point in zip(weights, points, strict=True)) for axis in (0, 1))


def hidden_wires(workflow: Workflow) -> list[tuple[str, str, str]]:
    """Wires that go under a node which is neither of their own two: (from, to, under)."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    places = boxes(workflow)
    found = []
    for _, source, output, target, index, _ in workflow["links"]:
        path = list(_curve(_end(nodes[source], output, "outputs"), _end(nodes[target], index, "inputs")))
        for number, box in places.items():
            if number not in (source, target) and any(box.holds(*point) for point in path):
                found.append(tuple(nodes[one].get("title") or nodes[one]["type"] for one in (source, target, number)))
    return found
