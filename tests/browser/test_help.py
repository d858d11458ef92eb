"""The help of a node as the front end shows it: the panel opens, and every picture in it is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_templates import USUAL_SCREEN
from test_what_nodes_show import DRAW

from dev_tools.server import PACK_FOLDER

PAGES = Path(__file__).resolve().parents[2] / "web" / "docs"
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)")
MOST_BYTES, MOST_BYTES_TOGETHER = 60_000, 400_000


def pictures_of(page: Path) -> list[str]:
    """The pictures of a page, each as its path from the folder of the pages."""
    return PICTURE.findall(page.read_text(encoding="utf-8"))


PAGES_WITH_PICTURES = sorted(page.stem for page in PAGES.glob("*.md") if pictures_of(page))

# The node alone on the canvas, and selected: its toolbox has the button that opens the help.
SELECT = """(type) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    node.pos = [500, 450];  // its toolbox stands above it, clear of what the front end has at the top
    app.graph.add(node);
    app.canvas.ds.reset();
    app.canvas.selectNode(node);
    app.canvas.setDirty(true, true);
}"""

LOADED = """() => {
    const pictures = [...document.querySelectorAll('.node-help-content img')];
    return pictures.length > 0 && pictures.every(picture => picture.complete) && pictures.map(picture => ({
        address: picture.getAttribute('src'),
        width: picture.naturalWidth,
        opens: picture.closest('a')?.getAttribute('href'),
    }));
}"""

STATUS = "async addresses => Promise.all(addresses.map(async address => (await fetch(address)).status))"


# The help is in the panel on the right, in old front ends in the bar on the left.
CLOSE = """async () => {
    app.graph.clear();
    const {setting, sidebarTab} = app.extensionManager;
    if (setting.settings['Comfy.RightSidePanel.IsOpen']) await setting.set('Comfy.RightSidePanel.IsOpen', false);
    else sidebarTab.activeSidebarTabId = null;
}"""


@pytest.fixture
def canvas(front_end):
    """The front end; afterwards with an empty canvas and the panel closed, as the other tests find it."""
    yield front_end
    front_end.evaluate(CLOSE)


@pytest.mark.parametrize("node", PAGES_WITH_PICTURES)
def test_the_help_panel_shows_its_pictures(node, canvas):
    canvas.evaluate(SELECT, node)
    canvas.locator("[data-testid='info-button']").click(timeout=60_000)
    title = (PAGES / f"{node}.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    canvas.locator(".node-help-content h1", has_text=title).wait_for(timeout=60_000)
    shown = canvas.wait_for_function(LOADED, timeout=60_000).json_value()

    addresses = [f"/extensions/{PACK_FOLDER}/docs/{path}" for path in pictures_of(PAGES / f"{node}.md")]
    assert [picture["address"] for picture in shown] == addresses
    assert canvas.evaluate(STATUS, addresses) == [200] * len(addresses)
    assert all(picture["width"] > 0 for picture in shown), shown
    assert [picture["opens"] for picture in shown] == addresses, "a click must open the picture in full size"


# Parts of the page that reach over its right edge, or hold more than they show.
CUT_OFF = """() => {
    const help = document.querySelector('.node-help-content'), edge = help.getBoundingClientRect();
    const over = one => one.getBoundingClientRect().right > edge.right + 1
        || (getComputedStyle(one).overflowX !== 'visible' && one.scrollWidth > one.clientWidth + 1);
    return [help, ...help.querySelectorAll('*')].filter(over).map(one => one.innerText);
}"""


@pytest.fixture(params=[(False, 1400), (True, 1730)], ids=["classic", "nodes 2.0"])
def panel(request, canvas):
    """The canvas in a way of drawing.  The panel is 20 percent of the page: 346 pixels in the newer, else less."""
    newer, width = request.param
    canvas.set_viewport_size({"width": width, "height": 900})
    canvas.evaluate(DRAW, newer)
    yield canvas
    canvas.evaluate(DRAW, False)
    canvas.set_viewport_size(USUAL_SCREEN)


def test_the_help_fits_the_panel_without_scrolling_sideways(panel):
    canvas = panel
    if not canvas.evaluate("() => 'Comfy.RightSidePanel.IsOpen' in app.extensionManager.setting.settings"):
        pytest.skip("in front ends before 1.37 the help is in the bar on the left, as wide as one likes")
    cut = {}
    for page in sorted(PAGES.glob("*.md")):
        canvas.evaluate(SELECT, page.stem)
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        heading = canvas.locator(".node-help-content h1", has_text=title)
        if canvas.locator(".node-help-content").count() == 0:
            canvas.locator("[data-testid='info-button']").click(timeout=60_000)
        heading.wait_for(timeout=60_000)
        cut[page.stem] = canvas.evaluate(CUT_OFF)
    assert canvas.evaluate("() => document.querySelector('.node-help-content').clientWidth") <= 346
    assert not {page: parts for page, parts in cut.items() if parts}


def test_the_trainer_has_pictures():
    assert {"PerfusionTrainConcept", "PerfusionLoadConcept"} <= set(PAGES_WITH_PICTURES)


def test_pictures_are_small_and_all_used():
    used = [PAGES / path for node in PAGES_WITH_PICTURES for path in pictures_of(PAGES / f"{node}.md")]
    assert sorted(used) == sorted(path for path in PAGES.rglob("*") if path.suffix in (".jpg", ".png", ".webp"))
    sizes = [path.stat().st_size for path in used]
    assert max(sizes) <= MOST_BYTES and sum(sizes) <= MOST_BYTES_TOGETHER
