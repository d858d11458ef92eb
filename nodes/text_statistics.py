"""Measure Text Statistics: the metric in which the gate measures similarity, for any text encoder."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..perfusion_core.errors import PerfusionError
from .host.progress import progress_over
from .host.text_statistics import cached_statistics
from .types import ALIASES, CATEGORY, PerfusionStatistics


class TextStatisticsNode(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionTextStatistics",
            display_name="Measure Text Statistics",
            category=CATEGORY,
            description="Measures how a CLIP's text encodings are spread (the matrix C of the Perfusion paper) and "
            "keeps the result for this"
            " encoder. The trainer does this by itself; use this node for captions of your own.",
            search_aliases=[*ALIASES, "covariance", "second moment"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP to measure, before any concept is applied."),
                io.String.Input(
                    "captions_file",
                    default="",
                    tooltip="A text file in the input folder with one caption a line; empty uses the"
                    " built-in captions. A few thousand varied captions are enough.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                PerfusionStatistics.Output(
                    display_name="statistics", tooltip="For the statistics input of Train Perfusion Concept."
                )
            ],
        )

    @classmethod
    def execute(cls, clip: io.Clip.Type, captions_file: str) -> io.NodeOutput:
        captions = _captions(captions_file.strip()) if captions_file.strip() else None
        return io.NodeOutput(cached_statistics(clip, progress_over(cls.hidden.unique_id), captions))


def _captions(name: str) -> list[str]:
    path = Path(folder_paths.get_input_directory()) / name
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PerfusionError(
            f"The captions file {path} could not be read ({error}); it must be a UTF-8 text file in the input folder."
        ) from error
    captions = [line for line in lines if line]
    if len(captions) < 100:
        raise PerfusionError(
            f"The captions file {path} has {len(captions)} captions where at least 100 are needed; add more lines."
        )
    return captions
