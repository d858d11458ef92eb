"""pyproject.toml as the registry reads it: complete, but for one place that only the owner can fill in."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from by_location import REPOSITORY
from PIL import Image
from shipped_archive import shipped_files

tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 reads no TOML")

TEXT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
PUBLISH = (REPOSITORY / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
SYSTEMS = ("OS Independent", "Microsoft", "POSIX", "MacOS")
ACCELERATORS = {
    "GPU :: NVIDIA CUDA",
    "GPU :: AMD ROCm",
    "GPU :: Intel Arc",
    "GPU :: Apple Metal",
    "NPU :: Huawei Ascend",
}
VERSION = r"\d+\.\d+\.\d+(-[a-zA-Z0-9]+)?"
OF_THE_OWNER = re.compile(r"(?m)^# (?=\[project\.urls\]|(Repository|Documentation|\"Bug Tracker\"|Icon|Banner) = )")
PICTURES = REPOSITORY / "docs" / "pictures"


def filled_in(text: str) -> str:
    """The file as the owner's four steps leave it."""
    return OF_THE_OWNER.sub("", text).replace("OWNER", "somebody").replace('PublisherId = ""', 'PublisherId = "one"')


def faults(text: str) -> list[str]:
    """What the registry's documentation does not allow, or asks for in vain."""
    settings = tomllib.loads(text)
    project, comfy = settings["project"], settings["tool"]["comfy"]
    classifiers = [entry.partition(" :: ") for entry in project["classifiers"]]
    systems = [rest for head, _, rest in classifiers if head == "Operating System"]
    devices = [rest for head, _, rest in classifiers if head == "Environment"]
    urls = [*project.get("urls", {}).values(), comfy.get("Icon", ""), comfy.get("Banner", "")]
    rules = {
        "name": bool(re.fullmatch(r"[a-z][a-z0-9._-]{0,98}[a-z0-9]", project["name"]))
        and "comfy" not in project["name"],
        "version": bool(re.fullmatch(VERSION, project["version"])),
        "description": 20 < len(project["description"]) < 300,
        "license": isinstance(project["license"], dict) and len(project["license"]) == 1,
        "requires-python": project["requires-python"].startswith(">="),
        "dependencies": project["dependencies"] == [],
        "readme": (REPOSITORY / project["readme"]).is_file(),
        "systems": bool(systems) and all(system.startswith(SYSTEMS) for system in systems),
        "accelerators": bool(devices) and set(devices) <= ACCELERATORS,
        "requires-comfyui": bool(re.fullmatch(rf"(==|>=|<=|!=|~=|>|<)\s*{VERSION}", comfy["requires-comfyui"])),
        "DisplayName": bool(comfy["DisplayName"]),
        "web": (REPOSITORY / comfy["web"]).is_dir(),
        "PublisherId": bool(re.fullmatch(r"[a-z0-9-]+", comfy["PublisherId"])),
        "Repository": project.get("urls", {}).get("Repository", "").startswith("https://github.com/"),
        "urls": len(urls) == 5 and all(url.startswith("https://") for url in urls),
    }
    return [rule for rule, kept in rules.items() if not kept]


def test_once_the_owners_place_is_filled_in_nothing_is_missing():
    assert not faults(filled_in(TEXT))


def test_nothing_else_is_missing_now():
    assert set(faults(TEXT)) <= {"PublisherId", "Repository", "urls"}


def test_the_owners_lines_stand_in_one_place():
    lines = TEXT.splitlines()
    own = [n for n, line in enumerate(lines) if OF_THE_OWNER.match(line) or line.startswith("PublisherId")]
    assert own and max(own) - min(own) < 12


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('name = "perfusion"', 'name = "ComfyUI-Perfusion"', "name"),
        ('{ text = "GPL-3.0-or-later" }', '"GPL-3.0-or-later"', "license"),
        ('">=0.3.75"', '">=0.3"', "requires-comfyui"),
        ("GPU :: Apple Metal", "GPU :: Apple", "accelerators"),
    ],
)
def test_faults_are_seen(old, new, rule):
    assert old in TEXT and faults(filled_in(TEXT).replace(old, new)) == [rule]


def test_the_licence_is_the_one_in_the_file():
    assert "GNU GENERAL PUBLIC LICENSE" in (REPOSITORY / "LICENSE").read_text(encoding="utf-8")[:200]


def test_icon_and_banner_have_the_registrys_sizes():
    with Image.open(PICTURES / "icon.png") as icon, Image.open(PICTURES / "banner.png") as banner:
        assert icon.width == icon.height <= 400 and banner.width * 9 == banner.height * 21
    assert not [path for path in shipped_files() if path.startswith("docs/")]  # the registry fetches them by address


def test_publishing_waits_for_every_test():
    assert re.search(r"(?m)^  tests:\n    uses: \./\.github/workflows/tests\.yml$", PUBLISH)
    assert re.search(r"(?m)^  publish:\n    needs: tests$", PUBLISH)
    called = (REPOSITORY / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert re.search(r"(?m)^  workflow_call:", called)


@pytest.mark.parametrize("command", [["comfy", "--skip-prompt", "node", "validate"], ["comfy-test", "lint"]])
def test_the_registrys_own_tools_agree(command, tmp_path):
    """Where they are installed, as in the workflow that publishes."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    for name in shipped_files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Warning:" not in done.stdout, done.stdout + done.stderr
