"""The order in which a run does its jobs.

What is worth most comes first: a run that is stopped leaves all methods under some conditions, not some under all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .cache import finish
from .jobs import Job

STAGES = ("tune", "methods", "several", "harm", "ablations")


class Phase(NamedTuple):
    """Jobs that need nothing of each other, by the name under which the budget counts them."""

    jobs: Mapping[str, Sequence[Job]]


def phases(bench: Any, size: Any, stages: Collection[str]) -> Iterator[Phase]:
    """All jobs of a run.  What a later phase looks like depends on the results of those before; where they are not
    there yet, on the first setting and knob of each method."""
    from . import ablation, choice, harm, several, single  # which need the host

    for number in range(len(size.tune_rounds)):
        yield Phase({f"tune, round {number + 1}": choice.tuning_jobs(bench, size, number)})
    tuned = choice.tuned(bench, size)[0]
    if "methods" in stages:
        yield Phase({f"methods, {name}": single.jobs(bench, size, tuned, name) for name in size.conditions})
    knobs = choice.knobs(bench, size, tuned)
    last: dict[str, Sequence[Job]] = {}
    if "several" in stages:
        last["several"] = several.jobs(bench, size, tuned, knobs)
    if "harm" in stages:
        last["harm"] = harm.jobs(bench, size, tuned, knobs)
    if "ablations" in stages:
        last["ablations"] = ablation.jobs(bench, size, tuned)
    yield Phase(last)


def work(bench: Any, size: Any, stages: Collection[str]) -> None:
    """Do all jobs; other processes with the same cache share them.  Raises OutOfTimeError when the time is over."""
    for phase in phases(bench, size, stages):
        finish([job.do for jobs in phase.jobs.values() for job in jobs])
