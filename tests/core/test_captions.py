"""perfusion_core.captions: a corpus large and varied enough for the statistics of a real text encoder."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core import captions_words
from perfusion_core.captions import LONG, built_in_captions, plural_of

WORD_LISTS = {name: value for name, value in vars(captions_words).items() if isinstance(value, tuple)}


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return built_in_captions()


def test_twenty_thousand_different_captions(corpus):
    assert len(corpus) == len(set(corpus)) == 20_000
    assert len({caption.casefold() for caption in corpus}) > 19_900


def test_the_corpus_is_varied(corpus):
    """Thousands of words, every entry of every list, and no opening that dominates."""
    text = "\n".join(corpus).casefold()
    assert len(set(re.findall(r"[a-z'-]+", text))) > 2_000
    singular = [entry for entries in WORD_LISTS.values() for entry in entries]
    assert not [entry for entry in singular if entry.casefold() not in text]
    openings = Counter(" ".join(caption.split()[:4]) for caption in corpus)
    assert max(openings.values()) < 0.02 * len(corpus)


def test_even_a_short_corpus_uses_nearly_all_nouns():
    text = "\n".join(built_in_captions(3_000)).casefold()
    nouns = captions_words.PEOPLE + captions_words.ANIMALS + captions_words.THINGS + captions_words.BUILDINGS
    missing = [noun for noun in nouns if noun.casefold() not in text and plural_of(noun).casefold() not in text]
    assert len(missing) <= 0.01 * len(nouns), missing


def test_every_fourth_caption_is_long(corpus):
    """As long as the prompts that people write for SDXL; and the short ones stay as short as they were."""
    lengths = sorted(len(caption.split()) + caption.count(",") for caption in corpus)
    middle, long = lengths[len(lengths) // 2], [length for length in lengths if length > 38]
    assert 0.2 < len(long) / len(corpus) < 0.3 and middle < 18
    assert sum(long) / len(long) > 45 and lengths[-1] <= LONG[1]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(0, 300))
def test_any_seed_gives_different_natural_captions(seed, count, more):
    captions = built_in_captions(count + more, seed)
    assert len(set(captions)) == count + more
    assert captions[:count] == built_in_captions(count, seed)
    for caption in captions:
        assert caption == " ".join(caption.split()) and 0 < len(caption.split()) <= LONG[1]
        assert not re.search(r"[{}]|\b(a|an|the|one) (a|an|the|one)\b", caption)
        assert not re.search(r"\b[Aa] (apple|elephant|igloo|orange|umbrella|old|icon|hourglass)", caption)


def test_word_lists_repeat_nothing():
    for name, entries in WORD_LISTS.items():
        assert len(entries) == len(set(entries)), name
        assert all(entry == " ".join(entry.split()) for entry in entries), name


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("teddy bear", "teddy bears"), ("bowl of soup", "bowls of soup"), ("fisherman", "fishermen"), ("box", "boxes"),
     ("cherry", "cherries"), ("boy", "boys"), ("old lady", "old ladies"), ("sheep", "sheep"), ("mouse", "mice"),
     ("witch", "witches"), ("glass of wine", "glasses of wine"), ("polar bear", "polar bears")],
)  # fmt: skip
def test_plurals(noun, plural):
    assert plural_of(noun) == plural
