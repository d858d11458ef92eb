"""Is this ComfyUI new enough?  Asked while the pack is imported, before anything else of the host is touched.

Hosts too old for comfy_entrypoint would otherwise pass the pack over without a word, and those in between would name an
attribute that their node schema lacks.
"""

from __future__ import annotations

import importlib.util
import re
import sys

from ...perfusion_core.errors import PerfusionError

# The oldest version on which the host tests pass; the same as requires-comfyui in pyproject.toml.
OLDEST_HOST = "0.3.75"


def require_supported_host() -> None:
    """Raise PerfusionError, one sentence, if the pack is being loaded by a ComfyUI that is too old for it.

    Outside ComfyUI, as in a script that only reads concept files, there is nothing to check.
    """
    found = host_version()
    if found is None and "folder_paths" not in sys.modules:
        return
    if not is_supported(found) or not _has_node_schema():
        raise PerfusionError(
            f"Perfusion needs ComfyUI {OLDEST_HOST} or newer with the V3 node schema (comfy_api.latest), but this is"
            f" {host_name()}; update ComfyUI and start it again."
        )


def host_version() -> str | None:
    """Return the host's version, such as "0.33.0", or None outside ComfyUI and in one older than 0.3.11."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return None
    return str(__version__)


def host_name() -> str:
    """The host with its version, to be told and not to be decided by: "ComfyUI 0.33.0"."""
    return f"ComfyUI {host_version() or 'of a version that does not tell its number'}"


def is_supported(version: str | None, oldest: str = OLDEST_HOST) -> bool:
    """Say whether a version, such as "0.33.0", "v0.12" or "0.12.0-nightly", is the oldest supported one or newer.

    Only the numbers in front count: a nightly build holds what the version after it will.
    """
    return version is not None and _numbers(version) >= _numbers(oldest)


def _numbers(version: str) -> tuple[int, int, int]:
    """Return major, minor and patch; what is missing counts as 0."""
    match = re.match(r"\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    major, minor, patch = (int(number or 0) for number in match.groups()) if match else (0, 0, 0)
    return major, minor, patch


def _has_node_schema() -> bool:
    try:
        return importlib.util.find_spec("comfy_api.latest") is not None
    except ImportError:  # not even comfy_api
        return False
