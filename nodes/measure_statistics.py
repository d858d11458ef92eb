"""Measure Text Statistics: the metric in which the gate measures similarity, for any text encoder."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..perfusion_core.errors import PerfusionError
from .declared import as_declared
from .host.gate.refined_text import refined_text
from .host.node_text import say
from .host.old_hosts import ADVANCED, search_aliases
from .host.progress import progress_over
from .host.text.statistics import CAPTIONS_MEASURED, MEASURING, cached_statistics, own_captions
from .types import CATEGORY, PerfusionStatistics


class TextStatisticsNode(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionTextStatistics",
            display_name="Measure Text Statistics",
            category=CATEGORY,
            description="Measures how a CLIP's text encodings are spread (the matrix C of the Perfusion paper) and "
            "keeps the result for this encoder. The trainer does this by itself; use this node for captions of your "
            "own.",
            **search_aliases("covariance", "second moment"),
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP to measure, before any concept is applied."),
                io.String.Input(
                    "captions_file",
                    default="",
                    tooltip="A text file in the input folder with one caption a line; empty uses the built-in "
                    "captions. A few thousand varied captions are enough.",
                ),
                io.Int.Input(
                    "caption_count",
                    default=CAPTIONS_MEASURED,
                    min=100,
                    max=100_000,
                    optional=True,
                    **ADVANCED,
                    tooltip="How many built-in captions to measure where there is no file and the CLIP brings none "
                    f"along. Start with {CAPTIONS_MEASURED}; fewer make the gate less sure of a word, more take longer "
                    "for little.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Its model, where that makes something else of the text before it looks at it (Anima, Wan, "
                    "LTXV, PixArt). Other models change nothing; leave it open for them.",
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
    @as_declared
    def execute(
        cls,
        clip: io.Clip.Type,
        captions_file: str,
        caption_count: int = CAPTIONS_MEASURED,
        model: io.Model.Type | None = None,
    ) -> io.NodeOutput:
        captions = _captions(captions_file.strip()) if captions_file.strip() else None
        at_layers = None if model is None else refined_text(model)
        progress = progress_over(cls.hidden.unique_id, MEASURING)
        statistics = cached_statistics(clip, progress, captions, caption_count, at_layers)
        text = statistics.summary()
        if captions is None and own_captions(clip) is not None:
            text += f"; this CLIP brings its captions along, so caption_count, {caption_count:,}, is not used"
        say(text, cls.hidden.unique_id)
        return io.NodeOutput(statistics, ui=ui.PreviewText(text))

    @classmethod
    def fingerprint_inputs(cls, captions_file: str | None = "", **_: object) -> int | list[tuple[str, int]]:
        """Another value when the file has changed, so that the host runs the node again.

        Of all files of the folder where the name comes by a wire, since nobody knows yet which it will be.
        """
        folder = Path(folder_paths.get_input_directory())
        if captions_file is None:
            return sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file())
        path = folder / captions_file.strip()
        return path.stat().st_mtime_ns if path.is_file() else 0


def _path(name: str) -> Path:
    folder = Path(folder_paths.get_input_directory()).resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise PerfusionError(
            f"The captions file must lie in the input folder, but {name} does not; copy it to {folder}."
        )
    return path


def _captions(name: str) -> list[str]:
    path = _path(name)
    try:
        lines = [" ".join(line.split()) for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PerfusionError(
            f"The captions file {path} could not be read ({error}); it must be a UTF-8 text file in the input folder."
        ) from error
    captions = list(dict.fromkeys(line for line in lines if line))
    if len(captions) < 100:
        raise PerfusionError(
            f"The captions file {path} has {len(captions)} different captions where at least 100 are needed; add more"
            " lines."
        )
    return captions
