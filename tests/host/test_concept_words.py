"""Concept words in the stock text-encode node: every syntax of the host's prompts, two encoders, clones."""

import dataclasses

import comfy.sd
import pytest
import torch
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors, word_positions
from perfusion_pack.nodes.host.text.known_prompts import KEY
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from perfusion_pack.nodes.host.text.words import (
    ConceptWord,
    add_words,
    known_words,
    warn_of_ordinary_word,
    with_words,
)
from perfusion_pack.perfusion_core.errors import PerfusionError
from safetensors.torch import save_file
from tiny_models import WIDTH, encode, gated, make_concept, tiny_clip, tiny_model, tiny_sdxl_clip
from training_inputs import run_node

import nodes


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embeddings")
    save_file({"clip_l": torch.full((2, WIDTH), 0.2)}, folder / "moody.safetensors")
    return folder


@pytest.fixture(scope="module")
def clip(embeddings):
    return tiny_clip(embeddings=str(embeddings))


@pytest.fixture(scope="module")
def spoken(clip, hugsy, cuppy):
    return add_words(clip, (gated(hugsy), gated(cuppy)))


def flat(tokens):
    """Return (token, weight) of the first encoder's lists, vectors as their word, without start, end and padding."""
    entries = [entry for batch in next(iter(tokens.values())) for entry in batch]
    named = [(getattr(token, "perfusion_word", token), weight) for token, weight in entries]
    return [entry for entry in named if entry[0] not in (49406, 49407)]


def as_textual_inversion(clip, concepts, prompt):
    """Tokenize a prompt in which words stand for concepts, and put the vectors in by hand."""
    ids = {clip.tokenizer.clip_l.tokenizer(word)["input_ids"][1]: concept for word, concept in concepts.items()}
    batches = clip.tokenize(prompt)["l"]
    return {"l": [[(ids[t].word_vectors["clip_l"][0] if t in ids else t, w) for t, w in batch] for batch in batches]}


PROMPTS = [
    "a photo of {}",
    "{}",
    "{},{}.{}",
    "a photo of ({}:1.3) in the (snow)",
    "a {}s hat, {} and another {}",
    "(({}:0.7), at night:1.2)",
    "a\n{}\non a hill",
    ", ".join(["a very long prompt about many things"] * 11) + ", {} at the end, {}",
    "word " * 74 + "{} on the border of two chunks",
    r"escaped \({}\) brackets",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_is_encoded_as_if_the_vector_were_one_more_word_of_the_vocabulary(clip, spoken, hugsy, prompt):
    tokens = as_textual_inversion(clip, {"zebra": hugsy}, prompt.replace("{}", " zebra "))
    expected = clip.encode_from_tokens(tokens)
    found = encode(spoken, prompt.replace("{}", "<hugsy>"))[0][0]
    assert found.shape[1] % 77 == 0
    assert torch.equal(found, expected)
    assert torch.equal(encode(spoken, prompt.replace("{}", "<HugSy>"))[0][0], expected)


@pytest.mark.parametrize("key_lock", ["local", "global"])
def test_a_word_in_brackets_leaves_the_ordinary_word_alone(clip, hugsy, key_lock):
    """<dog> is a concept's word, dog stays what it was: alone, beside the concept, and as its superclass."""
    dog = dataclasses.replace(hugsy, word="<dog>", superclass="dog")
    taught = add_words(clip, (gated(dog),), key_lock)
    found, expected = (encode(one, "a dog and a (DOG:1.2), hotdog")[0] for one in (taught, clip))
    assert torch.equal(found[0], expected[0]) and found[1].keys() - {KEY} == expected[1].keys()
    assert [token for token, _ in flat(taught.tokenize("a <dog> and a dog"))] == [
        *(token for token, _ in flat(clip.tokenize("a"))),
        "<dog>",
        *(token for token, _ in flat(clip.tokenize("and a dog"))),
    ]


@pytest.mark.parametrize(
    ("text", "superclass", "named"),
    [
        ("dog", "animal", "<dog>"),  # one token of the vocabulary
        (" Pomeranians ", "pomeranians", "<pomeranians>"),  # several tokens, but the prompt's word for the kind
        ("<dog>", "dog", None),
        ("hugsy", "teddy", None),
        ("<my-thing>", "teddy", None),
    ],
)
def test_a_word_that_is_an_ordinary_word_is_named(clip, caplog, text, superclass, named):
    warn_of_ordinary_word(clip, text, superclass)
    assert [record.levelname for record in caplog.records] == (["WARNING"] if named else [])
    assert not named or (f"write {named} in prompts" in caplog.text and f"since {text.strip()} is" in caplog.text)


def test_the_trainer_warns_before_it_starts(inputs, folder, caplog):
    with pytest.raises(PerfusionError, match="superclass must be a plain word"):
        run_node(inputs, word="dog", superclass=" ")
    assert "The concept is called <dog>, since dog is an ordinary word" in caplog.text


@pytest.mark.parametrize("text", ["<hug\u017fy>", "<HUG\u017fY>", "embedding:<hug\u017fy>"])
def test_letters_that_are_the_same_but_for_their_case_to_re_alone(spoken, text):
    """U+017F, the long s, is an s to a pattern that ignores case, but not in lower case."""
    assert flat(spoken.tokenize(f"a {text}")) == flat(spoken.tokenize("a <hugsy>"))


def test_two_words_in_one_prompt(clip, spoken, hugsy, cuppy):
    tokens = as_textual_inversion(clip, {"zebra": hugsy, "lemon": cuppy}, "a zebra beside a ( lemon :1.2), zebra")
    expected = clip.encode_from_tokens(tokens)
    assert torch.equal(encode(spoken, "a <hugsy> beside a (<cuppy>:1.2), <hugsy>")[0][0], expected)


def test_words_and_embedding_files_side_by_side(spoken):
    tokens = spoken.tokenize("a <hugsy> in embedding:moody <cuppy> light")["l"][0]
    kinds = [getattr(t, "perfusion_word", "vector") if torch.is_tensor(t) else "text" for t, _ in tokens[1:8]]
    assert kinds == ["text", "<hugsy>", "text", "vector", "vector", "<cuppy>", "text"]
    assert flat(spoken.tokenize("a embedding:<hugsy>, b")) == flat(spoken.tokenize("a <hugsy>, b"))


def test_prompts_without_the_word_and_the_original_clip_stay_as_they_were(clip, spoken, hugsy):
    before = encode(clip, "a <hugsy> in the snow")
    assert torch.equal(encode(spoken, "a teddy in the snow")[0][0], encode(clip, "a teddy in the snow")[0][0])
    encode(add_words(clip, (gated(hugsy),), "global"), "a <hugsy> in the snow")
    after = encode(clip, "a <hugsy> in the snow")
    assert torch.equal(before[0][0], after[0][0]) and before[0][1].keys() == after[0][1].keys()
    assert known_words(clip) == set()
    assert known_words(spoken) == {"<hugsy>", "<cuppy>"}


def test_a_sign_of_the_prompt_is_never_taken_for_a_word(clip, spoken):
    """Signs of Unicode's private use area mark the places of words on their way through the host."""
    private = "".join(map(chr, range(0xE000, 0xE028)))
    expected = [*flat(clip.tokenize(private)), ("<hugsy>", 1.0), ("<cuppy>", 1.0)]
    assert flat(spoken.tokenize(f"{private} <hugsy> <cuppy>")) == expected


def test_several_vectors_for_one_word(model, clip):
    superclass = encode_superclass_vectors(clip, "teddy bear")
    assert superclass["clip_l"].shape == (2, WIDTH)
    vectors = {"clip_l": torch.randn(3, WIDTH)}
    taught = with_words(clip, [ConceptWord("<three>", vectors, superclass)])
    tokens = taught.tokenize("two <three> and (<three>:1.2)")
    assert word_positions(tokens, "<three>") == [2, 3, 4, 6, 7, 8]
    entries = tokens["l"][0]
    for place, index in zip((2, 3, 4, 6, 7, 8), (0, 1, 2, 0, 1, 2), strict=True):
        assert torch.equal(entries[place][0], vectors["clip_l"][index])
        torch.testing.assert_close(entries[place][0].perfusion_superclass, superclass["clip_l"].mean(0))
    two = with_words(clip, [ConceptWord("<two>", {"clip_l": torch.randn(2, WIDTH)}, superclass)])
    stand_ins = [entry[0].perfusion_superclass for entry in two.tokenize("<two>")["l"][0][1:3]]
    assert torch.equal(torch.stack(stand_ins), superclass["clip_l"])


def test_positions_count_whole_chunks(spoken):
    text = "<hugsy> " + ", ".join(["a very long prompt about many things"] * 11) + ", <hugsy>"
    tokens = spoken.tokenize(text)
    encoding = spoken.encode_from_tokens(tokens)
    first, second = word_positions(tokens, "<hugsy>")
    assert first == 1 and 77 < second < encoding.shape[1] == 154
    assert word_positions(tokens, "<cuppy>") == []


def test_clip_skip_and_lora_after_the_node(clip, spoken, hugsy):
    skipped = nodes.CLIPSetLastLayer().set_last_layer(spoken, -2)[0]
    by_hand = clip.clone()
    by_hand.clip_layer(-2)
    expected = by_hand.encode_from_tokens(as_textual_inversion(clip, {"zebra": hugsy}, "a zebra"))
    assert torch.equal(encode(skipped, "a <hugsy>")[0][0], expected)
    lora = {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.full((64, 1), 0.5),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.full((1, WIDTH), 0.5),
    }
    _, patched = comfy.sd.load_lora_for_models(None, spoken, lora, 0, 1.0)
    assert known_words(patched) == {"<hugsy>", "<cuppy>"}
    changed = encode(patched, "a <hugsy>")[0][0]
    assert not torch.equal(changed, encode(spoken, "a <hugsy>")[0][0])


def test_words_are_added_one_after_the_other(clip, spoken, hugsy, cuppy):
    stepwise = add_words(add_words(clip, (gated(hugsy),)), (gated(cuppy),))
    text = "a <hugsy> and a <cuppy>"
    assert torch.equal(encode(stepwise, text)[0][0], encode(spoken, text)[0][0])
    with pytest.raises(PerfusionError, match="already knows the word <hugsy>"):
        add_words(stepwise, (gated(hugsy),))
    with pytest.raises(PerfusionError, match="Two concepts .*<hugsy>"):
        add_words(clip, (gated(hugsy), gated(hugsy)))


def test_sdxl_gives_each_encoder_its_own_vector(model):
    clip = tiny_sdxl_clip()
    superclass = encode_superclass_vectors(clip, "teddy")
    assert {key: tuple(t.shape) for key, t in superclass.items()} == {"clip_l": (1, 32), "clip_g": (1, 48)}
    vectors = {"clip_l": torch.randn(1, 32), "clip_g": torch.randn(1, 48)}
    taught = with_words(clip, [ConceptWord("<hugsy>", vectors, superclass)], "global")
    tokens = taught.tokenize("a photo of <hugsy>")
    for key in "lg":
        assert torch.equal(tokens[key][0][4][0], vectors[f"clip_{key}"][0])
    (encoding, extra), *_ = encode(taught, "a photo of <hugsy>")
    assert encoding.shape == extra[CONDITIONING_KEY].shape == (1, 77, 80)
    plain = encode(clip, "a photo of teddy")[0][0]
    torch.testing.assert_close(extra[CONDITIONING_KEY], plain)
    with pytest.raises(PerfusionError, match="clip_g needs word vectors of width 48 for <one>.*only clip_l"):
        with_words(clip, [ConceptWord("<one>", {"clip_l": vectors["clip_l"]}, superclass)])


def test_vectors_that_do_not_fit_are_refused(clip, model, hugsy):
    wide = tiny_clip(width=64)
    with pytest.raises(PerfusionError, match="clip_l needs word vectors of width 64 for <hugsy>.*width 32"):
        add_words(wide, (gated(hugsy),))


def test_the_refusal_names_the_concepts_family_and_the_encoders_that_are_loaded(hugsy):
    with pytest.raises(PerfusionError) as refused:
        add_words(tiny_sdxl_clip(), (gated(hugsy),))
    sentence = str(refused.value)
    assert "made for sd1 models, has only clip_l; load a CLIP of the family sd1 or" in sentence
    assert "(text encoders: clip_g and clip_l)" in sentence and "clip_g needs word vectors of width 48" in sentence
    assert sentence.endswith(".") and ". " not in sentence and "\n" not in sentence


def set_last_layer(clip, layer):
    return nodes.CLIPSetLastLayer().set_last_layer(clip, layer)[0]


@pytest.mark.parametrize("key_lock", ["local", "global"])
@pytest.mark.parametrize("skip_first", [True, False])
def test_clip_skip_other_than_the_concepts_warns_once_per_encoding(clip, hugsy, cuppy, caplog, key_lock, skip_first):
    stack = (gated(hugsy), gated(dataclasses.replace(cuppy, clip_layer=-2)))

    def taught(layer):
        if skip_first:
            return add_words(set_last_layer(clip, layer), stack, key_lock)
        return set_last_layer(add_words(clip, stack, key_lock), layer)

    default, skipped = taught(-1), taught(-2)
    assert not caplog.records
    for taught_clip, prompt, warned in (
        (default, "a <hugsy> in the snow", None),
        (skipped, "a <hugsy>, another <hugsy>, " + "and a very long prompt " * 20, "<hugsy> (layer -1)"),
        (skipped, "a <cuppy> and a cat", None),
        (default, "a <cuppy> beside a <hugsy>", "<cuppy> (layer -2)"),
        (skipped, "a teddy", None),
        (add_words(clip, stack, key_lock), "a <hugsy>", None),
    ):
        caplog.clear()
        encode(taught_clip, prompt)
        named = [record.getMessage().split(": ")[1].split(";")[0] for record in caplog.records]
        assert named == ([warned] if warned else [])


def test_a_layer_that_is_the_default_anyway_is_no_reason_to_warn(caplog):
    clip, model = tiny_sdxl_clip(), tiny_model(context_dim=80)
    concept = make_concept(model, clip)
    taught = add_words(clip, (gated(concept),))
    encode(set_last_layer(taught, -2), "a <hugsy>")
    assert not caplog.records
    encode(set_last_layer(taught, -1), "a <hugsy>")
    assert [record.getMessage().count("<hugsy> (layer -2)") for record in caplog.records] == [1]


def test_the_warning_and_the_second_encoding_share_one_patch(clip, hugsy, cuppy, caplog):
    """Two gates in a row, of either lock: each prompt is still encoded once, or twice under the global lock."""
    both = add_words(add_words(clip, (gated(hugsy),)), (gated(cuppy),), "global")
    other_way = add_words(add_words(clip, (gated(hugsy),), "global"), (gated(cuppy),))
    expected = encode(add_words(clip, (gated(hugsy), gated(cuppy)), "global"), "a <hugsy> and a <cuppy>")[0]
    for chained in (both, other_way):
        found = encode(set_last_layer(set_last_layer(chained, -2), -1), "a <hugsy> and a <cuppy>")[0]
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1][CONDITIONING_KEY], expected[1][CONDITIONING_KEY])
        caplog.clear()
        encode(set_last_layer(chained, -2), "a <hugsy> and a <cuppy>")
        assert len(caplog.records) == 1 and "<hugsy> (layer -1), <cuppy> (layer -1)" in caplog.text


@pytest.mark.parametrize("text", ["", "   "])
def test_a_superclass_without_tokens_is_refused(clip, text):
    with pytest.raises(PerfusionError, match="plain word"):
        encode_superclass_vectors(clip, text)


def test_superclass_vectors_are_rows_of_the_table_and_can_be_trained(clip):
    with torch.inference_mode():
        vectors = encode_superclass_vectors(clip, "teddy")["clip_l"]
    token = clip.tokenize("teddy")["l"][0][1][0]
    assert torch.equal(vectors[0], clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight[token])
    assert not vectors.is_inference()


def test_the_superclass_encoding_has_the_same_tokens_but_one(clip, hugsy):
    taught = add_words(clip, (gated(hugsy),), "global")
    (encoding, extra), *_ = encode(taught, "a photo of (<hugsy>:1.3) in the snow, <hugsy>")
    expected = encode(clip, "a photo of (teddy:1.3) in the snow, teddy")[0][0]
    torch.testing.assert_close(extra[CONDITIONING_KEY], expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(encoding, expected)
    assert CONDITIONING_KEY not in encode(taught, "a teddy")[0][1]
    later = nodes.CLIPSetLastLayer().set_last_layer(taught.clone(), -2)[0]
    skipped = nodes.CLIPSetLastLayer().set_last_layer(clip, -2)[0]
    torch.testing.assert_close(encode(later, "a <hugsy>")[0][1][CONDITIONING_KEY], encode(skipped, "a teddy")[0][0])
    assert CONDITIONING_KEY not in encode(clip, "a <hugsy>")[0][1]


def test_the_encoding_is_differentiable_in_the_vectors_until_the_host_works_in_place(clip, hugsy):
    vectors = {"clip_l": torch.randn(1, WIDTH, requires_grad=True)}
    taught = with_words(clip, [ConceptWord("<new>", vectors, hugsy.superclass_vectors)])
    token = taught.tokenize("a <new>")["l"][0][2][0]
    token.sum().backward()
    assert torch.equal(vectors["clip_l"].grad, torch.ones(1, WIDTH))
