"""Starts one of the scripts in this folder, as a module of the pack:

    python demo/making/run.py NAME [options of the script]

The scripts import each other, the world and the pack by relative imports, so the pack has to be a package.  It is made
one from where it lies, because the repository's root must not be on sys.path: there, nodes/ would hide the host's own
nodes.py.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

PACK = "perfusion_pack"
FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parents[1]


def load_pack() -> ModuleType:
    """Make the pack importable as PACK, with or without a host, and return it."""
    if PACK not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACK, REPOSITORY / "__init__.py", submodule_search_locations=[str(REPOSITORY)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = module
        spec.loader.exec_module(module)
    return sys.modules[PACK]


def scripts() -> list[str]:
    """Names of the modules in this folder that can be started."""
    starts = re.compile(r"^def main\(", re.MULTILINE)
    return sorted(
        path.stem
        for path in FOLDER.glob("*.py")
        if path.stem != "run" and starts.search(path.read_text(encoding="utf-8"))
    )


def main() -> int | None:
    """Start the script that the command line names, and return its exit status."""
    if len(sys.argv) < 2 or sys.argv[1] not in scripts():
        raise SystemExit(f"usage: python demo/making/run.py NAME [options]\nNAME is one of {', '.join(scripts())}.")
    name = sys.argv.pop(1)
    sys.argv[0] += f" {name}"  # as argparse shows it
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (FOLDER, REPOSITORY)]
    load_pack()
    return importlib.import_module(f"{PACK}.demo.making.{name}").main()


if __name__ == "__mp_main__":  # a process of a pool, which finds its work by the pack's name
    load_pack()
if __name__ == "__main__":
    sys.exit(main())
