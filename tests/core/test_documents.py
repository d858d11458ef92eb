"""The documents: short where they must be, no dead links, one vocabulary, every benchmark page in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_WORDS_OF_THE_README = 1000

FOLDERS = ("", "benchmarks", "benchmarks/quality", "benchmarks/quality/results", "demo", "docs", "web/docs")
DOCUMENTS = sorted(
    path.relative_to(REPOSITORY).as_posix() for folder in FOLDERS for path in (REPOSITORY / folder).glob("*.md")
)
INDEX = (REPOSITORY / "benchmarks" / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
USER_TEXTS = ["README.md", *(name for name in DOCUMENTS if name.startswith(("docs/", "web/docs/")))]


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text(encoding="utf-8")


def words(text: str) -> int:
    """How many words: what white space separates, but for signs such as the bars of a table."""
    return sum(bool(re.search(r"\w", part)) for part in text.split())


def test_the_readme_is_short():
    assert words(text_of("README.md")) <= MOST_WORDS_OF_THE_README


def test_signs_are_no_words():
    assert words("| a | `b c` | --- |\n- d") == 4


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    links = [link for link in LINK.findall(text_of(document)) if "://" not in link]
    dead = [link for link in links if not link.startswith("/extensions/") and not (
        (REPOSITORY / document).parent / link
    ).exists()]  # fmt: skip
    assert not dead


def test_every_page_of_the_benchmarks_is_in_the_index():
    pages = {
        path.relative_to(REPOSITORY / "benchmarks").as_posix() for path in (REPOSITORY / "benchmarks").glob("*.md")
    }
    pages |= {"quality/README.md", "quality/results/results.md"}
    assert pages - {"README.md"} == {link for link in LINK.findall(INDEX) if link.endswith(".md")}


def test_a_row_of_the_index_has_its_question_its_command_and_its_result():
    rows = [line.strip("|").split(" | ") for line in INDEX.splitlines() if line.startswith(("| [", "| How", "| Does"))]
    assert len(rows) >= 14
    for cells in rows:
        question, command, result = (cell.strip() for cell in cells[-3:])
        assert question and (command.startswith("`python ") or command.startswith("none: ")), cells
        assert result or command.startswith("none: "), cells
        for script in re.findall(r"python ([\w./]+\.py)", command):
            assert (REPOSITORY / script).is_file(), script


@pytest.mark.parametrize("document", USER_TEXTS)
def test_one_vocabulary(document):
    """A thing's superclass has one name; where the first lines explain it, they name it."""
    text = text_of(document)
    kinds = [line for line in text.splitlines() if re.search(r"(?i)\b(?:plain kind|its kind|kind of thing)\b", line)]
    assert all("superclass" in line for line in kinds), kinds
    assert not re.search(r"(?i)default before|with eyes|\balike\b|local lock|global lock|local key|global key", text)
