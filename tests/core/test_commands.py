"""Commands that pages, docstrings and comments tell a reader to give: the scripts that they name are there."""

from __future__ import annotations

import re

from by_location import REPOSITORY

COMMAND = re.compile(r"\bpython3? (?P<script>[\w./-]+\.py)\b(?: (?P<name>\w+))?")
LAUNCHER = "demo/making/run.py"
NAME = "NAME"  # stands for any
OF_THE_HOST = ("main.py",)
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for ending in ("md", "py", "toml")
    for path in REPOSITORY.rglob(f"*.{ending}")
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
)


def unknown(text: str) -> list[str]:
    """The commands in a text whose script, or whose script of the launcher, is not in the repository."""
    wrong = []
    for command in COMMAND.finditer(text):
        script, name = command["script"], command["name"]
        there = script in OF_THE_HOST or (REPOSITORY / script).is_file()
        if there and script == LAUNCHER and name != NAME:
            started = REPOSITORY / LAUNCHER.replace("run.py", f"{name}.py")
            there = started.is_file() and re.search(r"^def main\(", started.read_text(encoding="utf-8"), re.MULTILINE)
        if not there:
            wrong.append(command[0])
    return wrong


def test_every_command_names_a_script_that_is_there():
    wrong = {page: unknown((REPOSITORY / page).read_text(encoding="utf-8")) for page in PAGES}
    del wrong["tests/core/test_commands.py"]  # has wrong ones to show
    assert not {page: commands for page, commands in wrong.items() if commands}


def test_wrong_commands_are_seen():
    assert unknown("`python demo/tour.py --server URL`") == ["python demo/tour.py"]
    assert unknown("python demo/making/run.py recogniser --help") == ["python demo/making/run.py recogniser"]
    assert unknown("python demo/making/run.py --help") == ["python demo/making/run.py"]
    assert not unknown("python demo/making/run.py NAME, python demo/making/run.py tour --output DIR")
    assert not unknown("python dev.py test")
