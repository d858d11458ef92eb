"""Translations of the nodes' texts: all of them, nothing else, with the facts of the English, and not older than it.

That locales/en is what the nodes say is held by tests/host/test_english_locale.py.
"""

from __future__ import annotations

import copy
import json
import re
import unicodedata

import pytest
from by_location import REPOSITORY

from dev_tools import locales

ENGLISH = locales.read("en")
RECORD = locales.read_record()
LANGUAGES = sorted(path.parent.name for path in locales.LOCALES.glob("*/nodeDefs.json") if path.parent.name != "en")
SCHEMAS = json.loads((REPOSITORY / "tests" / "host" / "node_schemas.json").read_text(encoding="utf-8"))["nodes"]
each_language = pytest.mark.parametrize("language", LANGUAGES)

# In columns, of which a Chinese sign takes two: what a tooltip, the title of a node and a widget's label have room for.
MOST_COLUMNS = {"tooltip": 340, "description": 340, "display_name": 46, "name": 28}
# The front end takes texts for messages in which these mean something; old ones break at an empty pair of braces.
SYNTAX = set("{}@|")
FACT = re.compile(
    r"""
    <\w+>                            # a word for prompts
    | (?<![\w.])-?\d+(?:\.\d+)*      # a number
    | \w+[/_]\w+ | \*?\.\w+\.\w+     # a folder, an input, a file
    | \b(?:[A-Z]{2,}\w*|LoRA)\b      # what is written so everywhere: CLIP, CFG
    | ->
    """,
    re.VERBOSE,
)


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def shape(texts: object) -> object:
    """Names and their order, without the texts."""
    return [(name, shape(found)) for name, found in texts.items()] if isinstance(texts, dict) else None


def options_of(path: str) -> list[str]:
    """What an input lets one choose; it is not translated."""
    node_id, *within = path.split(".")
    found = [one for one in SCHEMAS[node_id]["inputs"] if within == ["inputs", one["id"]]]
    return [option for one in found for option in one.get("options", ()) if isinstance(option, str)]


def facts(path: str, text: str) -> set[str]:
    """What a text says that every language says in the same signs."""
    options = {option for option in options_of(path) if re.search(rf"\b{re.escape(option)}\b", text)}
    return {found[0] for found in FACT.finditer(text)} | options


def named(node_id: str, text: str, texts: locales.Texts) -> list[str]:
    """What these texts call the nodes, and the inputs of this node, that an English text names."""
    labels = ENGLISH[node_id].get("inputs", {})
    inputs = [name for name in labels if "_" in name and re.search(rf"\b{name}\b", text)]
    nodes = [other for other, words in ENGLISH.items() if words["display_name"] in text]
    return [texts[node_id]["inputs"][name]["name"] for name in inputs] + [texts[node]["display_name"] for node in nodes]


def lost(texts: locales.Texts) -> list[str]:
    """What the English says and a translation does not, by its path."""
    found = []
    for (path, english), (_, words) in zip(locales.units(ENGLISH), locales.units(texts), strict=True):
        for kind in set(english) - {"name", "display_name"}:
            expected = [*facts(path, english[kind]), *named(path.split(".")[0], english[kind], texts)]
            found += [f"{path} {kind} lacks {one}" for one in expected if one not in words[kind]]
    return found


def test_there_are_translations():
    assert {"ja", "zh"} <= set(LANGUAGES)


@each_language
def test_every_node_input_and_output_is_there_in_the_same_order_and_nothing_else(language):
    assert shape(locales.read(language)) == shape(ENGLISH)


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_files_are_written_in_one_way(language):
    texts = locales.read(language)
    assert locales.file_of(language).read_text(encoding="utf-8") == locales.written(texts)
    for path, words in locales.units(texts):
        for kind, text in words.items():
            assert text == text.strip() and not re.search(r"\s{2,}|\n", text) and text, f"{path} {kind}"
            assert not SYNTAX & set(text), f"{path} {kind}: {text}"
            assert columns(text) <= MOST_COLUMNS[kind], f"{path} {kind} has {columns(text)} columns"


@each_language
def test_a_translation_says_what_the_english_says(language):
    assert not lost(locales.read(language))


@each_language
def test_a_translation_is_not_older_than_the_english(language):
    """Translate what is listed, then `python dev_tools/locales.py --translated LANGUAGE`."""
    assert not locales.stale(language, RECORD, ENGLISH)


@each_language
def test_inputs_of_one_node_have_different_names(language):
    for node_id, node in locales.read(language).items():
        names = [words["name"] for words in node.get("inputs", {}).values() if "name" in words]
        assert len(names) == len(set(names)), node_id


def test_what_a_translation_lost_is_seen():
    texts = copy.deepcopy(ENGLISH)
    assert not lost(texts)
    bias = texts["PerfusionLoadConcept"]["inputs"]["bias"]
    bias["tooltip"] = bias["tooltip"].replace("0.85", "0,85")
    texts["PerfusionDemoModel"]["display_name"] = "Load the demo"
    texts["PerfusionLabelGrid"]["display_name"] = "Grid"
    found = lost(texts)
    assert "PerfusionLoadConcept.inputs.bias tooltip lacks 0.85" in found
    assert "PerfusionGateSweep.outputs.1 tooltip lacks Grid" not in found  # as a part of "Label Grid"
    assert len(found) == 1
    assert "Custom" in facts("PerfusionTrainConcept.inputs.preset", "and Custom takes the advanced inputs")


def test_a_changed_english_text_makes_its_translations_stale():
    now = copy.deepcopy(ENGLISH)
    record = {"zh": locales.fingerprints(ENGLISH)}
    assert not locales.stale("zh", record, now)
    now["PerfusionLoadConcept"]["inputs"]["bias"]["tooltip"] += " Or not."
    now["PerfusionDemoModel"]["description"] += " Or not."
    assert locales.stale("zh", record, now) == ["PerfusionLoadConcept.inputs.bias", "PerfusionDemoModel"]
    assert len(locales.stale("eo", record, now)) == len(locales.fingerprints(now))
