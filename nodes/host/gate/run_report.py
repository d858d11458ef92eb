"""What a sampling run made of the concepts on its MODEL, in one line: how far each gate opened, and what went wrong
without an error.

    <hugsy>: gate 0.73 (similarity 0.91) · <sippy>: in no prompt

The similarity is that of the word before it is measured against itself: how much of its concept it has in this prompt.
It is read off the conditioning before the first step, on the CPU and of a few tokens, so that no step takes longer.
Where the model makes something else of the text, it is read off the run after the last step.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....perfusion_core.concept import ConceptStack
from ....perfusion_core.edit import OWN_TOKEN_BIAS, EditedEncoding, edit_encoding, similarity
from ..text.own_tokens import Marks, marks_of
from ..text.prompt_notes import PromptNote, PromptNotes, pass_on_notes, token_keys
from .cross_attention import refined_from
from .patch import PATCH_KEY, applied_concepts
from .silent_failures import prompts_of
from .words_in_prompt import with_offsets, words_in_prompt

_KEY = "perfusion_for_comfyui.run_report"

# Below this similarity of all its tokens an encoding from elsewhere has certainly nothing of a concept; between it and
# that of a concept's own token it may be a mixture, such as Conditioning (Average) makes.
_UNLIKE = 0.3

logger = logging.getLogger(__name__)


def report_runs(model: ModelPatcher, notes: PromptNotes, tell: Callable[[str], None]) -> None:
    """Tell of every sampling run of this MODEL, a clone of the caller's with concepts, and of its later clones.

    notes: of the prompts that the CLIP beside it encoded.
    """

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        patch = applied_concepts(guider.model_patcher)
        if patch is None:
            return executor(*args, **kwargs)
        run = guider.model_options.get("transformer_options", {}).get(PATCH_KEY)
        conds = {name: list(group) for name, group in guider.conds.items()}
        if run is not None and refined_from(guider.model_patcher.model.diffusion_model) is not None:
            result = executor(*args, **kwargs)
            _told(tell, conds, patch.stack, notes, run.opened())
            return result
        _told(tell, conds, patch.stack, notes, None)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _KEY, outer_sample)
    pass_on_notes(model, notes)


def _told(tell: Callable[[str], None], *of_the_run: Any) -> None:
    try:
        tell(run_report(*of_the_run))
    except Exception:  # a picture is worth more than what is said of it
        logger.exception("The run could not be reported.")


def run_report(
    conds: Mapping[str, Sequence[Mapping[str, Any]]],
    stack: ConceptStack,
    notes: PromptNotes,
    at_layers: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """The line for a run with this conditioning, as a guider holds it; logged too, as a warning if all is not well.

    stack: all concepts on the MODEL; only those of the notes are told of.  at_layers: the gates of the words, and
    their similarities, as the run found them, for models that make something else of the text.
    """
    width = stack[0].concept.encoding_width
    entries = [one for one in prompts_of(conds) if at_layers is not None or one["cross_attn"].shape[-1] == width]
    marks = marks_of(entries)
    gates: dict[str, _Opened] = {}
    prompts: list[PromptNote] = []
    elsewhere = 0
    for encoding in (entry["cross_attn"] for entry in entries):
        keys = token_keys(encoding)
        found = notes.of(keys)
        prompts += found
        if at_layers is not None:
            opened = {word: _Opened(*at_layers.get(word, (0.0, 0.0))) for note in found for word in note.places}
        elif found:
            opened = _at_its_words(encoding, keys, found, stack, marks)
        else:
            opened, alike = _anywhere(encoding, stack, marks)
            elsewhere += bool(encoding.any()) and not alike
        gates = {word: max(at[word] for at in (gates, opened) if word in at) for word in {*gates, *opened}}

    told = [f"{word}: {gates[word].text()}" if word in gates else f"{word}: in no prompt" for word in notes.words]
    remarks = _remarks(notes.words, gates, prompts, elsewhere)
    line = " · ".join(remarks + told)  # a node of the usual size shows two lines
    logger.log(logging.WARNING if remarks or not gates else logging.INFO, "Concepts: %s.", line)
    return line


class _Opened(NamedTuple):
    """How far a gate is open at a token, and the token's similarity to the concept by itself."""

    gate: float
    similarity: float

    def text(self) -> str:
        return f"gate {self.gate:.2f} (similarity {self.similarity:.2f})"


def _at_its_words(
    encoding: Tensor, keys: Sequence[bytes], prompts: Iterable[PromptNote], stack: ConceptStack, marks: Marks
) -> dict[str, _Opened]:
    """The widest gate of every word of the prompts, at the tokens where it stands."""
    tokens = encoding.reshape(len(keys), -1)
    gates: dict[str, _Opened] = {}
    for word in {word for note in prompts for word in note.places}:
        places = set().union(*(note.places.get(word, ()) for note in prompts))
        at = [index for index, key in enumerate(keys) if key in places]
        column = [j for j, gated in enumerate(stack) if gated.concept.word == word]
        if at and column:
            gates[word] = _widest(*_gates(tokens[at], stack, marks), column[0])
    return gates


def _anywhere(encoding: Tensor, stack: ConceptStack, marks: Marks) -> tuple[dict[str, _Opened], bool]:
    """The gates of the words that an encoding of unknown origin certainly holds, and whether it may hold any."""
    edited, alone = _gates(encoding, stack, marks)
    similarity = edited.similarities.flatten(0, -2).amax(dim=0)
    words = [gated.concept.word for gated in stack]
    held = {word: _widest(edited, alone, j) for j, word in enumerate(words) if similarity[j] >= OWN_TOKEN_BIAS}
    return held, bool((similarity > _UNLIKE).any())


def _gates(encoding: Tensor, stack: ConceptStack, marks: Marks) -> tuple[EditedEncoding, Tensor]:
    """The edit that acts on these tokens, [..., N, d], and how similar they are to each concept alone, [..., N, J]."""
    encoding, edits = encoding.detach().to("cpu", torch.float32), [gated.edit() for gated in stack]
    words, spoken = words_in_prompt(encoding, stack, edits, marks), with_offsets(encoding, stack, marks)
    alone = [similarity(spoken, edit.target_input, edit.inverse_target_input) for edit in edits]
    return edit_encoding(spoken, edits, words), torch.stack(alone, dim=-1)


def _widest(edited: EditedEncoding, alone: Tensor, concept: int) -> _Opened:
    """Where the gate of a concept is open furthest."""
    gates = edited.gates[..., concept].flatten()
    at = int(gates.argmax())
    return _Opened(gates[at].item(), alone[..., concept].flatten()[at].item())


def _remarks(
    words: Sequence[str], gates: Mapping[str, _Opened], prompts: Sequence[PromptNote], elsewhere: int
) -> list[str]:
    """What is probably a mistake, and what to do about it."""
    remarks = []
    missing = [word for word in words if word not in gates]
    for unknown in dict.fromkeys(word for note in prompts for word in note.unknown):
        meant = difflib.get_close_matches(unknown, words, 1) or words
        remarks.append(f"{unknown} is no word of a concept here; write {' or '.join(meant)}")
    for word in missing:
        if any(word in note.bare for note in prompts):
            remarks.append(f"a prompt says {word.strip('<>')}; write {word}, with its brackets")
    if missing and elsewhere:
        count = "a prompt was" if elsewhere == 1 else f"{elsewhere} prompts were"
        remarks.append(f"{count} encoded by another CLIP; connect this node's clip to every text encoder")
    return remarks
