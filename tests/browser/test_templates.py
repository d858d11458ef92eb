"""Every template, opened from the host's template browser in its own front end: complete, tidy, the demo's own prompt,
and run to its pictures by the action behind the Run button."""

from __future__ import annotations

import pytest
from by_location import load_package

from dev_tools.server import PACK_FOLDER

load_package("demo", "demo")
from demo.making.template_layouts import TEMPLATES, file_name  # noqa: E402

# A training that only shows that it runs.
SHORT = {"preset": "Custom", "steps": 2, "batch_size": 1, "samples": 0, "keep_every": 1}

STATE = """() => ({
    types: app.graph.nodes.map(node => node.type),
    unknown: app.graph.nodes.map(node => node.type).filter(type => !LiteGraph.registered_node_types[type]),
    faulty: app.graph.nodes.filter(node => node.has_errors).map(node => node.type),
    boxes: app.graph.nodes.map(node => [node.title, ...node.boundingRect]),
    free: app.graph.nodes.filter(node => node.type === 'PerfusionConceptGate')
        .map(node => node.inputs.filter(input => input.name.startsWith('concepts.') && input.link === null).length),
})"""

SHORTEN = """(settings) => {
    for (const node of app.graph.nodes.filter(node => node.type === 'PerfusionTrainConcept'))
        for (const [name, value] of Object.entries(settings))
            node.widgets.find(widget => widget.name === name).value = value;
}"""

SHOWING = {
    *("SaveImage", "PreviewImage", "MaskPreview"),
    *("PerfusionInspectGate", "PerfusionConceptInfo", "PerfusionAttentionMaps"),
}
SMALL_SCREEN, USUAL_SCREEN = ({"width": width, "height": height} for width, height in ((1536, 730), (1400, 900)))
SMALLEST_TEXT = 0.571  # below this scale the canvas draws no text
# Old front ends load a node's pictures when they first draw the node.
COME_TO = """(kind) => {
    app.canvas.centerOnNode(app.graph.nodes.find(node => node.type === kind));
    app.canvas.setDirty(true, true);
}"""

SEE_ALL = """() => {
    app.canvas.ds.scale = 0.4;
    app.canvas.ds.offset = [400, 400];
    app.canvas.setDirty(true, true);
}"""
# A loader that ran grows when it is drawn with the picture of its file for the first time.
GROWN = """() => app.graph.nodes.filter(node => node.type === 'PerfusionLoadConcept')
    .every(node => !node.imgs?.length || node.size[1] > 500)"""

# The front end of 0.3.75 says false of every prompt; of one that was taken no node has an error.
RUN = """async () => {
    window.ended = null;
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
        app.api.addEventListener(kind, event => { window.ended = {kind, ...event.detail}; });
    return await app.queuePrompt(0, 1) || Object.keys(app.lastNodeErrors ?? {refused: 1}).length === 0;
}"""

# The pictures that the output nodes show on the canvas, once the browser has decoded them.
SHOWN = """() => app.graph.nodes.filter(node => node.imgs?.length)
    .map(node => [node.type, node.imgs.map(picture => picture.naturalWidth)])"""


def own_nodes(comfyui) -> set[str]:
    return {name for name in comfyui.get("/object_info") if name.startswith("Perfusion")}


def open_from_the_browser_of_templates(page, name: str) -> None:
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK_FOLDER, exact=True).first.click(timeout=60_000)
    card = page.locator(f'[data-testid="template-workflow-{name}"]')
    card.scroll_into_view_if_needed(timeout=60_000)  # pictures of cards out of sight are not loaded
    # Without a thumbnail of its own the card shows a picture of another size.
    page.wait_for_function(
        "name => document.querySelector(`[data-testid='template-workflow-${name}'] img`)?.naturalWidth === 400",
        arg=name,
        timeout=60_000,
    )
    card.click(timeout=60_000)


def overlapping(boxes: list[list]) -> list[tuple[str, str]]:
    """Pairs of titles whose boxes [title, left, top, width, height] touch."""
    return [
        (a[0], b[0])
        for index, a in enumerate(boxes)
        for b in boxes[:index]
        if a[1] < b[1] + b[3] and b[1] < a[1] + a[3] and a[2] < b[2] + b[4] and b[2] < a[2] + a[4]
    ]


def numbered(prompt: dict, muted: tuple[str, ...]) -> dict:
    """The prompt with its nodes' names as the templates number them: the note is 1, the rest follow in order."""
    number = {name: str(position) for position, name in enumerate(prompt, start=2)}

    def named(value: object) -> object:
        return [number[value[0]], value[1]] if isinstance(value, list) else value

    return {
        number[name]: (node["class_type"], {key: named(value) for key, value in node["inputs"].items()})
        for name, node in prompt.items()
        if name not in muted
    }


def test_the_search_for_templates_finds_those_of_the_pack(front_end):
    front_end.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    front_end.get_by_placeholder("Search").last.fill("perfusion", timeout=60_000)
    card = front_end.locator('[data-testid^="template-workflow-Perfusion"]')
    card.nth(3).wait_for(timeout=60_000)  # the rest comes when the list is scrolled
    found = front_end.locator('[data-testid^="template-workflow-"]').evaluate_all(
        "all => all.map(one => one.dataset.testid)"
    )
    card.first.click()  # which closes the list
    front_end.locator('[data-testid^="template-workflow-"]').first.wait_for(state="detached", timeout=60_000)
    assert set(found) <= {f"template-workflow-{file_name(template)}" for template in TEMPLATES}


def test_the_front_end_knows_every_node_and_its_help(comfyui, front_end):
    offered = own_nodes(comfyui)
    known = set(front_end.evaluate("() => Object.keys(LiteGraph.registered_node_types)"))
    assert offered and offered <= known
    for node in sorted(offered):
        page = f"/extensions/{PACK_FOLDER}/docs/{node}.md"
        text = front_end.evaluate("async url => { const got = await fetch(url); return got.ok && got.text(); }", page)
        assert text and text.startswith("# "), f"no help page at {page}"


@pytest.fixture
def small_screen(front_end):
    """The front end on the page of a small laptop."""
    front_end.set_viewport_size(SMALL_SCREEN)
    front_end.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    yield front_end
    front_end.set_viewport_size(USUAL_SCREEN)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_template(template, comfyui, small_screen):
    front_end = small_screen
    open_from_the_browser_of_templates(front_end, file_name(template))
    front_end.wait_for_function(
        "types => app.graph.nodes.map(node => node.type).sort().join() === types.join()",
        arg=sorted(["MarkdownNote", *(node["class_type"] for node in template.prompt.values())]),
        timeout=60_000,
    )

    state = front_end.evaluate(STATE)
    assert not state["unknown"] and not state["faulty"]
    assert not overlapping(state["boxes"])
    assert front_end.evaluate("() => app.canvas.ds.scale") >= SMALLEST_TEXT
    gate = comfyui.get("/object_info")["PerfusionConceptGate"]["input"]
    offered = [name for kind in gate.values() for name in kind if name.startswith("concepts.")]
    if "gate" in template.prompt:
        connected = len([name for name in template.prompt["gate"]["inputs"] if name.startswith("concepts.")])
        free = len(offered) - connected if offered else 1  # old hosts know no inputs that grow and offer some at once
        assert state["free"] == [free] and free > 0, "the gate must offer a free input for the next concept"
    made = front_end.evaluate("async () => (await app.graphToPrompt()).output")
    assert {key: (node["class_type"], node["inputs"]) for key, node in made.items()} == numbered(
        template.prompt, template.muted
    )

    front_end.evaluate(SHORTEN, SHORT)
    assert front_end.evaluate(RUN), "the queue refused the template"
    front_end.wait_for_function("() => window.ended", timeout=240_000)
    assert front_end.evaluate("() => window.ended.kind") == "execution_success", front_end.evaluate(
        "() => window.ended"
    )
    for kind in SHOWING & set(state["types"]):
        front_end.evaluate(COME_TO, kind)
        front_end.wait_for_function(
            "kind => app.graph.nodes.some(node => node.type === kind && node.imgs?.length)", arg=kind, timeout=60_000
        )
    shown = dict(front_end.evaluate(SHOWN))
    if "grid" in template.prompt:  # five biases, two biases with the names of the locks, or two steps, side by side
        columns = 5 if template.name == "Sweep the bias" else 2
        assert shown["SaveImage"][0] >= columns * 128 + (columns - 1) * 4
        assert shown["SaveImage"][0] < (columns + 1) * 128
    elif "picture" in template.prompt:
        edit = template.prompt.get("edit", {"inputs": {}})["inputs"]
        rows = 1 + bool(edit.get("edit")) + sum(name.startswith("edits.") for name in edit)  # a source and its edits
        counts = {"EmptyLatentImage": "batch_size", "PerfusionDemoPictures": "count"}
        (count,) = {
            node["inputs"][counts[node["class_type"]]]
            for name, node in template.prompt.items()
            if node["class_type"] in counts and ("train" not in template.prompt or name == "latent")
        }
        assert shown["SaveImage"] == [128] * count * rows
    assert not [node for node in state["types"] if node == "PreviewImage" and not shown.get("PreviewImage")]
    front_end.evaluate(SEE_ALL)
    front_end.wait_for_function(GROWN, timeout=60_000)
    assert not overlapping(front_end.evaluate(STATE)["boxes"]), "a node grew over another when its pictures came"
