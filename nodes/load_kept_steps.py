"""Load Kept Steps: one training becomes a list of concepts, one for each step that was kept of it."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..perfusion_core.concept import Concept, alone
from ..perfusion_core.concept_file import load_concept
from ..perfusion_core.errors import PerfusionError, quoted
from .declared import as_declared
from .host.kept_steps import concepts_with_kept_steps, kept_steps, latest_training, trained_concept
from .host.old_hosts import ADVANCED, choice, search_aliases
from .shown import shown
from .types import CATEGORY, PerfusionConcept

LATEST = "(last training)"


class KeptSteps(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionKeptSteps",
            display_name="Load Kept Steps",
            category=CATEGORY,
            description="Gives the concept as it was at each kept step of a training, and as it was saved, so that one "
            "run paints the same seed with all of them. Connect it to Apply Perfusion Concepts (Gate), and the labels "
            "to Label Grid.",
            **search_aliases("checkpoints", "epochs", "best step", "compare"),
            inputs=[
                choice(
                    "training",
                    options=[LATEST, *(path.stem for path in concepts_with_kept_steps())],
                    default=LATEST,
                    tooltip="A training in output/perfusion that has kept steps: the one that kept a step last, or one "
                    "by its name. Press R to see a new one.",
                ),
                io.String.Input(
                    "steps",
                    default="",
                    tooltip="Which steps, separated by commas, such as 50, 150. Empty gives all; a single one can be "
                    "saved as a concept of its own.",
                ),
                io.String.Input(
                    "path",
                    optional=True,
                    force_input=True,
                    **ADVANCED,
                    tooltip="The path of Train Perfusion Concept, to compare its steps in the same run; takes the "
                    "place of training.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                PerfusionConcept.Output(
                    display_name="concepts",
                    is_output_list=True,
                    tooltip="One concept for each step; what is connected runs once for each.",
                ),
                io.String.Output(
                    display_name="labels", is_output_list=True, tooltip='"step 50" and so on, for Label Grid.'
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, training: str | None = None, steps: str | None = None) -> bool | str:
        """Which trainings there are may have changed since the list was made, and counts when the node runs."""
        try:
            if steps is not None:  # it is None where it comes by a wire
                read_steps(steps)
        except PerfusionError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_settings: object) -> list[tuple[str, int]]:
        """Of all kept steps, since nobody knows yet which training it will be where it comes by a wire."""
        found = [kept.path for path in concepts_with_kept_steps() for kept in kept_steps(path)]
        return [(path.name, path.stat().st_mtime_ns) for path in found]

    @classmethod
    @as_declared
    def execute(cls, training: str = LATEST, steps: str = "", path: str = "") -> io.NodeOutput:
        name = path or training
        chosen = latest_training() if name == LATEST else trained_concept(name)
        found = chosen_steps(chosen, read_steps(steps))
        stacks = [alone(concept) for concept in found.values()]
        ui = shown(f"{chosen.stem}: {', '.join(found)}", None, cls)
        return io.NodeOutput(stacks, [*found], ui=ui)


def chosen_steps(path: Path, wanted: list[int]) -> dict[str, Concept]:
    """The concepts by their labels, in the order of the steps: the kept ones, and the one that was saved.

    wanted: steps; empty for all.  Raises PerfusionError for one that is not there."""
    files = {kept.step: kept.path for kept in kept_steps(path)}
    saved = None
    if path.exists():  # the user may have taken it away
        training = load_concept(path).training
        saved = training.get("chosen_step", training.get("steps"))
        if isinstance(saved, int):  # a file from elsewhere does not say it
            files.setdefault(saved, path)
    if missing := [step for step in wanted if step not in files]:
        raise PerfusionError(
            f"The input steps asks for {missing[0]}, but of {path.stem} there are {', '.join(map(str, sorted(files)))};"
            " write some of these, or nothing for all."
        )
    labels = {step: f"step {step} (saved)" if step == saved else f"step {step}" for step in sorted(files)}
    return {label: load_concept(files[step]) for step, label in labels.items() if step in wanted or not wanted}


def read_steps(text: str) -> list[int]:
    """The whole numbers in a text, separated by commas, semicolons or white space; PerfusionError for anything else."""
    parts = text.replace(",", " ").replace(";", " ").split()
    for part in parts:
        if not part.isdecimal():
            raise PerfusionError(
                f"The input steps expected steps of the training, but found {quoted(part)}; write them as 50, 150."
            )
    return [int(part) for part in parts]
