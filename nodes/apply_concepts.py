"""Apply Perfusion Concepts (Gate): concepts become part of a MODEL and a CLIP."""

from __future__ import annotations

import functools

from comfy_api.latest import io

from ..perfusion_core.concept import ConceptStack
from .advice import WHOLE_PROMPT_LOCK_BIAS
from .declared import as_declared
from .host.gate.patch import KEY_LOCKS, apply_concepts
from .host.gate.run_report import report_runs
from .host.node_text import say
from .host.old_hosts import ADVANCED, GrowingInput, choice, search_aliases
from .host.text.prompt_notes import PromptNotes, take_notes
from .host.text.words import add_words
from .types import ALIASES, CATEGORY, PerfusionConcept

CONCEPTS = GrowingInput("concepts", "concept", most=32)


class ConceptGate(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionConceptGate",
            display_name="Apply Perfusion Concepts (Gate)",
            category=CATEGORY,
            description="Lets any number of concepts act in one picture: the model learns their looks, the CLIP their "
            "words, and a gate decides for each word of the prompt. Nothing of the model is changed for other nodes.",
            **search_aliases(*ALIASES, "apply concept", "multi concept", "gate"),
            inputs=[
                io.Model.Input("model", tooltip="The model to use the concepts in, also with LoRAs applied."),
                io.Clip.Input(
                    "clip", tooltip="Its CLIP; encode your prompts with the CLIP that comes out of this node."
                ),
                *CONCEPTS.inputs(
                    PerfusionConcept.Input("concept", tooltip="A concept, or a stack of concepts."),
                    tooltip="Concepts from loaders or trainers; a free input appears with each one you connect.",
                ),
                choice(
                    "key_lock",
                    options=list(KEY_LOCKS),
                    default=KEY_LOCKS[0],
                    tooltip="The lock of the keys: local is for each word, as its concept was trained; global locks "
                    "the whole prompt to the superclass, for freer scenes with less likeness. Start with local; with "
                    f"global, lower the bias to {WHOLE_PROMPT_LOCK_BIAS:g}.",
                ),
                io.Boolean.Input(
                    "exact_gate",
                    default=True,
                    optional=True,
                    **ADVANCED,
                    tooltip="On, a prompt without a concept's word is left as it is, bit for bit, at any bias. Start "
                    "with on; off lets gates open at similar words of every prompt, as in the paper.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the concepts; sample with it."),
                io.Clip.Output(
                    display_name="clip", tooltip="The CLIP that knows the concepts' words; encode prompts with it."
                ),
            ],
        )

    @classmethod
    @as_declared
    @CONCEPTS.gathered
    def execute(
        cls,
        model: io.Model.Type,
        clip: io.Clip.Type,
        key_lock: str,
        exact_gate: bool = True,
        concepts: dict[str, ConceptStack] | None = None,
    ) -> io.NodeOutput:
        stack = tuple(gated for connected in (concepts or {}).values() for gated in connected)
        patched, speaking = apply_concepts(model, stack, key_lock, exact_gate), add_words(clip, stack, key_lock)
        tell = functools.partial(say, node_id=cls.hidden.unique_id)
        acting = [gated.concept.word for gated in stack if gated.strength != 0]
        if acting:
            notes = PromptNotes(acting)
            take_notes(speaking, notes)
            report_runs(patched, notes, tell)
        else:
            tell("no concept of a strength other than 0: this is the base model")
        return io.NodeOutput(patched, speaking)
