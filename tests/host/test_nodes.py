"""Every node keeps its names, explains itself in full, and is shown by a help page, a template and the README."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from comfy_api.latest import io
from needs_host import needs_host, takes

REPOSITORY = Path(__file__).resolve().parents[2]
HELP = REPOSITORY / "web" / "docs"
TEMPLATES = sorted((REPOSITORY / "workflows").glob("*.json"))

# Saved workflows hold these names, so they may grow but never change: display name, inputs, outputs.
FIXED = {
    "PerfusionLoadConcept": (
        "Load Perfusion Concept",
        "concept_file bias temperature strength start_percent end_percent stack",
        "PERFUSION_CONCEPT STRING STRING",
    ),
    "PerfusionConceptGate": (
        "Apply Perfusion Concepts (Gate)",
        "model clip concepts key_lock exact_gate",
        "MODEL CLIP",
    ),
    "PerfusionGateSweep": (
        "Sweep Gate Bias",
        "model biases word strengths temperatures locks seeds",
        "MODEL STRING INT STRING STRING PERFUSION_SWEEP",
    ),
    "PerfusionLabelGrid": ("Label Grid", "images labels columns sweep theme", "IMAGE"),
    "PerfusionTrainConcept": (
        "Train Perfusion Concept",
        "model clip vae images masks word superclass preset seed samples file_name statistics resolution captions",
        "PERFUSION_CONCEPT LOSS_MAP IMAGE STRING",
    ),
    "PerfusionKeptSteps": ("Load Kept Steps", "training steps path", "PERFUSION_CONCEPT STRING"),
    "PerfusionLoadPictures": ("Load Concept Pictures", "folder names", "IMAGE MASK STRING"),
    "PerfusionSaveConcept": ("Save Perfusion Concept", "concept name picture", "STRING"),
    "PerfusionBlendConcepts": (
        "Blend Perfusion Concepts",
        "concept_a concept_b share word",
        "PERFUSION_CONCEPT STRING",
    ),
    "PerfusionTextStatistics": ("Measure Text Statistics", "clip captions_file", "PERFUSION_STATISTICS"),
    "PerfusionConceptInfo": ("Show Perfusion Concept", "concept theme", "IMAGE STRING"),
    "PerfusionInspectGate": ("Inspect Perfusion Gate", "clip concepts prompt bias theme model", "IMAGE STRING STRING"),
    "PerfusionRecordAttention": ("Record Attention", "model clip", "MODEL PERFUSION_ATTENTION_MAPS CLIP"),
    "PerfusionAttentionMaps": (
        "Show Attention Maps",
        "maps images words layers start_percent end_percent point_x point_y theme",
        "IMAGE STRING",
    ),
    "PerfusionEditPrompt": (
        "Edit with Prompt-to-Prompt",
        "model clip latent text edit edits real_picture real_strength real_end",
        "MODEL CONDITIONING LATENT",
    ),
    "PerfusionDescribeEdit": (
        "Describe Prompt Edit",
        "text cross_end self_end words changes blend_words cross_start self_start blend_start blend_end threshold"
        " softness",
        "PERFUSION_EDIT",
    ),
    "PerfusionEditMask": ("Show Edit Mask", "latent", "MASK"),
    "PerfusionDemoModel": ("Load Perfusion Demo Model", "", "MODEL CLIP VAE"),
    "PerfusionDemoPictures": ("Draw Demo Pictures", "thing count seed", "IMAGE MASK STRING"),
}


def all_schemas() -> dict[str, io.Schema]:
    """The schema of every node, as the host asks for them."""
    pack = importlib.import_module("perfusion_pack")

    async def nodes() -> list[type[io.ComfyNode]]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    schemas = [node.GET_SCHEMA() for node in asyncio.run(nodes())]
    return {schema.node_id: schema for schema in schemas}


SCHEMAS = all_schemas()
each_node = pytest.mark.parametrize("node_id", SCHEMAS)


def name_of(one: io.Input) -> str:
    """Its name in help pages, which old hosts give to each of the inputs that others show as one that grows."""
    return one.id.split(".")[0]


def inputs_of(schema: io.Schema) -> list[io.Input]:
    """The inputs as users see them: for one that grows, itself and the first of its kind."""
    return [one for found in schema.inputs for one in (found.get_all()[:2] if hasattr(found, "template") else [found])]


def test_names_that_saved_workflows_hold():
    assert set(FIXED) <= set(SCHEMAS)
    for node_id, (display_name, inputs, outputs) in FIXED.items():
        schema = SCHEMAS[node_id]
        assert schema.display_name == display_name
        assert set(inputs.split()) <= {name_of(one) for one in schema.inputs}, node_id
        types = [output.get_io_type() for output in schema.outputs]
        assert types[: len(outputs.split())] == outputs.split(), node_id


# What people look for by the method's name or by what they want of it, and which nodes they need first.
METHOD = {"perfusion", "key-locked", "rank-one", "personalization", "personalize", "train face", "character"}
METHOD |= {"embedding", "identity", "concept", "subject"}
FIRST_FOUND = {"PerfusionTrainConcept", "PerfusionLoadConcept", "PerfusionConceptGate"}


@each_node
def test_node_explains_itself(node_id):
    schema = SCHEMAS[node_id]
    assert node_id.startswith("Perfusion")
    assert schema.display_name and schema.display_name.isascii()
    assert schema.category == "perfusion" or schema.category.startswith("perfusion/")
    assert len(schema.description) > 60 and schema.description.rstrip().endswith(".")
    for one in inputs_of(schema):
        assert one.tooltip and one.tooltip.rstrip().endswith("."), f"input {one.id}"
    for output in schema.outputs:
        assert output.display_name, f"an output of type {output.get_io_type()}"
        assert output.tooltip and output.tooltip.rstrip().endswith("."), f"output {output.display_name}"
    for text in (schema.description, *(one.tooltip for one in [*inputs_of(schema), *schema.outputs])):
        assert not re.search(r"\s{2,}", text), f"a gap in {text!r}"


@needs_host("0.11.0", "search aliases of nodes", takes(io.Schema, "search_aliases"))
@each_node
def test_node_is_found_by_other_words(node_id):
    aliases = set(SCHEMAS[node_id].search_aliases)
    assert aliases and (METHOD <= aliases) == (node_id in FIRST_FOUND)
    assert node_id in FIRST_FOUND or not METHOD & aliases, "these find the three nodes first"


# What a tooltip says of too little and of too much, in any of these words.
TOO_LITTLE = r"(?i)too few|too low|lower|fewer|near 0|\b0\b|\b1 learns"
TOO_MUCH = r"(?i)too many|too high|higher|more take|near 1 and above"
TRAINER = {one.id: one for one in SCHEMAS["PerfusionTrainConcept"].inputs}
NUMBERS = [name for name, one in TRAINER.items() if isinstance(one, (io.Int.Input, io.Float.Input)) and name != "seed"]


@pytest.mark.parametrize("name", ["seed", "masks", "superclass", "preset", "flip", "form", "resume", *NUMBERS])
def test_a_setting_of_the_trainer_says_where_to_start(name):
    assert re.search(r"(?i)\bstart with\b", TRAINER[name].tooltip), TRAINER[name].tooltip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_the_trainer_says_what_goes_wrong_at_both_ends(name):
    tooltip = TRAINER[name].tooltip
    assert re.search(TOO_LITTLE, tooltip) and re.search(TOO_MUCH, tooltip), tooltip


@each_node
def test_defaults_are_allowed(node_id):
    for one in SCHEMAS[node_id].inputs:
        default, low, high = (getattr(one, name, None) for name in ("default", "min", "max"))
        if low is not None and default is not None:
            assert low <= default <= high, one.id
        options = getattr(one, "options", None)
        if options and default is not None:
            assert default in options, one.id


@each_node
def test_node_has_a_help_page(node_id):
    """The page names every input and output as the node does."""
    page = (HELP / f"{node_id}.md").read_text(encoding="utf-8")
    schema = SCHEMAS[node_id]
    assert page.startswith(f"# {schema.display_name}\n")
    names = [name_of(one) for one in schema.inputs] + [output.display_name for output in schema.outputs]
    assert not [name for name in names if f"`{name}`" not in page]


def test_no_help_page_without_a_node():
    assert {path.stem for path in HELP.glob("*.md")} == set(SCHEMAS)


@pytest.mark.parametrize("folder", ["perfusion", "some_other_clone"])
def test_the_host_serves_the_help_pages_under_any_name_of_the_folder(folder, tmp_path, monkeypatch):
    """The front end asks for the pages of a node under the name of its folder in custom_nodes."""
    import nodes

    (tmp_path / folder).symlink_to(REPOSITORY, target_is_directory=True)
    for registry in ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "LOADED_MODULE_DIRS", "EXTENSION_WEB_DIRS"):
        monkeypatch.setattr(nodes, registry, {})
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert asyncio.run(nodes.load_custom_node(str(tmp_path / folder)))
    assert (Path(nodes.EXTENSION_WEB_DIRS[folder]) / "docs" / "PerfusionTrainConcept.md").is_file()


@each_node
def test_node_is_in_a_template(node_id):
    used = {node["type"] for path in TEMPLATES for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    assert node_id in used


@each_node
def test_node_is_in_the_readme(node_id):
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert node_id in readme and SCHEMAS[node_id].display_name in readme


def test_every_template_has_a_note_and_a_thumbnail():
    from PIL import Image

    assert len(TEMPLATES) >= 3
    for path in TEMPLATES:
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        assert any(node["type"] == "MarkdownNote" for node in nodes), path.name
        with Image.open(path.with_suffix(".jpg")) as thumbnail:
            assert thumbnail.size == (400, 400)


def test_the_prompts_of_the_demo_use_the_defaults():
    """What the tour and the templates are made from sets the nodes to what they are set to anyway."""
    prompts = importlib.import_module("perfusion_pack.demo.making.prompts")
    trainer = {one.id: one for one in SCHEMAS["PerfusionTrainConcept"].inputs}
    linked = {"model", "clip", "vae", "images", "masks", "statistics", "word", "superclass", "preset", "file_name"}
    linked |= {"clip_vision", "captions"}  # the demo has none
    assert set(prompts.TRAINER) | {"resume"} == set(trainer) - linked  # to resume is nobody's default
    assert prompts.TRAINER == {name: trainer[name].default for name in prompts.TRAINER}
    loader = {one.id: getattr(one, "default", None) for one in SCHEMAS["PerfusionLoadConcept"].inputs}
    prompt = prompts.first_picture_prompt()
    advice = importlib.import_module("perfusion_pack.nodes.advice")
    # They show numbers, since a newcomer turns them; the node by itself asks the file.
    set_by_hand, of_the_file = prompt["concept0"]["inputs"], (advice.BIAS_OF_THE_FILE, advice.TEMPERATURE_OF_THE_FILE)
    assert (loader.pop("bias"), loader.pop("temperature")) == of_the_file
    assert (set_by_hand.pop("bias"), set_by_hand.pop("temperature")) == (advice.BIAS, advice.TEMPERATURE)
    for name, value in prompt["concept0"]["inputs"].items():
        assert name == "concept_file" or value == loader[name], name
