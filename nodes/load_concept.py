"""Load Perfusion Concept: a file becomes a stack of one concept with the settings of its gate."""

from __future__ import annotations

from comfy_api.latest import io

from ..perfusion_core.concept import (
    RECOMMENDED_BIAS,
    RECOMMENDED_TEMPERATURE,
    ConceptStack,
    GatedConcept,
    check_stack,
)
from ..perfusion_core.concept_file import load_concept, read_header
from ..perfusion_core.errors import PerfusionError
from .host.concept_folders import concept_names, concept_path
from .host.old_hosts import ADVANCED, choice, search_aliases
from .types import ALIASES, CATEGORY, PerfusionConcept


class LoadConcept(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionLoadConcept",
            display_name="Load Perfusion Concept",
            category=CATEGORY,
            description="Loads a concept file and sets its gate. Connect it to Apply Perfusion Concepts (Gate), then "
            "use its"
            " word, such as <hugsy>, in any prompt.",
            **search_aliases(*ALIASES, "load concept", "textual inversion"),
            inputs=[
                choice(
                    "concept_file",
                    options=concept_names(),
                    tooltip="A file from models/perfusion or output/perfusion. Just trained one? Press R to refresh "
                    "the list.",
                ),
                io.Float.Input(
                    "bias",
                    default=RECOMMENDED_BIAS,
                    min=-1.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Where the gate opens; the concept's own word is at 1. Lower (0.6) looks more like your "
                    "thing, higher (1) obeys the rest of the prompt more; start at 0.85. Needs no retraining.",
                ),
                io.Float.Input(
                    "temperature",
                    default=RECOMMENDED_TEMPERATURE,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip="How softly the gate opens around the bias; start at 0.15. Near 0 it is a switch, above "
                    "0.3 the"
                    " concept leaks into other words.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    **ADVANCED,
                    tooltip="Scales the whole edit. 1 is as trained, 0 takes the concept away entirely; above 1.2 "
                    "colours burn.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip="Part of the sampling at which the concept sets in; 0 is the first step.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip="Part of the sampling at which the concept stops; 1 is the last step.",
                ),
                PerfusionConcept.Input(
                    "stack",
                    optional=True,
                    tooltip="Concepts to which this one is added, to pass several on by one wire.",
                ),
            ],
            outputs=[
                PerfusionConcept.Output(
                    display_name="concept", tooltip="The concept, behind those of the stack input if there are any."
                ),
                io.String.Output(display_name="word", tooltip="The word for prompts, such as <hugsy>."),
                io.String.Output(display_name="superclass", tooltip="The kind of thing it is, such as teddy."),
            ],
        )

    @classmethod
    def validate_inputs(cls, concept_file: str) -> bool | str:
        try:
            read_header(concept_path(concept_file))
        except PerfusionError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, concept_file: str, **_settings: object) -> tuple[float, int]:
        status = concept_path(concept_file).stat()
        return status.st_mtime, status.st_size

    @classmethod
    def execute(
        cls,
        concept_file: str,
        bias: float,
        temperature: float,
        strength: float,
        start_percent: float,
        end_percent: float,
        stack: ConceptStack = (),
    ) -> io.NodeOutput:
        concept = load_concept(concept_path(concept_file))
        extended = (*stack, GatedConcept(concept, bias, temperature, strength, start_percent, end_percent))
        check_stack(extended)
        return io.NodeOutput(extended, concept.word, concept.superclass)
