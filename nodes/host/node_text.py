"""The line of text under a node, as the front end draws it."""

from __future__ import annotations

import html
import textwrap

from server import PromptServer

LINE_LENGTH, SEPARATOR = 38, " · "  # of a line of text: characters, and what stands between its parts


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
