"""What `comfy-test lint` finds fault with, in all that is shipped: the registry's other users run it on packs."""

from __future__ import annotations

import re

import pytest
from by_location import REPOSITORY
from shipped_archive import shipped_files

# The host chooses devices, precisions and layers; its own loaders read files.
NOT_THE_HOSTS_WAY = re.compile(
    r"""
    \.cuda\s*\( | \.to\s*\(\s*(torch\.device\s*\(\s*)?["']cuda | torch\.cuda\.empty_cache\s*\(
    | torch\.(cuda\.amp\.|amp\.)?autocast\b | torch\.load\s*\(
    | (?<![\w.])(torch\.)?nn\.(Linear|Conv\dd|ConvTranspose\dd|LayerNorm|GroupNorm|Embedding)\s*\(
    """,
    re.VERBOSE,
)
# All packs share one page: what is written there meets what others write.
SHARED_PAGE = re.compile(
    r"""
    \b(window|globalThis)\.\w+\s*= | \bdocument\.(body|head|cookie|adoptedStyleSheets|addEventListener)\b
    | \b(window|globalThis)\.addEventListener\b | \b(local|session)Storage\b | customElements\.define
    | \b(LiteGraph|LGraph\w*|ComfyWidgets|app|api|Object|Array|String)\.(\w+\.)*\w+\s*=[^=>]
    """,
    re.VERBOSE,
)
EXTENSION = re.compile(r'registerExtension\(\{\s*name: "([^"]+)"')


def shipped(ending: str) -> list[str]:
    return sorted(path for path in shipped_files() if path.endswith(ending))


def lines_with(pattern: re.Pattern[str], path: str) -> list[str]:
    lines = (REPOSITORY / path).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if pattern.search(line) and not line.lstrip().startswith(("#", "//"))]


def test_devices_precisions_and_layers_are_the_hosts():
    found = {path: lines_with(NOT_THE_HOSTS_WAY, path) for path in shipped(".py")}
    assert len(found) > 100 and not {path: lines for path, lines in found.items() if lines}


def test_scripts_of_the_page_leave_alone_what_all_packs_share():
    scripts = shipped(".js")
    found = {path: lines_with(SHARED_PAGE, path) for path in scripts}
    assert scripts and not {path: lines for path, lines in found.items() if lines}


def test_extensions_of_the_page_bear_the_packs_name():
    names = [EXTENSION.findall((REPOSITORY / path).read_text(encoding="utf-8")) for path in shipped(".js")]
    assert all(len(of_a_file) == 1 and of_a_file[0].startswith("perfusion.") for of_a_file in names), names


@pytest.mark.parametrize(
    "line", ["x.cuda()", 'x.to("cuda:0")', "torch.amp.autocast(d)", "nn.Linear(2, 2)", "safetensors.torch.load(b)"]
)
def test_what_is_not_the_hosts_way_is_seen(line):
    assert NOT_THE_HOSTS_WAY.search(line) and not NOT_THE_HOSTS_WAY.search("isinstance(x, nn.Linear)")


@pytest.mark.parametrize(
    "line", ["window.a = 1", "document.body.append(x)", "LGraphCanvas.prototype.draw = f", "app.graph = 1"]
)
def test_what_all_packs_share_is_seen(line):
    assert SHARED_PAGE.search(line) and not SHARED_PAGE.search("node.onDragOver = event => app.x == 1")
