"""The line on the gate after each run: how far gates opened, and the mistakes that raise no error."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from types import SimpleNamespace

import pytest
import torch
from perfusion_pack.nodes.apply_concepts import ConceptGate
from perfusion_pack.nodes.host import node_text
from perfusion_pack.nodes.host.gate.patch import with_gate
from perfusion_pack.nodes.host.gate.wiring import passed_by
from tiny_models import encode, gated, make_concept, sample, tiny_model, tiny_sdxl_clip

import nodes


@pytest.fixture
def gate(monkeypatch, model, clip, hugsy, cuppy):
    """Run the gate node with both concepts: (MODEL, CLIP, function that gives the line under it)."""
    lines: dict[str, str] = {}
    server = SimpleNamespace(
        send_progress_text=lambda text, node_id: lines.__setitem__(node_id, " ".join(text.split()))
    )
    monkeypatch.setattr(node_text, "PromptServer", SimpleNamespace(instance=server))

    def run(number="1", base=(model, clip), stack=None, lock="local"):
        monkeypatch.setattr(ConceptGate, "hidden", SimpleNamespace(unique_id=number), raising=False)
        stack = (gated(hugsy), gated(cuppy)) if stack is None else stack
        patched, speaking = ConceptGate.execute(
            model=base[0], clip=base[1], key_lock=lock, concepts={"concept0": stack}
        ).result
        return patched, speaking, lambda: lines.get(number, "").replace("&lt;", "<").replace("&gt;", ">")

    return run


def painted(model, clip, positive, negative=""):
    with torch.inference_mode():
        return sample(model, encode(clip, positive), encode(clip, negative))


SIMILARITY = r"\(similarity [\d.]+\)"
OPEN, GATE = rf"gate (0\.9\d|1\.00) {SIMILARITY}", rf"gate [\d.]+ {SIMILARITY}"


@pytest.mark.parametrize("lock", ["local", "global"])
def test_both_words(gate, lock, caplog):
    caplog.set_level(logging.INFO)
    model, clip, line = gate(lock=lock)
    painted(model, clip, "a photo of <hugsy>", "a photo of <cuppy>")
    assert re.fullmatch(f"<hugsy>: {OPEN} · <cuppy>: {OPEN}", line())
    (record,) = [record for record in caplog.records if record.message.startswith("Concepts:")]
    assert record.levelno == logging.INFO and line() in record.message


def test_the_gate_that_is_told_is_the_one_that_acts(gate, hugsy, model, clip):
    """The gate's own equation at the word as it stands in that prompt, with its weight, against it without; and how
    similar it is there."""
    from perfusion_pack.nodes.host.text.encoders import word_positions
    from perfusion_pack.perfusion_core.edit import similarity

    stack = (gated(hugsy, bias=0.9, temperature=0.2),)
    patched, speaking, line = gate(stack=stack)
    prompt = "two red balls, (<hugsy>:0.8) at night"
    painted(patched, speaking, prompt)
    (at,) = word_positions(speaking.tokenize(prompt), "<hugsy>")
    encodings = (encode(speaking, text)[0][0][0, at] for text in (prompt, prompt.replace(":0.8", ":1")))
    weighted, plain = (similarity(e, hugsy.target_input, hugsy.inverse_target_input).item() for e in encodings)
    expected = torch.sigmoid(torch.tensor((weighted / plain - 0.9) / 0.2)).item()
    assert 0.02 < expected < 0.98 and plain < 0.9
    assert line() == f"<hugsy>: gate {expected:.2f} (similarity {weighted:.2f})"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a photo of <hugsy>", f"<hugsy>: {OPEN} · <cuppy>: in no prompt"),
        ("a red ball", "<hugsy>: in no prompt · <cuppy>: in no prompt"),
        ("a photo of <HUGSY>", f"<hugsy>: {OPEN} · <cuppy>: in no prompt"),
        (
            "a photo of <hugsi> and <cuppy>",
            f"<hugsi> is no word of a concept here; write <hugsy> · <hugsy>: in no prompt · <cuppy>: {GATE}",
        ),
        (
            "<zzzz> on the beach",
            "<zzzz> is no word of a concept here; write <hugsy> or <cuppy> · <hugsy>: in no prompt · .*",
        ),
        (
            "a photo of Hugsy, smiling",
            "a prompt says hugsy; write <hugsy>, with its brackets · <hugsy>: in no prompt · .*",
        ),
        ("hugsyland and my-hugsy", "<hugsy>: in no prompt · <cuppy>: in no prompt"),
        ("a <hugsy> that is my hugsy", f"<hugsy>: {GATE} · <cuppy>: in no prompt"),
        ("<lora:thing:1> a < b > c", "<hugsy>: in no prompt · <cuppy>: in no prompt"),
    ],
)
def test_words(gate, prompt, expected):
    model, clip, line = gate()
    painted(model, clip, prompt)
    assert re.fullmatch(expected, line()), line()


def test_only_the_prompts_of_the_run_are_told_of(gate):
    """What was encoded for an earlier run, or for another sampler, is no matter of this one."""
    model, clip, line = gate()
    wrong, right = encode(clip, "a photo of <hugsi>"), encode(clip, "a photo of <hugsy>")
    negative = encode(clip, "")
    sample(model, right, negative)
    assert "hugsi" not in line()
    sample(model, wrong, negative)
    assert "<hugsi> is no word" in line() and "<hugsy>: in no prompt" in line()
    sample(model, right, negative)
    assert re.match(f"<hugsy>: {OPEN}", line())


def test_a_prompt_of_the_clip_from_before_the_gate(gate, clip, caplog):
    """Also where it shares its first words, whose encodings are the same, with one of the gate's CLIP."""
    model, speaking, line = gate()
    negative = encode(speaking, "a photo of a red")
    sample(model, encode(clip, "a photo of a <hugsy>"), negative)
    assert line() == (
        "a prompt was encoded by another CLIP; connect this node's clip to every text encoder"
        " · <hugsy>: in no prompt · <cuppy>: in no prompt"
    )
    assert any("another CLIP" in r.message and r.levelno == logging.WARNING for r in caplog.records)
    sample(model, encode(clip, "a photo of a <hugsy>"), encode(clip, "dark"))
    assert line().startswith("2 prompts were encoded by another CLIP")


def test_a_negative_of_another_clip_is_nobodys_business_while_the_words_are_there(gate, clip):
    model, speaking, line = gate()
    sample(model, encode(speaking, "<hugsy> beside <cuppy>"), encode(clip, "blurry"))
    assert "CLIP" not in line()


LONG = ", ".join(["a very long prompt about many things"] * 11)


@pytest.mark.parametrize(
    "graph",
    [
        lambda say: nodes.ConditioningConcat().concat(say("a red ball"), say("a photo of <hugsy>"))[0],
        lambda say: nodes.ConditioningCombine().combine(say("a red ball"), say("a photo of <hugsy>"))[0],
        lambda say: nodes.ConditioningAverage().addWeighted(say("a photo of <hugsy>"), say("a ball"), 0.95)[0],
        lambda say: nodes.ConditioningSetArea().append(say("a photo of <hugsy>"), 32, 32, 0, 0, 1.0)[0],
        lambda say: say(f"{LONG}, <hugsy>"),
        lambda say: [*say("a red ball"), *say(f"<hugsy>, {LONG}")],
    ],
    ids=["concat", "combine", "average", "area", "long", "long beside short"],
)
def test_stock_nodes_between(gate, graph):
    model, clip, line = gate()
    sample(model, graph(lambda text: encode(clip, text)), encode(clip, ""))
    assert re.match(f"<hugsy>: {GATE} · ", line()), line()
    assert "CLIP" not in line()


def test_a_mixture_is_not_taken_for_a_prompt_of_another_clip(gate):
    model, clip, line = gate()
    half = nodes.ConditioningAverage().addWeighted(encode(clip, "a photo of <hugsy>"), encode(clip, "a ball"), 0.5)[0]
    sample(model, half, nodes.ConditioningZeroOut().zero_out(encode(clip, ""))[0])
    assert "CLIP" not in line()


def told_gate(line):
    return float(line.partition("gate ")[2].split()[0])


def test_an_encoding_from_the_memory_is_known_too(gate, hugsy):
    """With another bias the encoder does not run again, and the line is right all the same."""
    for bias in (0.75, 0.95):
        model, clip, line = gate(stack=(gated(hugsy, bias=bias, temperature=0.3),))
        painted(model, clip, "a photo of <hugsy>")
        expected = torch.sigmoid(torch.tensor((1 - bias) / 0.3)).item()
        assert abs(told_gate(line()) - expected) < 0.02


def test_the_sweep_reports_its_last_bias(gate, hugsy):
    model, clip, line = gate(stack=(gated(hugsy, temperature=0.3),))
    painted(with_gate(model, bias=1.3), clip, "a photo of <hugsy>")
    assert abs(told_gate(line()) - torch.sigmoid(torch.tensor(-1.0)).item()) < 0.02


def test_two_gates_report_their_own_words(gate, hugsy, cuppy):
    first = gate("1", stack=(gated(hugsy),))
    second = gate("2", base=first[:2], stack=(gated(cuppy),))
    painted(*second[:2], "a <hugsy> beside a cuppy")
    assert re.fullmatch(f"<hugsy>: {GATE}", first[2]())
    assert second[2]() == "a prompt says cuppy; write <cuppy>, with its brackets · <cuppy>: in no prompt"


def test_a_concept_of_strength_0_is_not_waited_for(gate, hugsy, cuppy):
    model, clip, line = gate(stack=(gated(hugsy), gated(cuppy, strength=0.0)))
    painted(model, clip, "a photo of <hugsy>")
    assert re.fullmatch(f"<hugsy>: {OPEN}", line())
    gate(stack=(gated(hugsy, strength=0.0),))
    assert "this is the base model" in line()


def test_two_encoders(gate):
    clip, model = tiny_sdxl_clip(), tiny_model(context_dim=80)
    stack = (gated(make_concept(model, clip)),)
    patched, speaking, line = gate(base=(model, clip), stack=stack)
    painted(patched, speaking, "a photo of <hugsy>")
    assert re.fullmatch(f"<hugsy>: {OPEN}", line())
    painted(patched, speaking, "a photo of <hugsi>")
    assert line() == "<hugsi> is no word of a concept here; write <hugsy> · <hugsy>: in no prompt"


def test_a_report_that_fails_costs_no_picture(gate, monkeypatch, caplog):
    from perfusion_pack.nodes.host.gate import run_report

    model, clip, _ = gate()
    expected = painted(model, clip, "a photo of <hugsy>")
    monkeypatch.setattr(run_report, "run_report", lambda *_: 1 / 0)
    assert torch.equal(painted(model, clip, "a photo of <hugsy>"), expected)
    assert "could not be reported" in caplog.text


def test_it_is_said_once_a_run_and_takes_a_hair(gate, hugsy, monkeypatch):
    """At the sizes of SD1.5: 3 prompts of 77 tokens of width 768, and 2 concepts."""
    from perfusion_pack.nodes.host.gate.run_report import run_report
    from perfusion_pack.nodes.host.text.prompt_notes import PromptNotes

    model, clip, _ = gate()
    said = []
    monkeypatch.setattr("perfusion_pack.nodes.host.node_text.PromptServer.instance.send_progress_text",
                        lambda text, node_id: said.append(text))  # fmt: skip
    painted(model, clip, "a photo of <hugsy>")
    assert len(said) == 1

    def wide(word, seed):
        vector = torch.randn(768, generator=torch.Generator().manual_seed(seed))
        unit = vector / vector.norm()
        fields = {name: unit for name in ("target_input", "inverse_target_input", "superclass_encoding")}
        return gated(dataclasses.replace(hugsy, word=word, encoding_width=768, **fields))

    stack = wide("<hugsy>", 0), wide("<cuppy>", 1)
    conds = {"positive": [{"cross_attn": torch.randn(1, 77, 768)} for _ in range(3)]}
    notes = PromptNotes(["<hugsy>", "<cuppy>"])
    run_report(conds, stack, notes)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run_report(conds, stack, notes)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def prompt_of(sampler_model, positive_clip="gate", **more):
    """A graph with a gate, as the front end sends it."""
    return {
        "base": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
        "concept": {"class_type": "PerfusionLoadConcept", "inputs": {"concept_file": "a"}},
        "gate": {
            "class_type": "PerfusionConceptGate",
            "inputs": {"model": ["base", 0], "clip": ["base", 1], "concepts.concept0": ["concept", 0]},
        },
        "lora": {
            "class_type": "LoraLoader",
            "inputs": {"model": [sampler_model, 0], "clip": [positive_clip, 1], "lora_name": "a"},
        },
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["lora", 1], "text": "<hugsy>"}},
        "shown": {"class_type": "ConditioningSetMask", "inputs": {"conditioning": ["positive", 0], "strength": 1.0}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {"model": ["lora", 0], "positive": ["shown", 0], "negative": ["positive", 0], "seed": 1},
            "_meta": {"title": "My sampler"},
        },
        **more,
    }


@pytest.fixture(autouse=True)
def known_gate(monkeypatch):
    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "PerfusionConceptGate", ConceptGate)


def test_the_model_from_before_the_gate():
    (line,) = passed_by(prompt_of("base")).values()
    assert line == "My sampler samples the MODEL from before this node; connect this node's model to it"
    assert list(passed_by(prompt_of("base"))) == ["gate"]


@pytest.mark.parametrize(
    "prompt",
    [
        prompt_of("gate"),
        prompt_of("base", positive_clip="base"),  # nothing of the gate is used: the user left it aside
        prompt_of(  # the two are compared
            "base",
            other={
                "class_type": "KSampler",
                "inputs": {"model": ["gate", 0], "positive": ["shown", 0], "negative": ["positive", 0]},
            },
        ),
        {},
        {"a": {"class_type": "NoSuchNode", "inputs": {"model": ["b", 0], "x": ["gone", 7], "list": [1, 2, 3]}}},
    ],
    ids=["right", "unused", "compared", "empty", "unknown"],
)
def test_other_graphs_are_not_told_off(prompt):
    assert passed_by(prompt) == {}


def test_a_guider_is_seen_too():
    prompt = prompt_of("base")
    prompt["sampler"] = {"class_type": "CFGGuider", "inputs": dict(prompt["sampler"]["inputs"])}
    from comfy_extras.nodes_custom_sampler import CFGGuider

    nodes.NODE_CLASS_MAPPINGS.setdefault("CFGGuider", CFGGuider)
    assert passed_by(prompt)["gate"].startswith("CFGGuider samples")
