"""Runs the quality benchmark on the demo model.

    python benchmarks/quality/run.py --cache DIR               everything: hours on a CPU
    python benchmarks/quality/run.py --cache DIR --quick       two things, minutes
    python benchmarks/quality/run.py --cache DIR --smallest    one thing, seconds: proves that everything runs

Every finished piece of work is kept in the folder of the cache, so a run that was stopped continues when the command is
given again, and the same command in two terminals shares the work.  --minutes stops by itself and says so (exit status
3).  The results are written to --output; a full run's belong into benchmarks/quality/results/.
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

from .cache import Cache, OutOfTimeError
from .plan import SIZES
from .workbench import open_workbench, start_host

OUT_OF_TIME = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of finished work; may be kept for years")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", dest="size", action="store_const", const="quick", default="full")
    sizes.add_argument("--smallest", dest="size", action="store_const", const="smallest")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: a GPU if there is one")
    parser.add_argument("--only", nargs="+", default=None, help="some of: tune methods ablations several harm")
    parser.add_argument("--minutes", type=float, help="begin no new piece of work after this time")
    parser.add_argument("--output", type=Path, help="folder of the results; by default `results` in the cache's folder")
    parser.add_argument("--training-seeds", type=int, help="trainings of each thing by each method; 1 where not given")
    options = parser.parse_args(arguments)
    start_host(options.device)
    from .report import STAGES, Report  # needs the host

    stages = options.only or STAGES
    if set(stages) - set(STAGES):
        parser.error(f"--only takes some of {' '.join(STAGES)}")
    size = SIZES[options.size]
    size = dataclasses.replace(size, training_seeds=options.training_seeds or size.training_seeds)
    bench = open_workbench(Cache(options.cache, options.minutes), size.sampling_steps)
    try:
        path = Report(bench, size, stages, options.output or options.cache / "results").write(options.size)
    except OutOfTimeError:
        print("The time is over; give the same command again to continue.")
        return OUT_OF_TIME
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
