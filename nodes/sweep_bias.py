"""Sweep Gate Bias: one MODEL with concepts becomes a list of MODELs, one for each bias."""

from __future__ import annotations

import math

from comfy_api.latest import io

from ..perfusion_core.errors import PerfusionError, quoted
from .host.gate.patch import with_bias
from .types import ALIASES, CATEGORY

MOST_BIASES = 64


class GateSweep(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionGateSweep",
            display_name="Sweep Gate Bias",
            category=CATEGORY,
            description="Gives the model once for each bias, so that one run paints the same seed from most like your "
            "thing to most obedient to the prompt. Prompts are not encoded again. Also with a single bias, to change"
            " it without running anything but the sampler.",
            search_aliases=[*ALIASES, "bias", "sweep", "xy plot", "compare"],
            inputs=[
                io.Model.Input("model", tooltip="The model that comes out of Apply Perfusion Concepts (Gate)."),
                io.String.Input(
                    "biases",
                    default="0.5, 0.7, 0.85, 1, 1.2",
                    tooltip="Biases from -1 to 2, separated by commas; start with 0.5, 0.7, 0.85, 1, 1.2. Below"
                    " 0.4 the gate opens for other words too, above 1.3 the concept is gone.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    advanced=True,
                    tooltip="The one concept to sweep, such as <hugsy>; the others keep their bias. Empty sweeps all.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="models", is_output_list=True, tooltip="One model for each bias."),
                io.String.Output(
                    display_name="labels", is_output_list=True, tooltip='"bias 0.85" and so on, for Label Grid.'
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
    def execute(cls, model: io.Model.Type, biases: str, word: str = "") -> io.NodeOutput:
        swept = read_biases(biases)
        return io.NodeOutput(
            [with_bias(model, bias, word.strip()) for bias in swept], [f"bias {bias:g}" for bias in swept]
        )


def read_biases(text: str) -> list[float]:
    """The numbers in a text, separated by commas, semicolons or white space.

    Raises PerfusionError for what is no number from -1 to 2, for none, and for more than MOST_BIASES."""
    found = []
    for part in text.replace(",", " ").replace(";", " ").split():
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not -1 <= number <= 2:
            raise PerfusionError(
                f"The input biases expected numbers from -1 to 2, but found {quoted(part)}; write them as 0.45, 0.65,"
                " 0.85."
            )
        found.append(number)
    if not 1 <= len(found) <= MOST_BIASES:
        raise PerfusionError(
            f"The input biases expected 1 to {MOST_BIASES} numbers, but found {len(found)}; write them as 0.45, 0.65,"
            " 0.85."
        )
    return found
