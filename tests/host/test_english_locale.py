"""locales/en is what the nodes say: `python dev_tools/locales.py` writes it."""

from __future__ import annotations

from comfy_api.latest import io
from needs_host import needs_host
from test_nodes import SCHEMAS

from dev_tools import locales


@needs_host("0.8.0", "a socket that grows", hasattr(io, "Autogrow"))
def test_the_english_file_is_what_the_nodes_say():
    assert locales.file_of("en").read_text(encoding="utf-8") == locales.written(locales.english(SCHEMAS.values()))
