"""Finds ComfyUI and makes its classes importable from scripts (never used inside a running ComfyUI)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ...nodes.host.host_version import require_supported_host


def use_comfyui() -> Path:
    """Put the ComfyUI named by COMFYUI_PATH, or the one in ~/comfy/ComfyUI, on the import path; returns its folder.

    Raises SystemExit where there is none, and PerfusionError where it is too old for the pack.
    """
    folder = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    if not (folder / "comfy").is_dir():
        raise SystemExit(f"No ComfyUI was found in {folder}: set COMFYUI_PATH to the folder that holds its main.py.")
    sys.path.insert(0, str(folder))
    require_supported_host()
    import torch
    import utils.extra_config  # noqa: F401  first, as in main.py: nodes.py puts comfy/ with its utils.py before it
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    args.use_pytorch_cross_attention = True  # the sub-quadratic default on CPUs is slow to train through
    return folder
