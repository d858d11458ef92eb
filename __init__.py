"""Perfusion for ComfyUI: key-locked, gated rank-one editing of cross-attention (SIGGRAPH 2023)."""


async def comfy_entrypoint():
    """Return the extension; called by ComfyUI when it loads the pack."""
    from .nodes.extension import PerfusionExtension

    return PerfusionExtension()
