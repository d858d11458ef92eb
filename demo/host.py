"""Finds ComfyUI and makes its classes importable from the demo's scripts (never used inside a running ComfyUI)."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

PACK = "perfusion_pack"


def use_comfyui() -> Path:
    """Put the ComfyUI named by COMFYUI_PATH, or the one in ~/comfy/ComfyUI, on the import path; returns its folder."""
    folder = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    if not (folder / "comfy").is_dir():
        raise SystemExit(f"No ComfyUI was found in {folder}: set COMFYUI_PATH to the folder that holds its main.py.")
    sys.path.insert(1, str(folder))
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    args.use_pytorch_cross_attention = True  # the sub-quadratic default on CPUs is slow to train through
    return folder


def load_pack() -> ModuleType:
    """Load the whole pack as a package, as ComfyUI loads a folder of custom nodes; call `use_comfyui` first."""
    if PACK not in sys.modules:
        folder = Path(__file__).resolve().parents[1]
        spec = importlib.util.spec_from_file_location(
            PACK, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = module
        spec.loader.exec_module(module)
    return sys.modules[PACK]
