"""The way of a person through the templates in both ways in which the front end draws nodes: tidy nodes, a picture
that brings its graph back, a training that is watched, cancelled and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from by_location import load_package
from test_templates import RUN, SHORT, SHORTEN, SHOWING, SMALL_SCREEN, SMALLEST_TEXT, USUAL_SCREEN, overlapping
from test_what_nodes_show import DRAW, change, drawing, run  # noqa: F401

load_package("demo", "demo")
from demo.making.template_layouts import TEMPLATES, file_name  # noqa: E402

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
BY_NAME = {template.name: template for template in TEMPLATES}

OPEN = "async workflow => { await app.loadGraphData(workflow, true, true, 'template', {openSource: 'template'}); }"
# The nodes as elements of the page: number, left, top, width, height in pixels.
DRAWN = """() => [...document.querySelectorAll('[data-node-id]')].map(one => {
    const box = one.getBoundingClientRect();
    return [one.dataset.nodeId, box.x, box.y, box.width, box.height];
})"""
WIDTHS = """number => [...document.querySelectorAll(`[data-node-id="${number}"] img`)]
    .map(picture => picture.naturalWidth).filter(width => width > 0)"""
NEW = "() => 'Comfy.RightSidePanel.IsOpen' in app.extensionManager.setting.settings"

DROP = """async name => {
    const answer = await fetch(`/api/view?${new URLSearchParams({filename: name, type: 'output', subfolder: ''})}`);
    const dropped = new DataTransfer();
    dropped.items.add(new File([await answer.blob()], name, {type: 'image/png'}));
    const place = {bubbles: true, cancelable: true, clientX: 600, clientY: 600, dataTransfer: dropped};
    app.canvas.canvas.dispatchEvent(new DragEvent('dragover', place));
    app.canvas.canvas.dispatchEvent(new DragEvent('drop', place));
}"""
PROMPT = "async () => (await app.graphToPrompt()).output"

# What the trainer shows while it runs: lines of text, how full its bar was (what it prepares first fills it too), and
# how many pictures.
WATCH = """() => {
    window.trainer = app.graph.nodes.find(node => node.type === 'PerfusionTrainConcept');
    window.seen = {lines: [], progress: [], pictures: 0};
    window.watch = setInterval(() => {
        const text = trainer.widgets.find(widget => widget.name === '$$node-text-preview')?.value;
        if (text && seen.lines.at(-1) !== text) seen.lines.push(text);
        if (trainer.progress) seen.progress.push(trainer.progress);
        const drawn = [...document.querySelectorAll(`[data-node-id="${trainer.id}"] img`)];
        seen.pictures = Math.max(seen.pictures, (trainer.imgs ?? drawn).length, drawn.length);
    }, 20);
}"""


def workflow_of(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{file_name(BY_NAME[name])}.json").read_text(encoding="utf-8"))


@pytest.fixture
def nodes_2(front_end):
    """The newer way of drawing, on the page of a small laptop."""
    if not front_end.evaluate(NEW):
        pytest.skip("Nodes 2.0 was on trial before front end 1.37")
    front_end.evaluate(DRAW, True)
    front_end.set_viewport_size(SMALL_SCREEN)
    yield front_end
    front_end.set_viewport_size(USUAL_SCREEN)
    front_end.evaluate(DRAW, False)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_template_is_tidy_and_runs_to_its_pictures_in_nodes_2(nodes_2, name):
    """Nodes are higher there; test_templates has the classic way, with full runs."""
    front_end = nodes_2
    workflow = workflow_of(name)
    front_end.evaluate(OPEN, workflow)
    front_end.wait_for_function(
        "count => document.querySelectorAll('[data-node-id]').length === count",
        arg=len(workflow["nodes"]),
        timeout=60_000,
    )
    front_end.wait_for_timeout(500)  # until all have their sizes
    assert front_end.evaluate("() => app.canvas.ds.scale") >= SMALLEST_TEXT
    titles = {str(node["id"]): node.get("title") or node["type"] for node in workflow["nodes"]}
    assert not overlapping([[titles[number], *box] for number, *box in front_end.evaluate(DRAWN)])

    front_end.evaluate(SHORTEN, SHORT)
    change(front_end, "KSampler", steps=3)
    ended = run(front_end)
    assert ended["kind"] == "execution_success", ended
    # The source of an edit, the picture to paint into and the like have a mode of their own where they do not run.
    showing = [str(node["id"]) for node in workflow["nodes"] if node["type"] in SHOWING and not node.get("mode")]
    assert showing
    front_end.wait_for_function(f"numbers => numbers.every(number => ({WIDTHS})(number).length)", arg=showing)
    assert not overlapping([[titles[number], *box] for number, *box in front_end.evaluate(DRAWN)])


def test_a_saved_picture_that_is_dropped_on_the_page_brings_its_graph_back(drawing, front_end, comfyui):  # noqa: F811
    front_end.evaluate(OPEN, workflow_of("First picture"))
    change(front_end, "EmptyLatentImage", batch_size=1)
    change(front_end, "KSampler", steps=2, seed=front_end.evaluate("() => Math.floor(Math.random() * 1e9)"))
    prompt = front_end.evaluate(PROMPT)
    before = set((comfyui.base_directory / "output").glob("perfusion_*.png"))
    assert run(front_end)["kind"] == "execution_success"
    (picture,) = set((comfyui.base_directory / "output").glob("perfusion_*.png")) - before
    front_end.evaluate("() => app.graph.clear()")
    front_end.evaluate(DROP, picture.name)
    front_end.wait_for_function("() => app.graph.nodes.length === 10", timeout=60_000)
    assert front_end.evaluate(PROMPT) == prompt


@pytest.mark.slow
def test_a_training_is_watched_cancelled_and_gone_on_with(drawing, front_end):  # noqa: F811
    front_end.evaluate(OPEN, workflow_of("Train a concept"))
    change(front_end, "PerfusionTrainConcept", preset="Custom", steps=10_000, batch_size=1, samples=0, preview_every=2)
    change(front_end, "PerfusionTrainConcept", file_name=f"watched {front_end.evaluate('() => Date.now()')}")
    change(front_end, "EmptyLatentImage", batch_size=1)
    change(front_end, "KSampler", steps=2)
    front_end.evaluate(WATCH)
    try:
        assert front_end.evaluate(RUN), "the queue refused the graph"
        front_end.wait_for_function(
            "() => seen.pictures && seen.lines.filter(text => text.startsWith('step ')).length > 5 || window.ended",
            timeout=120_000,
        )
        cancel = front_end.get_by_role("button", name="Cancel current run").first
        if cancel.count():
            cancel.click()
        else:  # front ends of hosts before 0.8 call it otherwise
            front_end.evaluate("() => app.extensionManager.command.execute('Comfy.Interrupt')")
        front_end.wait_for_function("() => window.ended", timeout=60_000)
        seen = front_end.evaluate("() => seen")
        assert front_end.evaluate("() => window.ended.kind") == "execution_interrupted"
        assert 0 < seen["progress"][-1] < 0.5 and seen["pictures"] == 1

        change(front_end, "PerfusionTrainConcept", resume=True, steps=3)  # more were made, so what is left is the end
        front_end.evaluate("() => { seen.lines = []; }")
        assert run(front_end)["kind"] == "execution_success"
        seen = front_end.evaluate("() => seen")
        assert any(".safetensors" in text for text in seen["lines"]), seen["lines"]
    finally:
        front_end.evaluate("() => clearInterval(window.watch)")
