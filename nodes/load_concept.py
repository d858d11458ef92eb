"""Load Perfusion Concept: a file becomes a stack of one concept with the settings of its gate."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from ..perfusion_core.concept import Concept, ConceptStack, GatedConcept, check_stack
from ..perfusion_core.concept_file import load_concept, read_header
from ..perfusion_core.errors import PerfusionError
from . import advice
from .host.concept_folders import concept_names, concept_path
from .host.old_hosts import ADVANCED, choice, search_aliases
from .types import ALIASES, CATEGORY, PerfusionConcept

logger = logging.getLogger(__name__)


class LoadConcept(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionLoadConcept",
            display_name="Load Perfusion Concept",
            category=CATEGORY,
            description="Loads a concept file and sets its gate. Connect it to Apply Perfusion Concepts (Gate), then "
            "use its word, such as <hugsy>, in any prompt.",
            **search_aliases(*ALIASES, "load concept", "textual inversion"),
            inputs=[
                choice(
                    "concept_file",
                    options=concept_names(),
                    tooltip="A file from models/perfusion or output/perfusion. Press R to see one that was just "
                    "trained.",
                ),
                io.Float.Input(
                    "bias",
                    default=advice.BIAS,
                    min=advice.LOWEST_BIAS,
                    max=advice.HIGHEST_BIAS,
                    step=0.01,
                    tooltip="How similar to the concept a word must be for its gate to open; its own word is at 1. "
                    f"Start with {advice.BIAS:g}; lower ({advice.BIAS_FOR_LIKENESS:g}) looks more like your thing, "
                    f"higher ({advice.BIAS_FOR_PROMPT:g}) follows the rest of the prompt more.",
                ),
                io.Float.Input(
                    "temperature",
                    default=advice.TEMPERATURE,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip="How softly the gate opens around the bias. "
                    f"Start with {advice.TEMPERATURE:g}; near 0 it is a switch, above {advice.LEAKING_TEMPERATURE:g} "
                    "the concept leaks into other words.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    **ADVANCED,
                    tooltip="Scales the whole edit. Start with 1, as trained; 0 takes the concept away entirely, "
                    f"above {advice.BURNING_STRENGTH:g} colours burn.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip="Where in the sampling the concept begins to act. Start with 0, the first step; "
                    f"{advice.START_FOR_FREER_LAYOUT:g} leaves the layout freer.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip="Where in the sampling the concept stops to act. Start with 1, the last step.",
                ),
                PerfusionConcept.Input(
                    "stack",
                    optional=True,
                    tooltip="Concepts to which this one is added, to pass several on by one wire.",
                ),
                io.Float.Input(
                    "lock",
                    default=advice.LOCK_OF_THE_FILE,
                    min=advice.LOCK_OF_THE_FILE,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    **ADVANCED,
                    tooltip="How far the keys of the word are locked to its superclass: 0 looks more like your thing, "
                    f"1 follows the prompt more. Start with {advice.LOCK_OF_THE_FILE:g}, as the file says; other locks "
                    "suit files of the form lockable.",
                ),
            ],
            outputs=[
                PerfusionConcept.Output(
                    display_name="concept", tooltip="The concept, behind those of the stack input if there are any."
                ),
                io.String.Output(display_name="word", tooltip="The word for prompts, such as <hugsy>."),
                io.String.Output(display_name="superclass", tooltip="Its superclass, such as teddy."),
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
        lock: float = advice.LOCK_OF_THE_FILE,
    ) -> io.NodeOutput:
        concept = load_concept(concept_path(concept_file))
        chosen = None if lock < 0 else lock
        warn_of_untrained_lock(concept, chosen)
        extended = (*stack, GatedConcept(concept, bias, temperature, strength, start_percent, end_percent, chosen))
        check_stack(extended)
        return io.NodeOutput(extended, concept.word, concept.superclass)


def warn_of_untrained_lock(concept: Concept, lock: float | None) -> None:
    """Warn of a lock for which a concept was not trained; it is used all the same."""
    if lock is None or lock == concept.recommended_lock or concept.form == "lockable":
        return
    logger.warning(
        "The concept %s was trained in the form %s, with the lock %g, and is used with %g, which costs likeness; set"
        " lock to -1, or train it in the form lockable.",
        concept.word,
        concept.form,
        concept.recommended_lock,
        lock,
    )
