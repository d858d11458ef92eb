"""`dev.py test`: the tools, ruff, then each group of tests in a process of its own, and one summary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import host as hosts
from . import install_host, interpreters, packages, pip_runner
from .errors import DevError
from .interpreters import Interpreter
from .paths import REPOSITORY, TEST_TOOLS
from .processes import run_bounded

# A runner has to be done some time, whatever hangs; on two idle cores a run takes a quarter of this.
CI_SECONDS = 60 * 60
# Each process of tests holds a ComfyUI of its own: up to 5 GB where it fills a model of full size.
MOST_PROCESSES = 4
NO_TESTS_COLLECTED = 5

# import name -> pip requirement
TOOLS = {"pytest": "pytest", "xdist": "pytest-xdist", "hypothesis": "hypothesis", "ruff": "ruff"}
# pyright with a node of its own, so that the package index is enough.
TYPE_CHECKER = {"basedpyright": "basedpyright"}
BROWSER_TOOLS = {"playwright": "playwright"}
# The numerical peer. Without its own requirements, which would bring another image-text model along; where it cannot be
# had, the one test that compares with it is skipped.
PEER = {name: name.replace("_", "-") for name in ("perfusion_pytorch", "beartype", "opt_einsum", "einops")}


@dataclass(frozen=True)
class Outcome:
    """What became of one group; `text` is its part of the summary line, `remark` a line after it."""

    group: str
    ok: bool
    text: str
    remark: str = ""


def tool_environment(interpreter: Interpreter, tools: dict[str, str], *pip_options: str) -> dict[str, str]:
    """Environment variables with which `interpreter` finds `tools`; what it lacks is installed first.

    Our own `.venv` takes the tools directly. An environment of the user's is never changed: there they go into
    `.test-tools/`, one folder per Python version, which is put on PYTHONPATH.
    """
    environment = dict(os.environ)
    command = [str(interpreter.python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    overlay = TEST_TOOLS / f"python{version}"
    if overlay.is_dir():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(overlay), os.environ.get("PYTHONPATH"))))
    check = (
        "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])"
    )
    command = [str(interpreter.python), "-c", check, *tools]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=interpreter.python.parent)
    if answer.returncode != 0:
        raise DevError(f"{interpreter.python} does not run ({answer.stderr.strip()[-200:]}): try --host PATH.")
    missing = [tools[name] for name in answer.stdout.split()]
    if missing:
        packages.require_space(REPOSITORY, packages.TOOLS_GIB)
        print(f"Installing the test tools {', '.join(missing)}", flush=True)
        if interpreter.is_ours:
            pip_runner.install(interpreter.python, missing, *pip_options)
        else:
            pip_runner.install(interpreter.python, missing, "--target", str(overlay), "--upgrade", *pip_options)
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(overlay), os.environ.get("PYTHONPATH"))))
    return environment


def _alarm(seconds: int) -> None:
    """End whatever is running after `seconds`, an installation included (where the system has such an alarm)."""

    def out_of_time(number: int, frame: object) -> None:
        raise DevError(f"The tests were not done within {seconds // 60} minutes: see above what took so long.")

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, out_of_time)
        signal.alarm(seconds)


def _checks(python: Path) -> dict[str, list[str]]:
    """What reads the code without running it, by its name in the summary."""
    return {
        "ruff": ["ruff", "check", "--output-format", "concise", "."],
        "format": ["ruff", "format", "--check", "."],
        "types": ["basedpyright", "--pythonpath", str(python)],
    }


def _check(name: str, interpreter: Interpreter, environment: dict[str, str], seconds: float) -> Outcome:
    command = [str(interpreter.python), "-m", *_checks(interpreter.python)[name]]
    code = run_bounded(command, seconds, cwd=REPOSITORY, env=environment)
    return Outcome(name, code == 0, "ok" if code == 0 else "FAILED")


def _counts(report: Path) -> str:
    """ "120 passed, 2 skipped" from pytest's XML report."""
    suites = _elements(report, "testsuite")
    if suites is None:
        return "no report"
    total = {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    bad = total["failures"] + total["errors"]
    parts = [(total["tests"] - bad - total["skipped"], "passed"), (bad, "FAILED"), (total["skipped"], "skipped")]
    return ", ".join(f"{count} {word}" for count, word in parts if count) or "no tests"


def _elements(report: Path, tag: str) -> list[ElementTree.Element] | None:
    try:
        return list(ElementTree.parse(report).getroot().iter(tag))
    except (OSError, ElementTree.ParseError):
        return None


def _why_nothing_ran(report: Path) -> str:
    """The reasons for which every test of a group was skipped, or nothing when one ran."""
    cases = _elements(report, "testcase") or []
    skipped = [case.find("skipped") for case in cases]
    if not cases or any(element is None for element in skipped):
        return ""
    return " ".join(dict.fromkeys(str(element.get("message")) for element in skipped if element is not None))


def _processes(group: str, interpreter: Interpreter) -> int:
    """How many processes share the tests of a group."""
    # Pages of a browser wait for each other's clocks, and an accelerator has room for one test's model.
    if group == "browser" or interpreter.device != "cpu":
        return 0
    return min(os.cpu_count() or 1, MOST_PROCESSES)


def _group(
    group: str, interpreter: Interpreter, environment: dict[str, str], pytest_arguments: Sequence[str], seconds: float
) -> Outcome:
    print(f"\n== tests/{group} ==", flush=True)
    start = time.monotonic()
    paths = [argument for argument in pytest_arguments if _is_test_path(argument)]
    others = [argument for argument in pytest_arguments if not _is_test_path(argument)]
    chosen = [path for path in paths if _belongs_to(path, group)] if paths else [f"tests/{group}"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(interpreter.python), str(Path(__file__).with_name("run_pytest.py")), *chosen]
        # Before the caller's own arguments, which may say otherwise.
        command += [f"--numprocesses={_processes(group, interpreter)}", "--dist=worksteal", *others]
        command += [f"--junitxml={report}", "-p", "no:cacheprovider", "--durations=10"]
        code = run_bounded(command, seconds, cwd=REPOSITORY, env=environment)
        counts, why = _counts(report), _why_nothing_ran(report)
    took = f"in {time.monotonic() - start:.0f} s"
    if code is None:
        return Outcome(group, False, f"STOPPED {took}, out of time", f"{group} took too long: what was slow is above.")
    if code == NO_TESTS_COLLECTED and pytest_arguments:
        return Outcome(group, True, "none selected")
    if code not in (0, 1):
        return Outcome(group, False, f"FAILED {took}, pytest exit code {code}")
    remark = f"No test of tests/{group} ran: {why}" if why else ""
    return Outcome(group, code == 0, f"{counts} {took}", remark)


def _is_test_path(argument: str) -> bool:
    return not argument.startswith("-") and (REPOSITORY / argument.split("::")[0]).exists() and "tests" in argument


def _belongs_to(path: str, group: str) -> bool:
    folder = (REPOSITORY / "tests" / group).resolve()
    target = (REPOSITORY / path.split("::")[0]).resolve()
    return target == folder or folder in target.parents


def _has_tests(group: str) -> bool:
    return any((REPOSITORY / "tests" / group).glob("**/test_*.py"))


def run(wanted_host: str | None, core_only: bool, fast: bool, pytest_arguments: Sequence[str]) -> int:
    """Run everything and return the exit code. Raises DevError when it cannot be started."""
    start = time.monotonic()
    limit = 24 * 3600
    if os.environ.get("CI", "").lower() in ("1", "true"):
        limit = CI_SECONDS
        _alarm(CI_SECONDS + 60)

    def seconds_left() -> float:
        return max(1.0, limit - (time.monotonic() - start))

    host = None if core_only else install_host.find_or_install(wanted_host)
    # --core still looks for a ComfyUI, for the torch in its environment.
    interpreter = interpreters.for_core(hosts.find(wanted_host)) if host is None else interpreters.for_host(host)
    tools = {**TOOLS, **TYPE_CHECKER}
    environment = tool_environment(interpreter, tools if host is None else {**tools, **BROWSER_TOOLS})
    try:
        environment = tool_environment(interpreter, PEER, "--no-deps")
    except DevError as error:
        print(f"The comparison with perfusion-pytorch will be skipped: {error}")
    print(f"Python: {interpreter.python} (device {interpreter.device})")
    if host is not None:
        environment["COMFYUI_PATH"] = str(host)

    outcomes = [_check(name, interpreter, environment, seconds_left()) for name in _checks(interpreter.python)]
    if fast:
        pytest_arguments = ["-m", "not slow", *pytest_arguments]
    paths = [argument for argument in pytest_arguments if _is_test_path(argument)]
    for group in ("core",) if host is None else ("core", "host", "browser"):
        if paths and not any(_belongs_to(path, group) for path in paths):
            continue
        if not _has_tests(group):
            outcomes.append(Outcome(group, group != "core", "no tests"))
            continue
        outcomes.append(_group(group, interpreter, environment, pytest_arguments, seconds_left()))

    good = all(outcome.ok for outcome in outcomes)
    parts = " | ".join(f"{outcome.group}: {outcome.text}" for outcome in outcomes)
    print(f"\n{'PASSED' if good else 'FAILED'} in {time.monotonic() - start:.0f} s  ({parts})", flush=True)
    for outcome in outcomes:
        if outcome.remark:
            print(outcome.remark, flush=True)
    if core_only:
        print("Only the tests that need no ComfyUI were asked for (--core).", flush=True)
    sys.stdout.flush()
    return 0 if good else 1
