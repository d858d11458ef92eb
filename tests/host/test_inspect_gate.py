"""Inspect Perfusion Gate: what it shows is what a run uses, whatever CLIP it gets and however long the prompt is."""

import dataclasses
import json
import math
import time

import pytest
import torch
from perfusion_pack.nodes.drawing import THEMES, shortened, wrapped
from perfusion_pack.nodes.gate_picture import gate_picture, gate_text, sentence
from perfusion_pack.nodes.host.gate import run as gate_run
from perfusion_pack.nodes.host.gate.cross_attention import refined_from
from perfusion_pack.nodes.host.gate.inspection import REST, inspect_gate
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.prompt_words import words_of_prompt
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.inspect_gate import InspectGate
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import encode, gated, make_concept, sample, tiny_clip, tiny_sdxl
from transformer_families import FAMILIES, IN_ALL, sample_family, transformer_concept

NODE = InspectGate.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
PROMPT = "two <hugsy> beside a (<cuppy>:1.2), café, extraordinarily striped teddies"


@pytest.fixture(scope="module")
def stack(hugsy, cuppy):
    return (gated(hugsy, bias=0.6), gated(cuppy, temperature=0.2))


def words(clip, text):
    tokens = clip.tokenize(text)
    return words_of_prompt(clip, tokens), tokens


def test_words_are_as_they_were_written(clip, stack):
    found, tokens = words(add_words(clip, stack), "Two <HUGSY> <hugsy>, extraordinarily (café:1.3) \u718a <cuppy>")
    texts = [word.text for word in found]
    assert texts == ["two", "<hugsy>", "<hugsy>", ",", "extraordinarily", "café", "\u718a", "<cuppy>"]
    assert len(dict(found)["extraordinarily"]) > 1, "a word of several tokens is one word"
    places = [position for word in found for position in word.positions]
    assert places == sorted(set(places)) and places[0] == 1


def test_words_of_a_long_prompt_lie_behind_its_first_chunk(clip, stack):
    spoken = add_words(clip, stack)
    found, _ = words(spoken, "grass " * 90 + "<hugsy>")
    assert len(found) == 91 and found[-1].text == "<hugsy>"
    (at,) = found[-1].positions
    encoding = encode(spoken, "grass " * 90 + "<hugsy>")[0][0]
    assert encoding.shape[1] == 154 and at > 77
    readings = inspect_gate(clip, stack, "grass " * 90 + "<hugsy>").readings
    assert readings[-2][0].similarity > 0.5 > readings[0][0].similarity, "the word and not its neighbour"


def test_gates_are_those_of_the_run(model, clip, stack, monkeypatch):
    """What a sampling run computed for this prompt, token by token and number by number."""
    made = []
    real = gate_run.GateRun.spoken_and_edited

    def noted(run, encoding, *args):
        spoken, edited = real(run, encoding, *args)
        made.append((encoding, edited))
        return spoken, edited

    monkeypatch.setattr(gate_run.GateRun, "spoken_and_edited", noted)
    spoken = add_words(clip, stack)
    positive, negative = encode(spoken, PROMPT), encode(spoken, "")
    sample(apply_concepts(model, stack), positive, negative, steps=1)
    rows = [
        (edited.similarities[row], edited.gates[row])
        for encoding, edited in made
        for row in range(len(encoding))
        if torch.equal(encoding[row], positive[0][0][0])
    ]
    found = inspect_gate(spoken, stack, PROMPT)
    places = [word.positions for word in words_of_prompt(spoken, spoken.tokenize(PROMPT))]
    assert rows and len(found.words) == len(places) + 1
    for positions, readings in zip(places, found.readings, strict=False):
        for j, reading in enumerate(readings):
            at = max(positions, key=lambda position: float(rows[0][0][position, j]))
            assert reading.similarity == pytest.approx(float(rows[0][0][at, j]), abs=1e-6)
            assert reading.gate == pytest.approx(float(rows[0][1][at, j]), abs=1e-6)
    own = found.readings[found.words.index("<hugsy>")][0]
    assert own == max(readings[0] for readings in found.readings), "the concept's own word opens its gate widest"


def test_the_clip_may_know_the_words_or_not(clip, stack):
    plain, spoken, one = (
        inspect_gate(known, stack, PROMPT) for known in (clip, add_words(clip, stack), add_words(clip, stack[:1]))
    )
    assert plain.words == spoken.words == one.words
    assert plain.readings == spoken.readings == one.readings


def test_a_bias_opens_where_it_is_said_to(clip, stack):
    found = inspect_gate(clip, stack, PROMPT)
    for number, readings in enumerate(found.readings):
        for j, reading in enumerate(readings):
            at = tuple(dataclasses.replace(one, bias=reading.similarity) for one in stack)
            again = inspect_gate(clip, at, PROMPT).readings[number][j]
            assert again.gate == pytest.approx(0.5, abs=1e-4)


def test_two_text_encoders():
    model, clip = tiny_sdxl()
    concept = make_concept(model, clip, base_model="sdxl")
    found = inspect_gate(clip, (gated(concept),), "a photo of <hugsy>")
    assert found.words == ("a", "photo", "of", "<hugsy>", REST)
    assert found.readings[3][0].similarity == pytest.approx(1, abs=1e-3)


def with_target(concept, target_input):
    """The concept with another target input, in the form that keeps to itself beside others."""
    inverse = concept.inverse_target_input / (concept.inverse_target_input @ target_input)
    return dataclasses.replace(concept, form="paper", target_input=target_input, inverse_target_input=inverse)


def test_the_sentence_tells_of_bleeding(clip, hugsy, cuppy, stack):
    one, other = (gated(dataclasses.replace(concept, form="paper")) for concept in (hugsy, cuppy))
    alike = float(one.concept.inverse_target_input @ other.concept.target_input)
    own = one.concept.target_input
    leaning = gated(with_target(cuppy, other.concept.target_input + (0.4 - alike) * own))
    found = inspect_gate(clip, (one, leaning), "a photo")
    assert found.by_themselves[0][1] == pytest.approx(0.4, abs=1e-3), "of <hugsy> at the word of <cuppy>"
    torch.testing.assert_close(torch.tensor(found.together), torch.tensor(found.by_themselves), atol=1e-5, rtol=0)
    back = found.together[1][0]
    told = "each opens at the other's word" if back > 0.1 else "<hugsy> opens at the word of <cuppy>"
    bias = min(back, 0.4) if back > 0.1 else 0.4
    expected = f"<hugsy> and <cuppy> are alike by {max(back, 0.4):.2f}: at a bias below {bias:.2f} {told}."
    assert sentence(found) == expected
    solved = sentence(inspect_gate(clip, (stack[0], dataclasses.replace(stack[1], concept=as_gated(leaning))), "a"))
    assert solved.endswith("but solved together neither opens at the other's word.")
    one_alone = sentence(inspect_gate(clip, stack[:1], "a photo of a teddy"))
    assert one_alone.startswith("The prompt does not have the word <hugsy>.")


def as_gated(one):
    """The concept in a form that is solved together with others."""
    return dataclasses.replace(one.concept, form="gated")


def test_the_node(clip, stack):
    settings = {"clip": clip, "prompt": PROMPT, "bias": 0.3, "theme": "light"}
    result = NODE.execute(**settings, concepts={"concept0": stack[:1], "concept1": stack[1:]})
    picture, text, numbers = result.result
    assert picture.shape[0] == 1 and picture.shape[3] == 3
    told = json.loads(numbers)
    assert [one["bias"] for one in told["concepts"]] == [0.3, 0.3]
    assert [one["word"] for one in told["words"]] == [line.split(": ")[0] for line in text.splitlines()[2 : 2 + 12]]
    for one in told["words"]:
        for similarity, gate, settings in zip(one["similarity"], one["gate"], told["concepts"], strict=True):
            expected = 1 / (1 + math.exp(-(similarity - 0.3) / settings["temperature"]))
            assert gate == pytest.approx(expected, abs=1e-3)
    assert result.ui["images"]
    of_the_loader = json.loads(NODE.execute(clip, PROMPT, -2.0, "dark", {"concept0": stack}).result[2])
    assert [one["bias"] for one in of_the_loader["concepts"]] == [0.6, stack[1].bias]


@pytest.mark.parametrize("count", [0, 1])
def test_without_concepts_it_says_so(clip, stack, count):
    absent = tuple(dataclasses.replace(one, strength=0.0) for one in stack[:count])
    with pytest.raises(PerfusionError, match="The input concepts expected at least one concept of a strength other"):
        NODE.execute(clip, "a photo", -2.0, "dark", {"concept0": absent})


def test_a_concept_of_another_family_is_refused(stack):
    with pytest.raises(PerfusionError, match="width"):
        inspect_gate(tiny_clip(width=64), stack, PROMPT)


@pytest.mark.parametrize("name", IN_ALL)
def test_behind_what_a_model_makes_of_the_text_it_shows_what_a_run_has(name, monkeypatch):
    family = FAMILIES[name]()
    stack, prompt = (gated(transformer_concept(family)),), "a photo of a <hugsy>, in the snow"
    arrived = []
    real = gate_run.GateRun.spoken_and_edited

    def noted(run, *args):
        spoken, edited = real(run, *args)
        arrived.append((float(edited.similarities.max()), float(edited.gates.max())))
        return spoken, edited

    knowing = add_words(family.clip, stack)
    with torch.inference_mode():
        positive, negative = encode(knowing, prompt), encode(knowing, "")
    with monkeypatch.context() as patch:
        patch.setattr(gate_run.GateRun, "spoken_and_edited", noted)
        sample_family(apply_concepts(family.model, stack), positive, negative, steps=1)
    found = inspect_gate(family.clip, stack, prompt, family.model)
    assert found.words[:5] == ("a", "photo", "of", "a", "<hugsy>")
    own = found.readings[4][0]
    assert (own.similarity, own.gate) == pytest.approx(max(arrived), abs=2e-3)
    assert own == max(readings[0] for readings in found.readings)
    if refined_from(family.model.model.diffusion_model) is None:
        assert inspect_gate(family.clip, stack, prompt).readings == found.readings
    else:
        with pytest.raises(
            PerfusionError, match="The input model expected the model of <hugsy>, since .*; connect the"
        ):
            inspect_gate(family.clip, stack, prompt)


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture_stands_out_from_its_ground(clip, stack, theme):
    """Whatever the number of words: nothing is cut off, and where the gate is open the cell is of the warm colour."""
    stack = tuple(dataclasses.replace(one, bias=0.0) for one in stack)
    for prompt in ("<hugsy>", "grass " * 20 + "<hugsy> " + "x" * 60):
        picture = gate_picture(inspect_gate(clip, stack, prompt), theme)
        assert picture.width == 760 and picture.height > 300
        edge = [picture.getpixel((x, y)) for x in (0, picture.width - 1) for y in range(0, picture.height, 7)]
        assert set(edge) == {THEMES[theme].paper}
        warm = THEMES[theme].warm
        colours = torch.tensor(list(picture.getdata()))
        assert ((colours - torch.tensor(warm)).abs().amax(dim=1) < 40).sum() > 500


def test_texts_are_cut_and_wrapped():
    assert shortened("short", 500, 20) == "short"
    cut = shortened("x" * 200, 100, 20)
    assert cut.endswith("…") and 3 < len(cut) < 40
    lines = wrapped("one two three " * 10 + "y" * 300, 200, 20)
    assert len(lines) > 5 and lines[-1].endswith("…")


def test_it_takes_no_time(clip, stack):
    """Encoding apart, well under a second; the letters are made once."""
    found = inspect_gate(clip, stack, PROMPT)
    gate_picture(found, "dark")
    started = time.process_time()
    gate_picture(found, "dark")
    gate_text(found)
    assert time.process_time() - started < 0.5
