"""The texts of the nodes in English as a file, and which translations are older than they.

    python dev_tools/locales.py                       writes locales/en; with the Python that runs ComfyUI
    python dev_tools/locales.py --translated zh ja    writes down that these now say what the English says

ComfyUI reads locales/<language>/nodeDefs.json.  What is in another language than English is written by hand, in the
order of the English file; translated_from.json holds a fingerprint of the English that each translation was made from.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Words = dict[str, str]  # such as {"name": ..., "tooltip": ...}
Texts = dict[str, dict[str, Any]]  # by node: display_name, description, inputs and outputs

REPOSITORY = Path(__file__).resolve().parents[1]
LOCALES = REPOSITORY / "locales"
RECORD = Path(__file__).with_name("translated_from.json")
# Of an input that grows, the sockets that get a tooltip: as many as old hosts show from the start.
GROWN = 4


def file_of(language: str) -> Path:
    return LOCALES / language / "nodeDefs.json"


def read(language: str) -> Texts:
    return json.loads(file_of(language).read_text(encoding="utf-8"))


def written(texts: Texts) -> str:
    """The one way in which these files are written."""
    return json.dumps(texts, ensure_ascii=False, indent=1) + "\n"


def english(schemas: Iterable[Any]) -> Texts:
    """The texts of these schemas (io.Schema) as the front end looks them up.

    An input is found by its id with "_" in the place of ".", an output by its number.
    """
    return {schema.node_id: _texts_of(schema) for schema in schemas}


def _texts_of(schema: Any) -> dict[str, Any]:
    inputs: dict[str, Words] = {}
    for one in schema.inputs:
        inputs[one.id] = {"name": one.display_name or one.id, "tooltip": one.tooltip}
        if hasattr(one, "template"):  # the front end has no tooltip for what grows but this one
            grown = one.get_all()[1 : 1 + GROWN]
            inputs |= {f"{one.id}_{socket.id}": {"tooltip": socket.tooltip} for socket in grown}
    outputs = {
        str(number): {"name": one.display_name, "tooltip": one.tooltip} for number, one in enumerate(schema.outputs)
    }
    texts = {"display_name": schema.display_name, "description": schema.description, "inputs": inputs}
    return {name: found for name, found in {**texts, "outputs": outputs}.items() if found}


def units(texts: Texts) -> Iterator[tuple[str, Words]]:
    """Whatever has words, by its path: a node with its title and description, an input, an output."""
    for node_id, node in texts.items():
        yield node_id, {name: found for name, found in node.items() if isinstance(found, str)}
        for kind in ("inputs", "outputs"):
            for name, words in node.get(kind, {}).items():
                yield f"{node_id}.{kind}.{name}", words


def fingerprint(words: Words) -> str:
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:8]


def fingerprints(texts: Texts) -> dict[str, str]:
    return {path: fingerprint(words) for path, words in units(texts)}


def stale(language: str, record: dict[str, dict[str, str]], now: Texts) -> list[str]:
    """Paths whose English is not what the translation was made from."""
    made_from = record.get(language, {})
    return [path for path, found in fingerprints(now).items() if made_from.get(path) != found]


def read_record() -> dict[str, dict[str, str]]:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def _schemas_of_the_pack() -> list[Any]:
    sys.path[0] = str(REPOSITORY / "benchmarks")  # what lies beside this file would hide modules of others
    importlib.import_module("open_pack").open_pack()
    pack = importlib.import_module("perfusion_pack")

    async def nodes() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return [node.GET_SCHEMA() for node in asyncio.run(nodes())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--translated", nargs="+", metavar="LANGUAGE", default=[], help="such as zh")
    languages = parser.parse_args().translated
    if languages:
        record = read_record() | {language: fingerprints(read("en")) for language in languages}
        RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n", encoding="utf-8")
        return
    file_of("en").parent.mkdir(parents=True, exist_ok=True)
    file_of("en").write_text(written(english(_schemas_of_the_pack())), encoding="utf-8")
    for language in sorted(path.parent.name for path in LOCALES.glob("*/nodeDefs.json") if path.parent.name != "en"):
        print(language, "is up to date" if not (old := stale(language, read_record(), read("en"))) else old)


if __name__ == "__main__":
    main()
