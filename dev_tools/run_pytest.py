"""pytest without the repository's root on sys.path.

`python -m pytest` would put the current folder there, and the pack's `nodes/` would then hide the host's `nodes.py`.
"""

import signal
import sys


def _interrupt(number, frame):
    raise KeyboardInterrupt


if __name__ == "__main__":
    del sys.path[0]
    # Stopped from outside, the fixtures still have to end the servers that they started.
    signal.signal(signal.SIGTERM, _interrupt)
    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
