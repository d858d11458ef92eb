"""Perfusion for ComfyUI: key-locked, gated rank-one editing of cross-attention (SIGGRAPH 2023)."""

from .nodes.host.host_version import require_supported_host

require_supported_host()  # at once: a host that is too old never asks for the entry point, or fails on a schema


# The help pages.  By pyproject.toml alone the front end finds them only if the folder has the name of the project.
WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension; called by ComfyUI when it loads the pack."""
    from .nodes.extension import PerfusionExtension

    return PerfusionExtension()
