"""Sweep Gate Bias: one MODEL with concepts becomes a list of MODELs, one for each of a table of settings."""

from __future__ import annotations

from collections.abc import Callable

from comfy_api.latest import io

from ..perfusion_core.errors import PerfusionError
from .advice import BIAS, BIAS_OPEN_TO_OTHERS, BIAS_SHUT, HIGHEST_BIAS, LOWEST_BIAS, SWEPT_BIASES, in_words
from .declared import as_declared
from .host.gate.patch import with_gate
from .host.gate.run_time import timed
from .host.old_hosts import ADVANCED, search_aliases
from .sweep import AXES, Sweep, read_sweep, seeds_of, settings_of
from .types import CATEGORY, PerfusionSweep

EXAMPLE = in_words(SWEPT_BIASES)


class GateSweep(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionGateSweep",
            display_name="Sweep Gate Bias",
            category=CATEGORY,
            description="Gives the model once for each bias, so that one run paints the same seed from most like your "
            "thing to most obedient to the prompt; strengths, temperatures, locks and seeds make it a table. Prompts "
            "are not encoded again.",
            **search_aliases("bias", "sweep", "xy plot", "compare", "grid search"),
            inputs=[
                io.Model.Input("model", tooltip="The model that comes out of Apply Perfusion Concepts (Gate)."),
                io.String.Input(
                    "biases",
                    default=EXAMPLE,
                    tooltip=f"Biases from {LOWEST_BIAS:g} to {HIGHEST_BIAS:g}, separated by commas. Start with "
                    f"{EXAMPLE}; below {BIAS_OPEN_TO_OTHERS:g} the gate opens for other words too, above "
                    f"{BIAS_SHUT:g} the concept is gone.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    **ADVANCED,
                    tooltip="The one concept to sweep, such as <hugsy>; the others keep their settings. Empty sweeps "
                    "all.",
                ),
                *(
                    io.String.Input(
                        axis.input,
                        default="",
                        optional=True,
                        **ADVANCED,
                        tooltip=f"{axis.input.capitalize()} such as {axis.example}, separated by commas; {then}.",
                    )
                    for axis, then in zip(
                        AXES[1:],
                        (
                            "each is a row, or a column where biases are empty",
                            "each is a row, or a column where nothing stands above",
                            "for concepts of the form lockable, each is a row",
                            "each is a row, painted by a sampler whose seed is connected to seeds",
                        ),
                        strict=True,
                    )
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="models", is_output_list=True, tooltip="One model for each run, row after row."
                ),
                io.String.Output(
                    display_name="labels", is_output_list=True, tooltip=f'"bias {BIAS:g}" and so on, for Label Grid.'
                ),
                io.Int.Output(
                    display_name="seeds", is_output_list=True, tooltip="The seed of each run, for the sampler."
                ),
                io.String.Output(
                    display_name="across",
                    is_output_list=True,
                    tooltip="Names of the columns, for any grid node.",
                ),
                io.String.Output(
                    display_name="down", is_output_list=True, tooltip="Names of the rows, for any grid node."
                ),
                PerfusionSweep.Output(display_name="sweep", tooltip="Columns, rows and their times, for Label Grid."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        biases: str | None = None,
        strengths: str | None = "",
        temperatures: str | None = "",
        locks: str | None = "",
        seeds: str | None = "",
    ) -> bool | str:
        texts = (biases, strengths, temperatures, locks, seeds)
        try:
            if None not in texts:  # it is None where it comes by a wire
                read_sweep({axis.input: str(text) for axis, text in zip(AXES, texts, strict=True)})
        except PerfusionError as error:
            return str(error)
        return True

    @classmethod
    @as_declared
    def execute(
        cls,
        model: io.Model.Type,
        biases: str,
        word: str = "",
        strengths: str = "",
        temperatures: str = "",
        locks: str = "",
        seeds: str = "",
    ) -> io.NodeOutput:
        texts = (biases, strengths, temperatures, locks, seeds)
        sweep = read_sweep({axis.input: text for axis, text in zip(AXES, texts, strict=True)})
        models = [
            timed(with_gate(model, word.strip(), **settings_of(run)), _noting(sweep, number))
            for number, run in enumerate(sweep.runs)
        ]
        lists = (models, sweep.labels, seeds_of(sweep.runs), [*sweep.across], [*sweep.down])
        return io.NodeOutput(*lists, sweep)


def _noting(sweep: Sweep, number: int) -> Callable[[float], None]:
    def note(seconds: float) -> None:
        sweep.seconds[number] = seconds

    return note
