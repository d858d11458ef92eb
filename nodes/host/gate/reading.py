"""What a run makes of a prompt, by the code that a run uses: for those who want to see it without sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from comfy.conds import CONDRegular
from torch import Tensor

from ....perfusion_core.concept import ConceptStack
from ....perfusion_core.edit import EditedEncoding
from ..text.known_prompts import known_tokens
from ..text.own_tokens import marks_behind, marks_of, marks_through
from ..text.statistics import AtLayers
from .run import GateRun

_CONTEXT = "c_crossattn"


def read_gates(
    prompt: Sequence[Tensor | Mapping[str, Any]], stack: ConceptStack, at_layers: AtLayers | None = None
) -> EditedEncoding:
    """What a run of a MODEL with these concepts makes of a prompt, with similarities and gates, [B, N, J].

    prompt: one entry of a conditioning, the encoding [B, N, d] and what is known beside it.  stack: concepts of a
    strength other than 0.  at_layers: of a MODEL whose layers see something else than the encoding.
    Raises PerfusionError where a concept was made for encodings of another width.
    """
    encoding, beside = cast(Tensor, prompt[0]), cast(Mapping[str, Any], prompt[1])
    entries = [{**beside, "cross_attn": encoding}]
    marks, known = marks_of(entries), known_tokens(entries, [gated.concept.word_hash for gated in stack])
    if at_layers is not None:
        arrived = at_layers(encoding, beside)
        known = None if known is None else known.through(encoding, arrived)
        placed = [{**entries[0], "model_conds": {_CONTEXT: CONDRegular(arrived)}}]
        marks, encoding = {**marks_through(marks, encoding, arrived), **marks_behind(placed, _CONTEXT)}, arrived
    run = GateRun(stack, remember=False, reuse_projections=False, marks=marks, known=known)
    return run.edited(encoding, tuple(range(len(stack))))
