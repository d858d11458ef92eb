"""Runs the quality benchmark on the demo model.

    python benchmarks/quality/run.py --cache DIR               everything: hours on a CPU
    python benchmarks/quality/run.py --cache DIR --quick       two things, minutes
    python benchmarks/quality/run.py --cache DIR --smallest    one thing, seconds: proves that everything runs

    python benchmarks/quality/run.py --cache DIR --budget      only says what is done and what is still to do

Every finished piece of work is kept in the folder of the cache, so a run that was stopped continues when the command is
given again, and the same command in two terminals shares the work.  --minutes stops by itself and says so (exit status
3).  The report is written from what is there in any case, and names what is missing; it goes to --output, and a full
run's belongs into benchmarks/quality/results/.

A full run starts from the numbers in benchmarks/quality/results/cells.jsonl.xz, which hold for the weights and settings
that they were measured with; --anew measures everything itself.  The report comes with the numbers of its own cache.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a script: the folder's modules are a package named quality
    __package__ = "quality"
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import quality  # noqa: F401

from .archive import NAME, pack, unpack
from .cache import Cache, OutOfTimeError
from .plan import SIZES
from .schedule import STAGES, work
from .tables import markdown
from .workbench import open_workbench, start_host

OUT_OF_TIME = 3
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of finished work; may be kept for years")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", dest="size", action="store_const", const="quick", default="full")
    sizes.add_argument("--smallest", dest="size", action="store_const", const="smallest")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: a GPU if there is one")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, help="some of the experiments")
    parser.add_argument("--minutes", type=float, help="begin no new piece of work after this time")
    parser.add_argument("--budget", action="store_true", help="print what is done and to do, and make nothing")
    parser.add_argument("--output", type=Path, help="folder of the results; by default `results` in the cache's folder")
    parser.add_argument("--training-seeds", type=int, help="trainings of each thing by each method; 1 where not given")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="in which pictures are painted")
    parser.add_argument("--anew", action="store_true", help="start without the numbers of the repository")
    options = parser.parse_args(arguments)
    start_host(options.device)
    size = SIZES[options.size]
    given = {"training_seeds": options.training_seeds, "precision": options.precision}
    size = dataclasses.replace(size, **{name: value for name, value in given.items() if value})
    cache = Cache(options.cache, options.minutes)
    if options.size == "full" and not options.anew:
        print(f"{unpack(RESULTS / NAME, cache)} finished pieces taken from {RESULTS / NAME}")
    bench = open_workbench(cache, size.sampling_steps, size.sampler, size.precision, size.strict)
    if options.budget:
        from .budget import table, unit_costs

        print(markdown(table(bench, size, options.only)))
        costs = [{"unit": unit, "core seconds each": seconds} for unit, seconds in unit_costs(bench).items()]
        print("\nA step of a training or of the sampler, or a picture read:\n\n" + markdown(costs))
        return 0
    from .report import Report  # needs the host

    status = 0
    try:
        work(bench, size, options.only)
    except OutOfTimeError:
        print("The time is over; give the same command again to continue.")
        status = OUT_OF_TIME
    output = options.output or options.cache / "results"
    print(Report(bench, size, options.only, output).write(options.size))
    pack(cache, output / NAME)
    return status


if __name__ == "__main__":
    sys.exit(main())
