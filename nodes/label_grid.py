"""Label Grid: pictures of several runs side by side, each run under its label."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from .declared import as_declared
from .drawing import THEMES
from .grid_picture import labelled_grid, swept_grid
from .host.old_hosts import ADVANCED, choice, search_aliases
from .pictures import to_tensor
from .sweep import Sweep
from .types import CATEGORY, PerfusionSweep


class LabelGrid(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionLabelGrid",
            display_name="Label Grid",
            category=CATEGORY,
            description="One picture of a whole list of pictures, such as those of Sweep Gate Bias: a column for each "
            "label, a row for each picture of a batch; with a sweep connected, a table with the time of each row.",
            **search_aliases("contact sheet", "xy plot", "compare", "image grid"),
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="A list of batches, one for each label, as VAE Decode gives it."),
                io.String.Input(
                    "labels",
                    force_input=True,
                    tooltip="A list of texts, one for each batch; from Sweep Gate Bias.",
                ),
                io.Int.Input(
                    "columns",
                    default=0,
                    min=0,
                    max=64,
                    **ADVANCED,
                    tooltip="Labels side by side before a new line begins. Start with 0, which puts all on one line; "
                    "many columns make a very wide picture.",
                ),
                PerfusionSweep.Input(
                    "sweep",
                    optional=True,
                    tooltip="From Sweep Gate Bias: columns and rows as it made them, and how long each row took.",
                ),
                choice(
                    "theme",
                    options=list(THEMES),
                    default="light",
                    optional=True,
                    **ADVANCED,
                    tooltip="Colours of the paper and the labels, to go with those of your front end.",
                ),
            ],
            outputs=[io.Image.Output(display_name="grid", tooltip="The labelled picture.")],
        )

    @classmethod
    @as_declared
    def execute(
        cls,
        images: list[Tensor],
        labels: list[str],
        columns: list[int],
        sweep: list[Sweep] | None = None,
        theme: list[str] | None = None,
    ) -> io.NodeOutput:
        colours = (theme or ["light"])[0]
        if sweep:
            return io.NodeOutput(to_tensor(swept_grid(images, sweep[0], colours)))
        return io.NodeOutput(to_tensor(labelled_grid(images, labels, columns[0], colours)))
