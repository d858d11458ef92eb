"""Do pictures painted in bfloat16 read as those in float32?  Compares what a cache has in both, method by method.

    python benchmarks/quality/run.py --cache DIR --only tune --precision float32      paint some in float32 too
    python benchmarks/quality/precision.py --cache DIR

Raw shares and cosines, before any normalisation, of the same trainings at the same knob from the same noise."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

if not __package__:  # started as a script: the folder's modules are a package named quality
    __package__ = "quality"
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import quality  # noqa: F401

import numpy as np

from .cache import Cache, key
from .measures import attribute_share
from .tables import markdown

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    print(markdown(table(Cache(parser.parse_args().cache, None))))


def table(cache: Cache) -> list[dict[str, Any]]:
    """One row for each method of which the cache has readings in both precisions."""
    twins: dict[str, dict[str, Any]] = defaultdict(dict)
    for note in cache.notes():
        facts = note["facts"]
        if note["kind"] == "reading":
            painting = facts["painting"]
            alike = {**facts, "painting": {name: value for name, value in painting.items() if name != "precision"}}
            twins[key(alike)][painting["precision"]] = facts
    differences = defaultdict(list)
    for both in twins.values():
        if set(both) == set(PRECISIONS):
            one, other = (_columns(cache, both[precision]) for precision in PRECISIONS)
            differences[both["float32"]["painting"]["training"]["method"]].append((one, other))
    rows = []
    for method, pairs in sorted(differences.items()):
        found = np.concatenate([np.stack(pair, axis=1) for pair in pairs])  # [pictures, 2, columns]
        means = found.mean(axis=0)
        row: dict[str, Any] = {"method": method, "pictures": len(found)}
        for column, name in enumerate(("asked attributes found", "cosine to the thing", "nearest is the thing")):
            row[name] = " / ".join(f"{means[index, column]:.3f}" for index in range(2))
        rows.append(row)
    return rows


def _columns(cache: Cache, facts: dict[str, Any]) -> np.ndarray:
    """[pictures, columns] of a finished reading."""
    with cache.closed():
        rows = cache.numbers("reading", facts, lambda: None)
    return np.array([(attribute_share(r["found"]), r["look"], r["nearest"] == facts["thing"]) for r in rows])


if __name__ == "__main__":
    main()
