#!/usr/bin/env python3
"""Two commands for people who work on this pack, or want to see it work before they install it.

    python dev.py demo      draw the tour picture through a real ComfyUI
    python dev.py test      run every test

Needs Python 3.10 and nothing else; `python dev.py --help` says more.
"""

import os
import sys

# This file is read by whatever Python the user happens to have, so that it can say what is wrong with it:
# nothing here may use syntax or modules newer than Python 2.7.
OLDEST_PYTHON = (3, 10)


def main():
    if sys.version_info < OLDEST_PYTHON:
        sys.stderr.write(
            "dev.py needs Python %d.%d or newer and was started with Python %d.%d (%s): start it with a newer one, "
            "for example `python3.12 dev.py`.\n" % (OLDEST_PYTHON + sys.version_info[:2] + (sys.executable,))
        )
        return 1
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from dev_tools.command_line import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
