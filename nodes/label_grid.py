"""Label Grid: pictures of several runs side by side, each run under its label."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..perfusion_core.errors import PerfusionError
from .declared import as_declared
from .host.old_hosts import ADVANCED, search_aliases
from .pictures import to_image, to_tensor
from .types import CATEGORY

GAP = 4
INK, PAPER = (30, 30, 36), (250, 250, 248)


class LabelGrid(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionLabelGrid",
            display_name="Label Grid",
            category=CATEGORY,
            description="One picture of a whole list of pictures, such as those of Sweep Gate Bias: a column for each "
            "label, a row for each picture of a batch.",
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
            ],
            outputs=[io.Image.Output(display_name="grid", tooltip="The labelled picture.")],
        )

    @classmethod
    @as_declared
    def execute(cls, images: list[Tensor], labels: list[str], columns: list[int]) -> io.NodeOutput:
        return io.NodeOutput(to_tensor(labelled_grid(images, labels, columns[0])))


def labelled_grid(batches: Sequence[Tensor], labels: Sequence[str], columns: int = 0) -> Image.Image:
    """Batches of pictures, each [B, H, W, 3] in 0..1, as columns under their labels.

    Pictures of other sizes are fitted into the size of the first.  columns: labels on one line, 0 for all.
    Raises PerfusionError where there is not one label for each batch.
    """
    if len(batches) != len(labels):
        raise PerfusionError(
            f"The input labels expected one text for each of the {len(batches)} batches of images, but found"
            f" {len(labels)}; connect the labels of the Sweep Gate Bias node that the models come from."
        )
    height, width = batches[0].shape[1:3]
    across = min(columns or len(batches), len(batches))
    size = max(11, height // 14)
    font, heading = ImageFont.load_default(size), round(size * 1.6)
    lines = [range(start, min(start + across, len(batches))) for start in range(0, len(batches), across)]
    heights = [heading + max(len(batches[index]) for index in line) * (height + GAP) for line in lines]
    grid = Image.new("RGB", (across * (width + GAP) - GAP, sum(heights) - GAP), PAPER)
    draw, top = ImageDraw.Draw(grid), 0
    for line, line_height in zip(lines, heights, strict=True):
        for column, index in enumerate(line):
            left = column * (width + GAP)
            draw.text((left + width / 2, top + heading / 2), labels[index], fill=INK, font=font, anchor="mm")
            for row, picture in enumerate(batches[index]):
                shown = _fitted(picture, width, height)
                grid.paste(shown, (left, top + heading + row * (height + GAP)))
        top += line_height
    return grid


def _fitted(picture: Tensor, width: int, height: int) -> Image.Image:
    """The whole picture, as large as it can be within the size, on paper."""
    image = to_image(picture)
    if image.size == (width, height):
        return image
    scale = min(width / image.width, height / image.height)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    sheet = Image.new("RGB", (width, height), PAPER)
    sheet.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return sheet
