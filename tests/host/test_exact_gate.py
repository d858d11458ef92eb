"""A prompt without a concept's word leaves the model as it is, bit for bit, and it is known which prompts those are."""

from __future__ import annotations

import copy
import dataclasses
import io

import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import applied_concepts, apply_concepts, with_gate
from perfusion_pack.nodes.host.gate.run import GateRun
from perfusion_pack.nodes.host.text.known_prompts import (
    KEY,
    MOST_PROMPTS,
    KnownPrompt,
    KnownTokens,
    PromptMemory,
    known_tokens,
)
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept import unit_energy
from perfusion_pack.perfusion_core.edit import FORMS
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import difference, encode, gated, make_concept, sample, statistics, tiny_controlnet

import nodes

WITH, WITHOUT, NEGATIVE = "a photo of <hugsy> on the beach", "a photo of a teddy in the snow", "blurry teddy"
LOW = -0.5  # a bias at which every gate is open wide, wherever it may open
STEPS = {"steps": 2}

concat = nodes.ConditioningConcat().concat
average = nodes.ConditioningAverage().addWeighted


@pytest.fixture(scope="module")
def concepts(model, clip):
    """Sixteen of every form, of words that are called apart and resemble each other."""
    names = ["hugsy", *(f"other{number}" for number in range(15))]
    return tuple(
        gated(
            dataclasses.replace(make_concept(model, clip, word=f"<{name}>", seed=30 + j), form=FORMS[j % len(FORMS)]),
            bias=LOW,
        )
        for j, name in enumerate(names)
    )


def without_marks(conditioning):
    """As another pack hands them on that makes its own dict and computes with the encoding."""
    return [[encoding.clone(), {"pooled_output": extra.get("pooled_output")}] for encoding, extra in conditioning]


def written_and_read(conditioning):
    """Through a file, as by a node that saves conditionings; what runs no code can read it."""
    file = io.BytesIO()
    torch.save(conditioning, file)
    file.seek(0)
    return [[tensor.clone(), extra] for tensor, extra in torch.load(file, weights_only=True)]


def averaged(say, *texts):
    return average(say(texts[0]), say(texts[1]), 0.3)[0]


# Conditionings that have no word in them, by what makes them out of prompts.
WORDLESS = {
    "plain": lambda say: say(WITHOUT),
    "long": lambda say: say(", ".join([WITHOUT] * 20)),
    "weights": lambda say: say("a (photo:1.3) of a [teddy] BREAK (snow:0.5)"),
    "empty": lambda say: say(""),
    "combine": lambda say: nodes.ConditioningCombine().combine(say(WITHOUT), say("a red ball"))[0],
    "concat": lambda say: concat(say(WITHOUT), say("a red ball at night"))[0],
    "average": lambda say: averaged(say, WITHOUT, "a red ball at night"),
    "average of a long one": lambda say: averaged(say, WITHOUT, ", ".join(["a red ball"] * 30)),
    "average with a long one": lambda say: averaged(say, ", ".join(["a red ball"] * 30), WITHOUT),
    "average of an average": lambda say: average(averaged(say, WITHOUT, "a ball"), say("night"), 0.6)[0],
    "area": lambda say: nodes.ConditioningSetArea().append(say(WITHOUT), 32, 32, 0, 0, 1.0)[0],
    "range": lambda say: nodes.ConditioningSetTimestepRange().set_range(say(WITHOUT), 0.0, 0.5)[0],
    "zero": lambda say: nodes.ConditioningZeroOut().zero_out(say(WITHOUT))[0],
    "no dict": lambda say: [[encoding, {}] for encoding, _ in say(WITHOUT)],
}


@pytest.mark.parametrize("how_many", [1, 4, 16])
@pytest.mark.parametrize("kind", WORDLESS)
def test_prompts_without_a_word_leave_the_model_as_it_is(model, clip, concepts, kind, how_many):
    stack = concepts[:how_many]
    spoken = add_words(clip, stack)
    conditioning, negative = WORDLESS[kind](lambda text: encode(spoken, text)), encode(spoken, NEGATIVE)
    encode(spoken, WITH)  # of which nothing is in the others
    patched = sample(apply_concepts(model, stack), conditioning, negative, **STEPS)
    assert difference(patched, sample(model, conditioning, negative, **STEPS)) == 0.0


@pytest.mark.parametrize("lock", ["local", "global"])
def test_under_both_locks_and_beside_a_controlnet(model, clip, concepts, lock):
    stack = concepts[:4]
    spoken = add_words(clip, stack, lock)
    control, hint = tiny_controlnet(), torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(4))

    def controlled(conditioning):
        return nodes.ControlNetApply().apply_controlnet(conditioning, control, hint, 0.8)[0]

    positive, negative = controlled(encode(spoken, WITHOUT)), encode(spoken, NEGATIVE)
    encode(spoken, WITH)
    patched = sample(apply_concepts(model, stack, lock), positive, negative, **STEPS)
    assert difference(patched, sample(model, positive, negative, **STEPS)) == 0.0


def predictions(model, positive, negative, chunks):
    """What the model says for the two, at the first step from one noise, for each in turn."""
    heard = []

    def hear(arguments):
        heard.append(arguments["cond_scale"])
        heard.append((arguments["cond_denoised"], arguments["uncond_denoised"]))
        return arguments["denoised"]

    listening = model.clone()
    listening.set_model_sampler_post_cfg_function(hear)
    if chunks == "apart":  # as where memory holds one of them
        listening.model_options["model_function_wrapper"] = lambda apply, given: torch.cat(
            [
                apply(
                    given["input"][row : row + 1],
                    given["timestep"][row : row + 1],
                    **{**given["c"], "c_crossattn": given["c"]["c_crossattn"][row : row + 1]},
                )
                for row in range(len(given["input"]))
            ]
        )
    sample(listening, positive, negative, steps=1)
    return heard[1]


@pytest.mark.parametrize("how_many", [1, 16])
@pytest.mark.parametrize("chunks", ["together", "apart"])
def test_in_one_batch_with_a_prompt_that_has_the_word(model, clip, concepts, how_many, chunks):
    stack = concepts[:how_many]
    spoken = add_words(clip, stack)
    positive, negative = encode(spoken, WITH), encode(spoken, NEGATIVE)
    with_it, without_it = predictions(apply_concepts(model, stack), positive, negative, chunks)
    base_with, base_without = predictions(model, positive, negative, chunks)
    assert difference(without_it, base_without) == 0.0 < difference(with_it, base_with)


def test_each_row_of_a_batch_by_its_own_words(model, clip, concepts):
    """As packs of changing prompts make them; the second row is a mean of two."""
    stack = concepts[:2]
    spoken = add_words(clip, stack)
    one, other, third = (encode(spoken, text)[0][0] for text in (WITH, WITHOUT, "a red <other0>"))
    batch = [[torch.cat([one, 0.5 * (other + encode(spoken, "night")[0][0]), third]), encode(spoken, WITH)[0][1]]]
    entry = {**batch[0][1], "cross_attn": batch[0][0]}
    known = known_tokens([entry], [each.concept.word_hash for each in stack])
    assert known.words_in(batch[0][0]).tolist() == [[True, False], [False, False], [False, True]]
    edited = GateRun(stack, False, False, known=known).edited(batch[0][0], (0, 1))
    assert edited.value_gates[0, :, 1].abs().max() == edited.value_gates[1].abs().max() == 0.0
    assert torch.equal(edited.value_context[1], batch[0][0][1])


def test_a_prompt_is_edited_as_if_only_its_own_concepts_were_loaded(model, clip, concepts):
    alone, all_of_them = add_words(clip, concepts[:1]), add_words(clip, concepts)
    pictures = [
        sample(apply_concepts(model, stack), encode(spoken, WITH), encode(spoken, NEGATIVE), **STEPS)
        for stack, spoken in ((concepts[:1], alone), (concepts, all_of_them))
    ]
    assert difference(*pictures) == 0.0


# --- where nothing is known, and where nobody asks for it ---


def test_the_switch_gives_the_papers_behaviour(model, clip, concepts):
    stack = concepts[:1]
    spoken = add_words(clip, stack)
    positive, negative = encode(spoken, WITHOUT), encode(spoken, NEGATIVE)
    open_everywhere = apply_concepts(model, stack, exact=False)
    assert difference(sample(open_everywhere, positive, negative, **STEPS), sample(model, positive, negative, **STEPS))
    same_as = sample(apply_concepts(model, stack), without_marks(positive), without_marks(negative), **STEPS)
    assert difference(sample(open_everywhere, positive, negative, **STEPS), same_as) == 0.0


@pytest.mark.parametrize(
    "unknown",
    [
        without_marks,
        lambda conditioning: [[encoding + 1e-3, extra] for encoding, extra in conditioning],
        lambda conditioning: written_and_read(conditioning),
    ],
    ids=["other pack", "computed with", "saved"],
)
def test_of_other_prompts_nothing_is_known(model, clip, concepts, unknown):
    stack = concepts[:1]
    spoken = add_words(clip, stack)
    conditioning = unknown(encode(spoken, WITHOUT))
    patched = sample(apply_concepts(model, stack), conditioning, conditioning, **STEPS)
    assert difference(patched, sample(model, conditioning, conditioning, **STEPS)) > 0


def test_a_mean_with_a_word_in_it_has_the_word(model, clip, concepts):
    stack = concepts[:2]
    spoken = add_words(clip, stack)
    for strength in (0.99, 0.5, 0.01):
        mixed = average(encode(spoken, WITHOUT), encode(spoken, WITH), strength)[0]
        known = known_tokens([{**mixed[0][1], "cross_attn": mixed[0][0]}], [e.concept.word_hash for e in stack])
        assert known.words_in(mixed[0][0]).tolist() == [[True, False]]


def test_both_halves_of_what_was_joined_are_known(model, clip, concepts):
    spoken = add_words(clip, concepts[:2])
    joined = concat(encode(spoken, "a red ball"), encode(spoken, WITH))[0]
    known = known_tokens([{**joined[0][1], "cross_attn": joined[0][0]}], [e.concept.word_hash for e in concepts[:2]])
    assert known.words_in(joined[0][0]).tolist() == [[True, False]]


def test_in_half_precision_prompts_are_known_as_well(clip, concepts):
    spoken = add_words(clip, concepts[:1])
    for text in ("a photo of a", WITHOUT, NEGATIVE, WITH):
        (encoding, extra) = encode(spoken, text)[0]
    known = known_tokens([{**extra, "cross_attn": encoding}], [concepts[0].concept.word_hash])
    for text in (WITHOUT, NEGATIVE, WITH):
        arrived = encode(spoken, text)[0][0].half()
        assert known.words_in(arrived).tolist() == [[text == WITH]]


def test_the_base_clips_prompts_are_unknown_and_stay_as_they_were(clip, concepts):
    (encoding, extra) = encode(clip, WITHOUT)[0]
    assert KEY not in extra and not hasattr(encoding, KEY)
    (encoding, extra) = encode(add_words(clip, concepts[:1]), WITHOUT)[0]
    assert torch.equal(encoding, encode(clip, WITHOUT)[0][0])


def test_the_memory_keeps_the_last_prompts_once_each():
    memory, one = PromptMemory(), KnownPrompt(torch.ones(1, 2, 3), ())
    for _ in range(3):
        memory.note(KnownPrompt(one.encoding.clone(), ()))
    assert len(memory.prompts) == 1
    for number in range(MOST_PROMPTS + 4):
        memory.note(KnownPrompt(torch.full((1, 2, 3), float(number)), ("a",)))
    assert len(memory.prompts) == MOST_PROMPTS and memory.prompts[-1].encoding[0, 0, 0] == MOST_PROMPTS + 3
    assert copy.deepcopy(memory) is memory


def test_what_a_run_uses_is_not_forgotten_for_others(model, clip, concepts):
    """A conditioning that the host keeps while the other prompt changes from run to run."""
    spoken, patched = add_words(clip, concepts[:1]), apply_concepts(model, concepts[:1])
    joined = concat(encode(spoken, NEGATIVE), encode(spoken, "a dark photo"))[0]
    mixed = average(encode(spoken, "a bright photo"), encode(spoken, "a teddy"), 0.4)[0]
    for kept in (joined, mixed):
        first = sample(patched, encode(spoken, WITH), kept, **STEPS)
        for number in range(2 * MOST_PROMPTS):
            encode(spoken, f"a photo of {number} balls")
            if number % (MOST_PROMPTS // 2) == 0:
                sample(patched, encode(spoken, WITH), kept, steps=1)
        assert difference(sample(patched, encode(spoken, WITH), kept, **STEPS), first) == 0


@pytest.mark.parametrize("key_lock", ["local", "global"])
def test_a_word_that_was_not_learned_acts_though_its_superclass_is_encoded_alike(model, clip, concepts, key_lock):
    learned = concepts[0].concept
    e, energy = learned.superclass_encoding, torch.linalg.inv(statistics(clip)) @ learned.superclass_encoding.double()
    concept = dataclasses.replace(
        learned, word="<unlearned>", word_vectors=learned.superclass_vectors, target_input=e,
        inverse_target_input=unit_energy(e, energy.float()),
    )  # fmt: skip
    stack = (gated(concept, bias=0.5),)
    spoken, patched = add_words(clip, stack, key_lock), apply_concepts(model, stack, key_lock)
    encode(spoken, "a photo of teddy")
    positive, negative = encode(spoken, "a photo of <unlearned>"), encode(spoken, NEGATIVE)
    assert difference(sample(patched, positive, negative, **STEPS), sample(model, positive, negative, **STEPS)) > 0.1


# --- the switch ---


def test_the_switch_stays_with_the_model(model, concepts):
    for exact in (True, False):
        patched = apply_concepts(model, concepts[:2], exact=exact)
        assert applied_concepts(with_gate(patched, bias=0.5)).exact is exact
        assert applied_concepts(apply_concepts(patched, concepts[2:3], exact=exact)).exact is exact
        with pytest.raises(PerfusionError, match="choose the same exact_gate in both nodes"):
            apply_concepts(patched, concepts[2:3], exact=not exact)


def test_padding_that_a_model_makes_is_known_once():
    """Anima fills its text up to 512 places, all alike; each of them beside each other one would be gigabytes."""
    tokens = torch.randn(3, 8, generator=torch.Generator().manual_seed(6))
    known = KnownTokens(tokens, torch.tensor([[True], [False], [False]]))
    before, after = tokens[torch.tensor([[0, 0], [1, 2]])], torch.zeros(2, 512, 4)
    after[0, 0], after[1, 0] = 1.0, 2.0
    made = known.through(before, after)
    assert len(made.tokens) == 3  # the first of each, and padding, of which nothing is known but what both have
    assert made.words_in(after).tolist() == [[True], [False]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_a_model_makes_is_known_on_devices_without_unique_rows(monkeypatch, dtype):
    """On Apple's, torch has it from 2.10 only."""
    monkeypatch.delattr(torch.Tensor, "unique")
    known = KnownTokens(torch.eye(3), torch.tensor([[True], [False], [True]]))
    after = torch.tensor([[[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [5.0, 6.0]]], dtype=dtype)
    made = known.through(torch.eye(3)[torch.tensor([[0, 2], [1, 1]])], after)
    assert made.tokens.tolist() == [[1, 2], [5, 6], [3, 4]] and made.may_have.tolist() == [[True], [False], [False]]
