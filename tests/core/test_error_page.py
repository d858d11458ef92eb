"""docs/errors.md lists every error that a person can cause, each with its sentence and its cure."""

from __future__ import annotations

import html
import re

import pytest
from by_location import REPOSITORY
from error_sentences import sentences
from test_architecture import CORE, NODES

PAGE = (REPOSITORY / "docs" / "errors.md").read_text(encoding="utf-8")
SENTENCES = sentences(REPOSITORY, ["__init__.py", *CORE, *NODES])


def rows(page: str) -> list[tuple[str, str]]:
    """The rows of the page's tables: what an error says, and what to do."""
    cells = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in page.splitlines() if line.startswith("| ")]
    assert all(len(row) == 2 for row in cells)
    said = [tuple(html.unescape(cell) for cell in row) for row in cells]
    return [row for row in said if row != ("what it says", "what to do")]


def parts(sentence: str) -> tuple[str, str]:
    """What a sentence says and, behind its semicolon, what to do, which begins a line of its own on the page."""
    says, _, cure = sentence.partition("; ")
    return says, cure[:1].upper() + cure[1:]


def missing(page: str, all_sentences: dict[str, str]) -> list[str]:
    """The sentences that the page lacks, or whose cure it does not begin with."""
    listed = rows(page)
    known = {sentence: parts(sentence) for sentence in all_sentences}
    return [s for s, (says, cure) in known.items() if not any(a == says and b.startswith(cure) for a, b in listed)]


def test_every_sentence_is_on_the_page():
    assert len(SENTENCES) > 100 and not missing(PAGE, SENTENCES)


def test_the_page_has_nothing_that_no_code_says():
    said = {parts(sentence)[0] for sentence in SENTENCES}
    assert not [row for row in rows(PAGE) if row[0] not in said]


def test_every_row_has_a_cure():
    assert not [says for says, cure in rows(PAGE) if len(cure) < 3]


@pytest.mark.parametrize("lost", ["The images input needs at least one picture", "Connect some."])
def test_a_lost_sentence_or_cure_is_seen(lost):
    assert len(missing(PAGE.replace(lost, "Something else"), SENTENCES)) == 1


def test_sentences_are_read_from_the_code(tmp_path):
    (tmp_path / "code.py").write_text(
        "class OwnError(PerfusionError): ...\n"
        "def refuse(name, found):\n"
        "    raise OwnError(f'The input {name} expected a word, but found {found!r}' + (x or '') + '; type one.')\n"
        "def other():\n"
        "    raise ValueError('of no concern to anybody here')\n"
        "def of_a_kind(step, kind: type[PerfusionError] = OwnError, note: str = ''):\n"
        "    return kind(f'The loss is no number at step {step}; train in float32.') or note('of no concern')\n"
    )
    assert list(sentences(tmp_path, ["code.py"])) == [
        "The input \u2026 expected a word, but found \u2026; type one.",
        "The loss is no number at step \u2026; train in float32.",
    ]
