#!/usr/bin/env python3
"""Run the coexistence tests and write their numbers into benchmarks/coexistence.md.

    python benchmarks/coexistence.py [--report REPORT.xml]

Needs the environment of a ComfyUI with pytest. With --report the numbers are taken from a pytest report
(`--junitxml`) that is there already. Nothing is written unless every test of the report passed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_suffix(".md")
START, END = "<!-- table -->", "<!-- end of table -->"

# Property of a test -> heading of its column.
COLUMNS = {
    "concept closed": "concept closed",
    "two orders": "two orders",
    "reference": "reference",
    "partner at 0": "partner at 0",
    "concept's effect": "concept's effect",
    "partner's effect": "partner's effect",
}


def run_tests(report: Path) -> int:
    """Run the tests, which write their numbers into the report; return pytest's exit status."""
    tests = sorted(str(path) for path in (REPOSITORY / "tests" / "host").glob("test_coexistence_*.py"))
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *tests]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def read_pairs(report: Path) -> tuple[dict[str, dict[str, str]], int, int]:
    """Return the properties of every pair by its name, how many tests the report holds, and how many failed."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = sum(case.find(outcome) is not None for case in cases for outcome in ("failure", "error", "skipped"))
    pairs = {}
    for case in cases:
        properties = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        if "pair" in properties:
            pairs[properties.pop("pair")] = properties
    return pairs, len(cases), failed


def shown(value: str | None) -> str:
    """Return a number as the table shows it; an exact zero is no rounded one."""
    if value is None:
        return ""
    number = float(value)
    return "0" if number == 0 else f"{number:.1e}" if number < 1e-3 else f"{number:.2g}"


def table(pairs: dict[str, dict[str, str]]) -> str:
    """Return the Markdown table of the pairs, in the order of their names."""
    lines = [f"| pair | {' | '.join(COLUMNS.values())} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name in sorted(pairs, key=str.lower):
        numbers = [shown(pairs[name].get(key)) for key in COLUMNS]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, help="a pytest report that is there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = arguments.report or Path(folder) / "report.xml"
        if arguments.report is None and run_tests(report) != 0:
            print("Some tests failed; the table stays as it is.", file=sys.stderr)
            return 1
        pairs, count, failed = read_pairs(report)
    if failed or not pairs:
        print(f"{failed} of {count} tests did not pass; the table stays as it is.", file=sys.stderr)
        return 1
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{table(pairs)}\n\n{END}{after}", encoding="utf-8")
    print(f"{len(pairs)} pairs of {count} tests written to {PAGE.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
