"""Pictures get from a person's disk into a training: the button of Load Concept Pictures, in both ways of drawing."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from test_templates import RUN
from test_what_nodes_show import DRAW, DRAWN, drawing  # noqa: F401

LABEL = "choose pictures to upload"
NODE = "PerfusionLoadPictures"

BUILD = """type => {
    app.graph.clear();
    const loader = LiteGraph.createNode(type);
    loader.pos = [100, 100];
    app.graph.add(loader);
    const show = LiteGraph.createNode('PreviewImage');
    show.pos = [600, 100];
    app.graph.add(show);
    loader.connect(0, show, 0);
    app.canvas.ds.reset();
    app.canvas.setDirty(true, true);
    // A new node of the same number gets the values of the one before.
    loader.widgets.find(widget => widget.name === 'folder').value = '(input folder)';
    window.loader = loader;
}"""
FOLDER = "() => loader.widgets.find(widget => widget.name === 'folder').value"
# Where the button is drawn on the canvas, in pixels of the page.
BUTTON = """() => {
    const button = loader.widgets.find(widget => widget.name === 'upload');
    const box = app.canvas.canvas.getBoundingClientRect();
    if (!button.last_y) return null;
    const [x, y] = [loader.pos[0] + loader.size[0] / 2, loader.pos[1] + button.last_y + 10];
    return [box.x + (x + app.canvas.ds.offset[0]) * app.canvas.ds.scale,
        box.y + (y + app.canvas.ds.offset[1]) * app.canvas.ds.scale];
}"""


@pytest.fixture
def files(tmp_path) -> list[str]:
    for number, size in enumerate([(90, 60), (60, 90), (70, 70)], start=1):
        Image.new("RGB", size, (40 * number, 80, 120)).save(tmp_path / f"rex {number}.png")
    Image.new("L", (90, 60), 255).save(tmp_path / "rex 1.mask.png")
    (tmp_path / "rex 2.txt").write_text("a photo of {} on a sofa", encoding="utf-8")
    return [str(path) for path in sorted(tmp_path.iterdir())]


def chooser_of(page) -> Any:
    """The file chooser that the button opens."""
    if page.evaluate("() => app.extensionManager.setting.get('Comfy.VueNodes.Enabled')"):
        with page.expect_file_chooser(timeout=60_000) as chooser:
            page.get_by_role("button", name=LABEL).click(timeout=60_000)
        return chooser.value
    opened: list[Any] = []

    def note(chooser: Any) -> None:  # a method of a list is refused as a listener
        opened.append(chooser)

    page.on("filechooser", note)
    # A fresh page may still move its canvas, and a drawn button has no element that a click would follow.
    for _ in range(10):
        page.wait_for_function(BUTTON, timeout=60_000)
        page.mouse.click(*page.evaluate(BUTTON))
        page.wait_for_timeout(3_000)
        if opened:
            break
    page.remove_listener("filechooser", note)
    assert opened, "the button opened no file chooser in ten clicks"
    return opened[0]


def test_chosen_files_become_a_folder_that_is_loaded(drawing, front_end, comfyui, files):  # noqa: F811
    """With the mask and the caption among them."""
    if not front_end.evaluate("() => 'Comfy.RightSidePanel.IsOpen' in app.extensionManager.setting.settings"):
        pytest.skip("front ends before 1.37 were not seen to open the files; dropping them works there too")
    front_end.evaluate(BUILD, NODE)
    chooser_of(front_end).set_files(files)
    front_end.wait_for_function(f"() => ({FOLDER})().startsWith('pictures 20')", timeout=60_000)
    folder = front_end.evaluate(FOLDER)
    assert len(list((comfyui.base_directory / "input" / folder).iterdir())) == len(files)
    assert front_end.evaluate(RUN), "the queue refused the graph"
    front_end.wait_for_function("() => window.ended", timeout=120_000)
    assert front_end.evaluate("() => window.ended.kind") == "execution_success"
    front_end.wait_for_function(f"type => ({DRAWN})(type)", arg=NODE, timeout=60_000)
    assert front_end.evaluate(DRAWN, NODE) == "3 pictures, 1 mask, 1 caption"


def test_the_button_is_not_stored(front_end):
    """The values of a saved workflow stand in their old places."""
    front_end.evaluate(BUILD, NODE)
    assert front_end.evaluate("() => loader.serialize().widgets_values") == ["(input folder)", ""]


def test_pictures_dropped_on_the_node_are_uploaded(front_end, comfyui):
    front_end.evaluate(BUILD, NODE)
    taken = front_end.evaluate(
        """async () => {
            const picture = await new Promise(done => document.createElement('canvas').toBlob(done));
            const dropped = new DataTransfer();
            dropped.items.add(new File([picture], 'dropped.png', {type: 'image/png'}));
            const event = new DragEvent('drop', {dataTransfer: dropped});
            return [loader.onDragOver(event), loader.onDragDrop(event)];
        }"""
    )
    assert taken == [True, True]
    front_end.wait_for_function(f"() => ({FOLDER})().startsWith('pictures 20')", timeout=60_000)
    assert (comfyui.base_directory / "input" / front_end.evaluate(FOLDER) / "dropped.png").is_file()
