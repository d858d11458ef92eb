"""Perfusion for ComfyUI: key-locked, gated rank-one editing of cross-attention (SIGGRAPH 2023)."""

from .nodes.host.host_version import require_supported_host

require_supported_host()  # at once: a host that is too old never asks for the entry point, or fails on a schema


async def comfy_entrypoint():
    """Return the extension; called by ComfyUI when it loads the pack."""
    from .nodes.extension import PerfusionExtension

    return PerfusionExtension()
