"""Load Perfusion Concept: a file becomes a stack of one concept with the settings of its gate."""

from __future__ import annotations

import dataclasses
import logging

from comfy_api.latest import io

from ..perfusion_core.concept import Concept, ConceptStack, GatedConcept, check_stack, typed_word
from ..perfusion_core.concept_file import load_concept, read_header
from ..perfusion_core.errors import PerfusionError
from ..perfusion_core.varied_prompts import recorded_similarity
from . import advice
from .declared import as_declared
from .host.concept_folders import concept_names, concept_path, hidden_by
from .host.old_hosts import ADVANCED, choice, search_aliases
from .shown import shown
from .types import ALIASES, CATEGORY, PerfusionConcept

_OF_THE_FILE = f"{advice.BIAS_OF_THE_FILE:g}"

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
                    default=advice.BIAS_OF_THE_FILE,
                    min=advice.BIAS_OF_THE_FILE,
                    max=advice.HIGHEST_BIAS,
                    step=0.01,
                    tooltip=f"How similar to the concept a word must be for its gate to open; {_OF_THE_FILE} takes "
                    f"what the file recommends, mostly {advice.BIAS:g}. Lower ({advice.BIAS_FOR_LIKENESS:g}) looks "
                    f"more like your thing, higher ({advice.BIAS_FOR_PROMPT:g}) follows the prompt more.",
                ),
                io.Float.Input(
                    "temperature",
                    default=advice.TEMPERATURE_OF_THE_FILE,
                    min=advice.TEMPERATURE_OF_THE_FILE,
                    max=1.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip=f"How softly the gate opens around the bias; {advice.TEMPERATURE_OF_THE_FILE:g} takes what "
                    f"the file recommends, mostly {advice.TEMPERATURE:g}. Lower is more of a switch, above "
                    f"{advice.LEAKING_TEMPERATURE:g} the concept leaks into other words.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    **ADVANCED,
                    tooltip="Scales the whole edit. Start with 1, as trained; 0 leaves only the word's own vector, "
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
                    tooltip="Where in the sampling the concept stops to act. Start with 1, the last step; lower paints "
                    "the last details without it.",
                ),
                PerfusionConcept.Input(
                    "stack",
                    optional=True,
                    tooltip="Concepts to which this one is added, to pass several on by one wire.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    optional=True,
                    **ADVANCED,
                    tooltip="Another word for this concept, such as <rex>, where two files have the same one. Empty "
                    "takes the file's.",
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
            hidden=[io.Hidden.unique_id],
            outputs=[
                PerfusionConcept.Output(
                    display_name="concept", tooltip="The concept, behind those of the stack input if there are any."
                ),
                io.String.Output(display_name="word", tooltip="The word for prompts, such as <hugsy>."),
                io.String.Output(display_name="superclass", tooltip="Its superclass, such as teddy."),
            ],
        )

    @classmethod
    def validate_inputs(cls, concept_file: str | None = None, word: str | None = None) -> bool | str:
        try:
            if concept_file is not None:  # it is None where it comes by a wire
                read_header(concept_path(concept_file))
            typed_word(word)
        except PerfusionError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, concept_file: str | None = None, **_settings: object) -> list[tuple[str, float, int]]:
        """Of the file; of all files where its name comes by a wire, since nobody knows yet which it will be."""
        names = concept_names() if concept_file is None else [concept_file]
        found = [(name, concept_path(name).stat()) for name in names]
        return [(name, status.st_mtime, status.st_size) for name, status in found]

    @classmethod
    @as_declared
    def execute(
        cls,
        concept_file: str,
        bias: float,
        temperature: float,
        strength: float,
        start_percent: float,
        end_percent: float,
        stack: ConceptStack = (),
        word: str = "",
        lock: float = advice.LOCK_OF_THE_FILE,
    ) -> io.NodeOutput:
        path = concept_path(concept_file)
        concept, size = load_concept(path), path.stat().st_size
        if (called := typed_word(word, concept.word)) != concept.word:
            concept = dataclasses.replace(concept, word=called)
        bias = concept.bias if bias < advice.LOWEST_BIAS else bias
        temperature = concept.temperature if temperature <= advice.TEMPERATURE_OF_THE_FILE else temperature
        chosen = None if lock < 0 else lock
        warn_of_untrained_lock(concept, chosen)
        gated = GatedConcept(concept, bias, temperature, strength, start_percent, end_percent, chosen)
        extended = (*stack, gated)
        check_stack(extended)
        ui = shown(_summary(gated, size, hidden_by(path, concept_file)), concept.picture, cls)
        return io.NodeOutput(extended, concept.word, concept.superclass, ui=ui)


def warn_of_untrained_lock(concept: Concept, lock: float | None) -> None:
    """Warn of a lock for which a concept was not trained; it is used all the same."""
    if lock is None or lock == concept.recommended_lock or concept.form == "lockable":
        return
    logger.warning(
        "The concept %s was trained in the form %s, with the lock %g, and is used with %g, which may cost likeness; set"
        " lock to -1, or train it in the form lockable.",
        concept.word,
        concept.form,
        concept.recommended_lock,
        lock,
    )


def _summary(gated: GatedConcept, size: int, hidden: str = "") -> str:
    """What was loaded, in one line.  size: of its file, in bytes.  hidden: of other files of its name."""
    concept = gated.concept
    bias, temperature = f"bias {gated.bias:g}", f"temperature {gated.temperature:g}"
    bias += ", as the file recommends" if gated.bias == concept.bias else f"; the file recommends {concept.bias:g}"
    temperature += "" if gated.temperature == concept.temperature else f"; the file recommends {concept.temperature:g}"
    similarity = recorded_similarity(concept.training)
    parts = [concept.word, concept.superclass, f"for {concept.base_model} models", bias, temperature]
    parts += [] if similarity is None else [similarity.text()]
    parts += [] if concept.encoding_offset is None else ["with an offset of its encoding"]
    parts += [f"{size / 1000:.0f} kB", hidden]
    return " · ".join(part for part in parts if part)
