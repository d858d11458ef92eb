"""Show Perfusion Concept: everything that a file says is on the card and in the text."""

import dataclasses

import pytest
from perfusion_pack.nodes.concept_card import concept_cards, concept_text, facts_of
from perfusion_pack.nodes.concept_info import ConceptInfo
from perfusion_pack.nodes.drawing import THEMES
from perfusion_pack.nodes.shown import shown
from perfusion_pack.perfusion_core.concept import alone
from perfusion_pack.perfusion_core.concept_file import load_concept, read_header
from perfusion_pack.perfusion_core.edit import FORMS
from perfusion_pack.perfusion_core.errors import PerfusionError
from test_nodes import REPOSITORY
from tiny_models import gated

FILE = REPOSITORY / "demo" / "concepts" / "demo_hugsy.safetensors"
NODE = ConceptInfo.PREPARE_CLASS_CLONE({"hidden_inputs": {}})


def test_all_of_the_header_is_told():
    """By the header itself, so that what is added to files one day is missed here."""
    told = concept_text(alone(load_concept(FILE)))
    header = read_header(FILE)
    assert set(header) == {
        *("word", "superclass", "base_model", "form", "statistics_hash", "encoding_width", "clip_layer", "bias"),
        *("temperature", "lock", "training", "picture", "tensors"),
    }
    for name in (
        "word",
        "superclass",
        "base_model",
        "form",
        "statistics_hash",
        "encoding_width",
        "bias",
        "temperature",
    ):
        assert f"{header[name]:g}" in told if isinstance(header[name], float) else str(header[name]) in told, name
    for name in header["training"]:
        assert f"training: {name.replace('_', ' ')}: " in told
    assert "encoder layer: the usual one" in told and "picture: JPEG, " in told
    assert "layers: 7 of width 64 to 128" in told and "clip_l (1 x 128)" in told


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        ({"bias": 0.5}, "bias 0.5"),
        ({"strength": 0.0, "lock": 0.5}, "strength 0, lock 0.5"),
        ({"temperature": 0.3, "start_percent": 0.2}, "temperature 0.3, steps from 0.2 to 1"),
    ],
)
def test_what_the_loader_set_is_told(hugsy, settings, said):
    assert facts_of(gated(hugsy, **settings)).get("used with") == said


def test_what_it_needs_is_told(hugsy):
    skipped = dataclasses.replace(hugsy, clip_layer=-2, form="lockable", lock=0.7, base_model="sdxl")
    facts = facts_of(gated(skipped))
    assert facts["model needed"].startswith("sdxl, text encodings of width 32")
    assert facts["encoder layer"].startswith("-2 ") and "lock 0.7" in facts["form"]


def test_what_a_closing_gate_leaves_is_told(hugsy):
    """As docs/method.md has it, form by form."""
    closing = {form: facts_of(gated(dataclasses.replace(hugsy, form=form)))["closing gate"] for form in FORMS}
    superclass = {form for form, left in closing.items() if left == "leaves the superclass"}
    assert superclass == {"unlocked", "lockable", "anchored"}
    assert {form for form, left in closing.items() if left == "leaves the word"} == {"gated", "residual"}


def test_a_picture_that_cannot_be_read_is_left_out(hugsy):
    whole = load_concept(FILE).picture
    for damaged in (b"\xff\xd8garbage", whole[: len(whole) // 2]):
        stack = (gated(dataclasses.replace(hugsy, picture=damaged)),)
        drawn = concept_cards(stack, "dark")
        assert drawn.size == concept_cards((gated(hugsy),), "dark").size
        assert "images" not in shown("a line", damaged, NODE)


@pytest.mark.parametrize("theme", THEMES)
def test_a_card_for_each(hugsy, cuppy, theme):
    shipped = alone(load_concept(FILE))
    odd = dataclasses.replace(cuppy, training={"captions": ["x" * 90] * 3, "nested": {"a": [1, 2.5, None, True]}})
    one, both = concept_cards(shipped, theme), concept_cards((*shipped, gated(odd)), theme)
    assert both.height > one.height + 400 and both.width == one.width == 760
    for card in (one, both):
        edge = {card.getpixel((x, y)) for x in (0, 759) for y in range(card.height)}
        assert edge == {THEMES[theme].paper}, "nothing is cut off"
    colours = one.crop((20, 20, 240, 240)).getcolors(1 << 24)
    assert len(colours) > 1000, "the picture of the file"


def test_the_node(hugsy):
    told = NODE.execute((gated(hugsy),), "dark")
    assert told.result[0].shape[2] == 760 and told.result[1].startswith("word: <hugsy>\n") and told.ui["images"]
    with pytest.raises(PerfusionError, match="The concept input holds an empty stack"):
        NODE.execute((), "dark")
