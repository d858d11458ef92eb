"""Sweep Gate Bias: one MODEL with concepts becomes a list of MODELs, one for each bias."""

from __future__ import annotations

import math

from comfy_api.latest import io

from ..perfusion_core.errors import PerfusionError, quoted
from .advice import BIAS, BIAS_OPEN_TO_OTHERS, BIAS_SHUT, HIGHEST_BIAS, LOWEST_BIAS, SWEPT_BIASES, in_words
from .declared import as_declared
from .host.gate.patch import with_bias
from .host.old_hosts import ADVANCED, search_aliases
from .types import CATEGORY

MOST_BIASES = 64
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
            "thing to most obedient to the prompt. Prompts are not encoded again. With a single bias it is a quick "
            "knob: nothing but the sampler runs.",
            **search_aliases("bias", "sweep", "xy plot", "compare"),
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
                    tooltip="The one concept to sweep, such as <hugsy>; the others keep their bias. Empty sweeps all.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="models", is_output_list=True, tooltip="One model for each bias."),
                io.String.Output(
                    display_name="labels", is_output_list=True, tooltip=f'"bias {BIAS:g}" and so on, for Label Grid.'
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, biases: str | None = None) -> bool | str:
        try:
            if biases is not None:  # it is None where it comes by a wire
                read_biases(biases)
        except PerfusionError as error:
            return str(error)
        return True

    @classmethod
    @as_declared
    def execute(cls, model: io.Model.Type, biases: str, word: str = "") -> io.NodeOutput:
        swept = read_biases(biases)
        return io.NodeOutput(
            [with_bias(model, bias, word.strip()) for bias in swept], [f"bias {bias:g}" for bias in swept]
        )


def read_biases(text: str) -> list[float]:
    """The numbers in a text, separated by commas, semicolons or white space.

    Raises PerfusionError for what is no number that a bias may be, for none, and for more than MOST_BIASES.
    """
    found = []
    for part in text.replace(",", " ").replace(";", " ").split():
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not LOWEST_BIAS <= number <= HIGHEST_BIAS:
            raise PerfusionError(
                f"The input biases expected numbers from {LOWEST_BIAS:g} to {HIGHEST_BIAS:g}, but found"
                f" {quoted(part)}; write them as {EXAMPLE}."
            )
        found.append(number)
    if not 1 <= len(found) <= MOST_BIASES:
        raise PerfusionError(
            f"The input biases expected 1 to {MOST_BIASES} numbers, but found {len(found)}; write them as {EXAMPLE}."
        )
    return found
