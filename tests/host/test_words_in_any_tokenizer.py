"""Concept words in every kind of tokenizer that the host has: BPE of words, BPE of bytes, SentencePiece."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from perfusion_pack.nodes.host.text.encoders import (
    PlacedToken,
    encode_superclass_vectors,
    positions_at_layers,
    text_encoders,
    tokenizers_alone,
    word_positions,
)
from perfusion_pack.nodes.host.text.words import ConceptWord, known_words, with_words
from tiny_models import tiny_clip
from tiny_transformers import HAS_ANIMA, tiny_anima_clip, tiny_cosmos_clip, tiny_wan_clip
from transformer_families import needs_anima

LENGTHS = {"<one>": 1, "<three>": 3}
CLIPS = {"CLIP": tiny_clip, "T5": tiny_cosmos_clip, "SentencePiece": tiny_wan_clip}
CLIPS |= {"Qwen": tiny_anima_clip} if HAS_ANIMA else {}


class Spoken:
    """A CLIP and the same one with words, and its one list of tokens."""

    def __init__(self, clip) -> None:
        self.plain = clip
        widths = {key: encoder.width for key, encoder in text_encoders(clip).items()}
        self.words = [
            ConceptWord(
                word,
                {key: torch.randn(count, width) for key, width in widths.items()},
                {key: torch.randn(1, width) for key, width in widths.items()},
                superclass="teddy bear",
            )
            for word, count in LENGTHS.items()
        ]
        self.taught = with_words(clip, self.words)
        encoder = next(iter(text_encoders(clip).values()))
        self.tokenizer = encoder.tokenizer

    def entries(self, clip, prompt, name=None):
        """(token or word, weight) of a list, without start, end and padding."""
        lists = clip.tokenize(prompt, return_word_ids=True)
        flat = [entry for batch in lists[name or next(iter(lists))] for entry in batch]
        return [(getattr(token, "perfusion_word", token), weight) for token, weight, word_id in flat if word_id != 0]


@pytest.fixture(scope="module")
def spoken():
    made = {}

    def get(name):
        if name not in made:
            made[name] = Spoken(CLIPS[name]())
        return made[name]

    return get


# Around these an ordinary word stays one token in all of the tokenizers; Qwen's, for one, would read "(d" together.
_BEHIND = [" ", ", ", ". ", "'s ", "; "]
_TEXTS = ["a", "photo of a", "snow", "(red:0.8)", "big brown", "7 x", r"\(b\)"]
_WORDS = [*LENGTHS, *(f"({word}:1.2)" for word in LENGTHS)]
_pieces = st.lists(st.tuples(st.sampled_from([*_WORDS, *_TEXTS]), st.sampled_from(_BEHIND)), min_size=1, max_size=12)


@pytest.mark.parametrize("name", CLIPS)
@settings(max_examples=60, deadline=None)
@given(pieces=_pieces)
def test_neighbours_are_those_of_an_ordinary_word(spoken, name, pieces):
    """What is left without the words' entries is what is left of the same prompt with dogs without the dogs'."""
    one = spoken(name)
    prompt = "".join(piece + behind for piece, behind in pieces)
    dogs = {token for text in ("dog", "a dog") for token, _ in one.entries(one.plain, text)[-1:]}
    # Some tokenizers have a token for the blank before a weighted word, which is a part of ours.
    blanks = {token for token, piece in one.tokenizer.inv_vocab.items() if piece in ("\u2581", "\u0120")}
    found = one.entries(one.taught, prompt)
    expected = one.entries(one.plain, re.sub("<one>|<three>", "dog", prompt))
    left = [entry for entry in found if entry[0] not in {*LENGTHS, *blanks}]
    assert left == [entry for entry in expected if entry[0] not in dogs | blanks]
    in_order = re.findall("<one>|<three>", prompt)
    assert [token for token, _ in found if token in LENGTHS] == [
        word for word in in_order for _ in range(LENGTHS[word])
    ]


def decoded(inside, tokens: list[int]) -> str:
    """Text of tokens, by the tokenizer inside the host's; the one for SentencePiece has no decode in old hosts."""
    if hasattr(inside, "decode"):
        return inside.decode(tokens, skip_special_tokens=True)
    return inside.tokenizer.decode([token for token in tokens if not inside.tokenizer.IsControl(token)])


@pytest.mark.parametrize("name", CLIPS)
@settings(max_examples=60, deadline=None)
@given(before=st.text("abc dog,.!'\"-7[]", max_size=12), after=st.text("abc dog,.!'\"-7[]", max_size=12))
def test_any_text_around_a_word_is_still_that_text(spoken, name, before, after):
    one = spoken(name)
    found = [token for token, _ in one.entries(one.taught, f"{before}<three>{after}")]
    assert [token for token in found if token in LENGTHS] == ["<three>"] * 3
    at = found.index("<three>")

    def letters(tokens):
        return re.sub(r"\s", "", decoded(one.tokenizer.tokenizer, tokens))

    assert letters(found[:at]) == re.sub(r"\s", "", before)
    assert letters(found[at + 3 :]) == re.sub(r"\s", "", after)


@pytest.mark.parametrize("name", CLIPS)
def test_vectors_stand_in_their_order_with_their_marks(spoken, name):
    one = spoken(name)
    tokens = one.taught.tokenize("a <three> and (<one>:1.3) <three>")
    flat = [entry for batch in next(iter(tokens.values())) for entry in batch]
    key = next(iter(text_encoders(one.plain)))
    for word, times in (("<three>", 2), ("<one>", 1)):
        positions = word_positions(tokens, word)
        rows = next(w for w in one.words if w.word == word).vectors[key]
        assert len(positions) == times * len(rows)
        assert torch.equal(torch.stack([flat[position][0] for position in positions]), rows.repeat(times, 1))
    assert known_words(one.taught) == set(LENGTHS) and known_words(one.plain) == set()


@pytest.mark.parametrize("name", CLIPS)
def test_the_superclass_has_the_vectors_that_it_has_inside_a_prompt(spoken, name):
    clip = spoken(name).plain
    inside = clip.tokenize("a big teddy", return_word_ids=True)
    (key, rows), *_ = encode_superclass_vectors(clip, "teddy").items()
    ids = [token for token, _, word_id in next(iter(inside.values()))[0] if word_id != 0][-len(rows) :]
    table = text_encoders(clip)[key].embedding_table.weight
    assert torch.equal(rows, table[ids].float())


@needs_anima
def test_a_tokenizer_without_an_encoder_gets_the_superclass(spoken):
    """Anima makes its text at the places of T5's tokens, of which it takes nothing but numbers."""
    one = spoken("Qwen")
    assert list(tokenizers_alone(one.plain)) == ["t5xxl"]
    tokens = one.taught.tokenize("a <one>, in (<one>:1.2) snow")["t5xxl"][0]
    expected = one.plain.tokenize("a teddy bear, in (teddy bear:1.2) snow")["t5xxl"][0]
    assert tokens == expected and all(isinstance(token, int) for token, _ in tokens)
    assert torch.tensor([token for token, _ in tokens], dtype=torch.int).tolist() == [token for token, _ in expected]
    placed = [index for index, (token, _) in enumerate(tokens) if isinstance(token, PlacedToken)]
    lists = one.taught.tokenize("a <one>, in (<one>:1.2) snow")
    assert positions_at_layers(lists, "<one>") == placed != word_positions(lists, "<one>")
    assert positions_at_layers(lists, "<three>") == []
