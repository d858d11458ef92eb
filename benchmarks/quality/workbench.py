"""The demo model behind the host's classes, the recogniser, and the hashes that name them in the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .cache import Cache

REPOSITORY = Path(__file__).resolve().parents[2]
PACK = "perfusion_pack"
MODEL_WEIGHTS = ("unet.safetensors", "text.safetensors", "vae.safetensors", "vocabulary.json")


def start_host(device: str = "auto") -> None:
    """Make the host and the pack importable, as the demo's scripts do; `device` is "auto" or "cpu"."""
    if PACK in sys.modules:  # a test has done it
        return
    spec = importlib.util.spec_from_file_location("demo_host", REPOSITORY / "demo" / "host.py")
    demo_host = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo_host)
    demo_host.use_comfyui()
    if device == "cpu":
        from comfy.cli_args import args

        args.cpu = True
    demo_host.load_pack()
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a method is given to learn from: pictures [P, 3, H, W] with true masks [P, H, W], in 0..1, of one thing."""

    thing: str
    word: str
    superclass: str
    pictures: Tensor
    masks: Tensor


@dataclass(eq=False)
class Workbench:
    """Everything the experiments work with."""

    model: Any
    clip: Any
    vae: Any
    recogniser: Any
    hashes: dict[str, str]
    cache: Cache
    sampling_steps: int = 20
    cfg: float = 3.0
    batch: int = 24  # pictures sampled at once
    _memory: dict[Any, Any] = field(default_factory=dict)

    @property
    def model_hashes(self) -> dict[str, str]:
        """The hashes of what a training or a painting depends on; a new recogniser only needs new readings."""
        return {name: self.hashes[name] for name in MODEL_WEIGHTS}

    def lesson(self, thing: str, pictures: int = 5) -> Lesson:
        """The training pictures of a thing of the demo world."""
        from perfusion_pack.demo.candidates import thing_tensors
        from perfusion_pack.demo.world.things import THINGS

        return Lesson(thing, f"<{thing}>", THINGS[thing].category, *thing_tensors(thing, pictures))

    def statistics(self, captions: int) -> Any:
        """Text statistics over so many captions of the demo world; none = the plain inner product (C = I)."""
        from perfusion_pack.demo.load import world_captions
        from perfusion_pack.nodes.host.text_statistics import encoder_hash, measure_statistics
        from perfusion_pack.perfusion_core.statistics import statistics_from_moment

        if ("statistics", captions) not in self._memory:
            if captions:
                with torch.inference_mode():
                    made = measure_statistics(self.clip, world_captions(captions), lambda done, total: None)
            else:
                made = statistics_from_moment(torch.eye(_encoding_width()), 0, encoder_hash(self.clip))
            self._memory["statistics", captions] = made
        return self._memory["statistics", captions]

    @torch.inference_mode()
    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Latents of pictures [B, 3, H, W] in 0..1."""
        return self.vae.encode(pictures.movedim(1, -1))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1, on the CPU."""
        parts = [self.vae.decode(part.float()).float().cpu() for part in latents.split(self.batch)]
        return torch.cat(parts).clamp(0, 1).movedim(-1, 1).contiguous()

    def reconstruct(self, pictures: Tensor) -> Tensor:
        """What the autoencoder makes of pictures [B, 3, H, W]: no picture of the model can be nearer to them."""
        return self.decode(self.encode_pictures(pictures))

    def remembered(self, name: Any, make: Any) -> Any:
        """What `make` gives, made once while this workbench lives."""
        if name not in self._memory:
            self._memory[name] = make()
        return self._memory[name]


def open_workbench(cache: Cache, sampling_steps: int = 20) -> Workbench:
    """Load everything; call `start_host` first."""
    from perfusion_pack.demo import load, recogniser

    folder = load.WEIGHTS
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16]
        for name in (*MODEL_WEIGHTS, recogniser.WEIGHTS.name)
    }
    with torch.inference_mode():
        model, clip, vae = load.load_demo_model()
    batch = 24 if model.load_device.type == "cpu" else 96
    return Workbench(model, clip, vae, recogniser.load_recogniser(), hashes, cache, sampling_steps, batch=batch)


def _encoding_width() -> int:
    from perfusion_pack.demo.model import ENCODING_WIDTH

    return ENCODING_WIDTH
