"""The demo model behind the host's classes, the recogniser, and the hashes that name them in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .cache import Cache
from .plan import VARIED

PACK = "perfusion_pack"
MODEL_WEIGHTS = ("unet.safetensors", "text.safetensors", "vae.safetensors", "vocabulary.json")


def start_host(device: str = "auto") -> None:
    """Make the host and the pack importable, as the demo's scripts do; `device` is "auto" or "cpu"."""
    if PACK in sys.modules:  # a test has done it
        return
    from open_pack import open_pack  # in the folder around this package, from which its commands import it

    open_pack()
    if device == "cpu":
        from comfy.cli_args import args

        args.cpu = True
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
    """Everything the experiments work with.

    model: in float32, on which methods train.  painter: the same model in the precision in which pictures are painted,
    on which methods are applied."""

    model: Any
    painter: Any
    clip: Any
    vae: Any
    recogniser: Any
    hashes: dict[str, str]
    cache: Cache
    precision: str = "float32"  # of the painter
    sampler: str = "euler"
    sampling_steps: int = 20
    cfg: float = 3.0
    batch: int = 24  # pictures sampled at once
    strict: bool = True  # whether likeness is read with the strict instrument
    _memory: dict[Any, Any] = field(default_factory=dict)

    @property
    def model_hashes(self) -> dict[str, str]:
        """The hashes of what a training or a painting depends on; a new recogniser only needs new readings."""
        return {name: self.hashes[name] for name in MODEL_WEIGHTS}

    @property
    def sampling(self) -> dict[str, Any]:
        """How pictures are painted, as a part of the facts of every painting."""
        return {"sampler": self.sampler, "steps": self.sampling_steps, "cfg": self.cfg, "precision": self.precision,
                "weights": self.model_hashes}  # fmt: skip

    def exact(self) -> Workbench:
        """The same workbench, painting in float32."""
        return dataclasses.replace(self, painter=self.model, precision="float32")

    def lesson(self, thing: str, condition: str = VARIED) -> Lesson:
        """The training pictures of a thing of the demo world, taken under the condition."""
        from perfusion_pack.demo.world.things import THINGS

        from .conditions import training_pictures

        return Lesson(thing, f"<{thing}>", THINGS[thing].category, *training_pictures(thing, condition))

    def statistics(self, captions: int) -> Any:
        """Text statistics over so many captions of the demo world; none = the plain inner product (C = I)."""
        from perfusion_pack.demo.load import world_captions
        from perfusion_pack.nodes.host.text.statistics import encoder_hash, measure_statistics
        from perfusion_pack.perfusion_core.text_statistics import statistics_from_moment

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
        """Pictures [B, 3, H, W] in 0..1, on the CPU.  On a CPU the autoencoder computes in the painter's precision."""
        half = self.precision == "bfloat16" and self.vae.device.type == "cpu"
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
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


def open_workbench(
    cache: Cache, sampling_steps: int = 20, sampler: str = "euler", precision: str = "float32", strict: bool = True
) -> Workbench:
    """Load everything; call `start_host` first.  precision: in which pictures are painted, "float32" or "bfloat16".
    strict: see `Workbench`."""
    from perfusion_pack.demo import load
    from perfusion_pack.demo.making import recogniser
    from perfusion_pack.demo.making.trained_weights import TRAINED, trained_file

    files = [*map(trained_file, MODEL_WEIGHTS), recogniser.WEIGHTS]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}
    with torch.inference_mode():
        model, clip, vae = load.load_demo_model(TRAINED)
        painter = model if precision == "float32" else _in_half_precision(model)
        if model.load_device.type == "cpu":
            vae.first_stage_model.to(memory_format=torch.channels_last)  # its convolutions are a quarter faster
    return Workbench(
        model, painter, clip, vae, recogniser.load_recogniser(), hashes, cache, precision, sampler, sampling_steps,
        batch=24 if model.load_device.type == "cpu" else 96, strict=strict,
    )  # fmt: skip


def _in_half_precision(model: Any) -> Any:
    """The UNet of the demo model again, in bfloat16: what is learned and patched stays in float32 around it."""
    import comfy.model_base
    from perfusion_pack.demo.model import unet_config
    from perfusion_pack.nodes.host.old_hosts import core_patcher

    config = unet_config()
    config.set_inference_dtype(torch.bfloat16, None)
    base = comfy.model_base.BaseModel(
        config, model_type=comfy.model_base.ModelType.V_PREDICTION, device=model.offload_device
    )
    base.diffusion_model.load_state_dict(model.model.diffusion_model.state_dict())
    return core_patcher()(base, load_device=model.load_device, offload_device=model.offload_device)


def _encoding_width() -> int:
    from perfusion_pack.demo.model import ENCODING_WIDTH

    return ENCODING_WIDTH
