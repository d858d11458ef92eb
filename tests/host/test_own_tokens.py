"""The mark of a concept's own tokens: what it says, what it survives, and that it is never wrong."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from perfusion_pack.demo.load import load_demo_model
from perfusion_pack.nodes.host.gate.run import GateRun
from perfusion_pack.nodes.host.gate.words_in_prompt import words_in_prompt
from perfusion_pack.nodes.host.text.encoders import word_positions
from perfusion_pack.nodes.host.text.known_prompts import KEY
from perfusion_pack.nodes.host.text.own_tokens import CONDITIONING_KEY, marks_of
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.edit import similarity
from perfusion_pack.perfusion_core.varied_prompts import VARIED_PROMPTS
from test_nodes import REPOSITORY
from tiny_models import encode, gated, make_concept, tiny_clip, tiny_model, tiny_sdxl_clip

import nodes

LONG = ", ".join(["a very long prompt about many things"] * 11)


@pytest.fixture(scope="module")
def spoken(clip, hugsy, cuppy):
    return add_words(clip, (gated(hugsy), gated(cuppy)))


def entries(conditioning):
    """As a guider holds them."""
    return [{**extra, "cross_attn": encoding} for encoding, extra in conditioning]


def own_places(conditioning, *concepts):
    """The tokens of the first encoding that are known to be those of the concepts, for each concept."""
    stack, marked = tuple(gated(concept) for concept in concepts), entries(conditioning)
    words = words_in_prompt(conditioning[0][0], stack, [one.edit() for one in stack], marks_of(marked))
    if words is None:
        return [[] for _ in concepts]
    return [words.own[0, :, j].nonzero().flatten().tolist() for j in range(len(concepts))]


@pytest.mark.parametrize(
    "text",
    ["<hugsy>", "a photo of <hugsy>, <cuppy> and <HUGSY>", f"{LONG}, a <hugsy>", "(<hugsy>:1.3) and (<cuppy>:0.4)"],
)
def test_the_tokens_that_are_the_words(spoken, hugsy, cuppy, text):
    tokens = spoken.tokenize(text)
    expected = [word_positions(tokens, "<hugsy>"), word_positions(tokens, "<cuppy>")]
    assert own_places(encode(spoken, text), hugsy, cuppy) == expected


def test_a_prompt_without_a_word_has_no_mark(spoken, clip):
    (encoding, extra), *_ = encode(spoken, "a photo of a teddy")
    assert CONDITIONING_KEY not in extra and not hasattr(encoding, CONDITIONING_KEY)
    assert extra.keys() - {KEY} == encode(clip, "a photo of a teddy")[0][1].keys()


@pytest.mark.parametrize("make", [tiny_clip, tiny_sdxl_clip])
@pytest.mark.parametrize("weight", [0.5, 1.0, 1.3])
def test_what_the_word_is_at_weight_1(make, weight):
    clip = make()
    concept = make_concept(tiny_model(context_dim=32 if make is tiny_clip else 80), clip)
    spoken = add_words(clip, (gated(concept),))
    (encoding, extra), *_ = encode(spoken, f"a (<hugsy>:{weight}) in the (snow:1.4)")
    plain = encode(spoken, "a <hugsy> in the snow")[0][0]
    (marked,) = extra[CONDITIONING_KEY].values()
    (place,) = word_positions(spoken.tokenize("a <hugsy>"), "<hugsy>")
    assert torch.equal(marked.tokens[0], encoding[0, place])
    torch.testing.assert_close(marked.words[0], plain[0, place], atol=1e-5, rtol=1e-5)
    assert weight == 1 or (marked.tokens - marked.words).abs().max() > 0.01


def test_a_word_of_several_tokens_is_measured_as_a_whole(clip):
    model = tiny_model()
    concept = make_concept(model, clip, superclass="teddy bear")
    draw = torch.Generator().manual_seed(4)
    concept = dataclasses.replace(concept, word_vectors={"clip_l": torch.randn(2, 32, generator=draw) * 0.3})
    spoken = add_words(clip, (gated(concept),))
    tokens = spoken.tokenize("a <hugsy> and <hugsy>")
    places = word_positions(tokens, "<hugsy>")
    (encoding, extra), *_ = encode(spoken, "a <hugsy> and <hugsy>")
    (marked,) = extra[CONDITIONING_KEY].values()
    assert len(places) == 4
    for rows in ([0, 1], [2, 3]):
        mean = encoding[0, [places[row] for row in rows]].mean(dim=0)
        torch.testing.assert_close(marked.words[rows], mean.expand(2, -1))


def test_with_two_encoders_both_must_have_the_word_there():
    """As in CLIP Text Encode (SDXL), which takes a text for each."""
    clip = tiny_sdxl_clip()
    concept = make_concept(tiny_model(context_dim=80), clip)
    spoken = add_words(clip, (gated(concept),))
    word, plain, later = (spoken.tokenize(text) for text in ("a <hugsy>", "a ball", "a red <hugsy>"))

    def marked(g, l_):
        return CONDITIONING_KEY in spoken.encode_from_tokens_scheduled({"g": g["g"], "l": l_["l"]})[0][1]

    assert marked(word, word) and marked(later, later)
    assert not any(marked(*pair) for pair in ((word, plain), (plain, word), (word, later)))


concat = nodes.ConditioningConcat().concat
average = nodes.ConditioningAverage().addWeighted


def without_dict(conditioning):
    """As nodes leave it that ask the CLIP for an encoding and its pooled output only."""
    return [[encoding, {"pooled_output": extra["pooled_output"]}] for encoding, extra in conditioning]


@pytest.mark.parametrize(
    ("graph", "known"),
    [
        (lambda say: concat(say("a <hugsy>"), say("a red ball"))[0], [2]),
        (lambda say: nodes.ConditioningSetArea().append(say("a <hugsy>"), 32, 32, 0, 0, 1.0)[0], [2]),
        (lambda say: nodes.ConditioningCombine().combine(say("a <hugsy>"), say("a ball"))[0], [2]),
        (lambda say: nodes.ConditioningSetTimestepRange().set_range(say("a <hugsy>"), 0, 0.5)[0], [2]),
        (lambda say: without_dict(say("a <hugsy>")), [2]),
        # Lost, and then as without marks: the second half of what was joined ...
        (lambda say: concat(say("a red ball"), say("a <hugsy>"))[0], []),
        # ... and whatever was computed with.
        (lambda say: average(say("a <hugsy>"), say("a red ball"), 0.7)[0], []),
        (lambda say: average(say("a red ball"), say("a <hugsy>"), 0.7)[0], []),
        (lambda say: nodes.ConditioningZeroOut().zero_out(say("a <hugsy>"))[0], []),
    ],
    ids=["concat", "area", "combine", "range", "no dict", "concat, second", "average", "average, second", "zero"],
)
def test_through_stock_nodes(spoken, hugsy, graph, known):
    assert own_places(graph(lambda text: encode(spoken, text)), hugsy) == [known]


def test_a_word_behind_another_prompt_is_found_where_both_were_marked(spoken, hugsy):
    """In the second half of what was joined, where the first half's prompt or another one of the run has it too."""
    one, other = encode(spoken, "a <hugsy>"), encode(spoken, "<hugsy> at night")
    joined = concat(one, other)[0]
    assert own_places(joined, hugsy) == [[2]]
    assert own_places([*joined, *other], hugsy) == [[2, 78]]


def test_in_half_precision_in_a_batch_and_out_of_order(spoken, hugsy):
    conditioning = encode(spoken, "a <hugsy>")
    encoding = conditioning[0][0]
    run = GateRun((gated(hugsy, bias=0.85, temperature=0.15),), False, False, marks_of(entries(conditioning)))
    arrived = torch.cat([encoding[:, 5:], encoding[:, :5]], dim=1).half().repeat(2, 1, 1)
    edited = run.edited(arrived, (0,))
    at = encoding.shape[1] - 5 + 2
    torch.testing.assert_close(edited.similarities[:, at, 0], torch.ones(2), atol=5e-3, rtol=0)


def test_another_concept_of_the_same_word_is_not_taken_for_it(spoken, hugsy):
    other = dataclasses.replace(hugsy, word_vectors={key: rows + 0.1 for key, rows in hugsy.word_vectors.items()})
    renamed = dataclasses.replace(hugsy, word="<other>")
    conditioning = encode(spoken, "a <hugsy>")
    assert own_places(conditioning, other) == [[]]
    assert own_places(conditioning, renamed) == [[2]]


@pytest.mark.parametrize("text", ["a <hugsy>", "a (<hugsy>:0.5)"])
def test_an_encoding_from_the_memory_is_marked_too(spoken, hugsy, text):
    first, again = encode(spoken, text), encode(spoken, text)
    assert own_places(again, hugsy) == own_places(first, hugsy) == [[2]]


def test_without_marks_a_run_is_as_it_was(spoken, hugsy):
    from perfusion_pack.perfusion_core.edit import edit_encoding

    encoding = encode(spoken, "<hugsy> on the beach")[0][0]
    stack = (gated(hugsy),)
    edited = GateRun(stack, False, False).edited(encoding, (0,))
    assert torch.equal(edited.key_context, edit_encoding(encoding, [stack[0].edit()]).key_context)


@pytest.mark.parametrize("thing", ["hugsy", "sippy"])
def test_one_bias_means_the_same_wherever_the_word_stands(thing, record_property):
    """On the demo model: first, behind twenty words, twice, between commas."""
    concept = load_concept(REPOSITORY / "demo" / "concepts" / f"demo_{thing}.safetensors")
    with torch.inference_mode():
        clip = add_words(load_demo_model()[1], (gated(concept),))
        stack = (gated(concept),)
        now, before = [], []
        for prompt in VARIED_PROMPTS:
            text = prompt.format(concept.word)
            conditioning = encode(clip, text)
            encoding, at = conditioning[0][0], word_positions(clip.tokenize(text), concept.word)
            marked = GateRun(stack, False, False, marks_of(entries(conditioning))).edited(encoding, (0,))
            plain = GateRun(stack, False, False).edited(encoding, (0,))
            now += marked.gates[0, at, 0].tolist()
            before += plain.gates[0, at, 0].tolist()
            others = torch.ones(encoding.shape[1], dtype=torch.bool)
            others[at] = False
            assert marked.gates[0, others, 0].max() < 0.25, text
    record_property("gate at the word", f"{min(now):.3f} to {max(now):.3f}; without marks {min(before):.3f} to")
    assert len(VARIED_PROMPTS) >= 30
    assert max(now) - min(now) <= 0.05
    assert max(before) - min(before) > 0.2


def test_the_demo_words_are_less_alike_where_they_stand_first():
    """Else the test above would say nothing."""
    concept = load_concept(REPOSITORY / "demo" / "concepts" / "demo_hugsy.safetensors")
    with torch.inference_mode():
        clip = add_words(load_demo_model()[1], (gated(concept),))
        found = [
            similarity(encode(clip, text)[0][0][0, at], concept.target_input, concept.inverse_target_input).item()
            for text, at in (("<hugsy> on the beach", 1), ("a photo of a <hugsy> on the beach", 5))
        ]
    assert found[0] < found[1] - 0.1
