"""pytest without the repository's root on sys.path.

`python -m pytest` would put the current folder there, and the pack's `nodes/` would then hide the host's `nodes.py`.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]
    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
