"""Makes ComfyUI and the pack importable for the scripts beside this file, as for those of the demo."""

from __future__ import annotations

import importlib.util
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parents[1] / "demo" / "making" / "run.py"


def open_pack() -> None:
    """After this `comfy...` and `perfusion_pack...` can be imported, and the repository's root is not on sys.path."""
    spec = importlib.util.spec_from_file_location("demo_launcher", LAUNCHER)
    launcher = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launcher)
    launcher.load_pack()
    from perfusion_pack.demo.making.host import use_comfyui

    use_comfyui()
