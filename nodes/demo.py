"""The embedded demo model and pictures of its things, so that every template runs without a file or a download."""

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..demo.load import load_demo_model
from ..demo.world.things import THINGS, thing_pictures
from .advice import DEMO_CFG
from .declared import as_declared
from .host.old_hosts import choice, search_aliases
from .types import CATEGORY

DEMO = f"{CATEGORY}/demo"


class DemoModel(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionDemoModel",
            display_name="Load Perfusion Demo Model",
            category=DEMO,
            description="Loads a tiny text-to-image model that is part of this pack. It paints toys, 128 x 128, in a "
            "second or two on any computer; prompts such as: a red striped teddy with a hat on the beach.",
            **search_aliases("demo", "checkpoint", "example model"),
            inputs=[],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip=f"The demo model; use 128 x 128 latents, 20 steps and a CFG of about {DEMO_CFG:g}.",
                ),
                io.Clip.Output(
                    display_name="clip", tooltip="Its text encoder, which knows the words of the demo world only."
                ),
                io.Vae.Output(display_name="vae", tooltip="Its autoencoder."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo_model())


class DemoPictures(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionDemoPictures",
            display_name="Draw Demo Pictures",
            category=DEMO,
            description="Draws pictures of a toy of the demo world, with masks, to train a concept on: a stand-in for "
            "your own photos.",
            **search_aliases("demo", "training pictures", "dataset"),
            inputs=[
                choice(
                    "thing",
                    options=list(THINGS),
                    default="hugsy",
                    tooltip="The toy to draw. Words cannot describe it; that is why it is trained.",
                ),
                io.Int.Input(
                    "count", default=5, min=1, max=64, tooltip="How many pictures; five are plenty, one works."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Another seed gives other poses and places.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures, 128 x 128."),
                io.Mask.Output(display_name="masks", tooltip="White where the toy is."),
                io.String.Output(display_name="superclass", tooltip="The superclass of the toy, such as teddy."),
            ],
        )

    @classmethod
    @as_declared
    def execute(cls, thing: str, count: int, seed: int) -> io.NodeOutput:
        pictures, masks = zip(*thing_pictures(thing, count, seed), strict=True)
        return io.NodeOutput(
            torch.stack([_tensor(p) for p in pictures]),
            torch.stack([_tensor(m) for m in masks]),
            THINGS[thing].category,
        )


def _tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)
