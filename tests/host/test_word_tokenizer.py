"""The tokenizer of a CLIP that knows concepts: to other packs the host's own; and no word is cut that it would keep."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from perfusion_pack.nodes.host.text.words import ConceptWord, with_words
from safetensors.torch import save_file
from tiny_models import WIDTH, tiny_clip, tiny_sdxl_clip

WIDTHS = {"clip_l": WIDTH, "clip_g": 48}
CLIPS = {"SD1": tiny_clip, "SDXL": tiny_sdxl_clip}


def taught(clip, encoders, **lengths):
    """The CLIP with words of these numbers of vectors, and these words."""
    words = [
        ConceptWord(
            f"<{name}>",
            {key: torch.randn(count, WIDTHS[key]) for key in encoders},
            {key: torch.randn(1, WIDTHS[key]) for key in encoders},
        )
        for name, count in lengths.items()
    ]
    return with_words(clip, words), words


def public(found):
    return [name for name in dir(found) if not name.startswith("_")]


@pytest.mark.parametrize("family", CLIPS)
def test_every_public_attribute_is_that_of_the_hosts_tokenizer(family):
    clip = CLIPS[family]()
    encoders = [key for key in WIDTHS if hasattr(clip.tokenizer, key)]
    clip_with_word, _ = taught(taught(clip, encoders, hugsy=1)[0], encoders, cuppy=2)  # as of two gates in a row
    assert public(clip_with_word.tokenizer) == public(clip.tokenizer)
    for key in encoders:
        own, found = getattr(clip.tokenizer, key), getattr(clip_with_word.tokenizer, key)
        for name in public(own):
            if name != "tokenize_with_weights":  # which is what knows the words
                assert getattr(found, name) == getattr(own, name), name
        # What prompt-control and others do with it.
        assert found.tokenizer("a red teddy")["input_ids"] == own.tokenizer("a red teddy")["input_ids"]
        assert found.tokenize_with_weights("a red teddy", True) == own.tokenize_with_weights("a red teddy", True)


def test_what_other_packs_set_is_set_on_the_hosts_tokenizer():
    clip = tiny_clip()
    found = taught(clip, ["clip_l"], hugsy=1)[0].tokenizer.clip_l
    found.max_word_length = 5
    assert clip.tokenizer.clip_l.max_word_length == found.max_word_length == 5
    found.tokenize_with_weights = None  # but a method of ours in its place is for this CLIP alone
    assert clip.tokenizer.clip_l.tokenize_with_weights is not None


# As many vectors as fit into a chunk together, and one more than the host keeps together.
LENGTHS = {"two": 2, "seven": 7, "nine": 9}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A CLIP that knows words, and one with embedding files of the same vectors."""
    folder = tmp_path_factory.mktemp("embeddings")
    clip = tiny_clip(embeddings=str(folder))
    spoken, words = taught(clip, ["clip_l"], **LENGTHS)
    for word in words:
        save_file({"clip_l": word.vectors["clip_l"]}, folder / f"{word.word.strip('<>')}.safetensors")
    return clip, spoken


def entries(clip, prompt):
    """Token lists that compare: a vector by its numbers."""
    batches = clip.tokenize(prompt, return_word_ids=True)["l"]
    return [[(tuple(t.tolist()) if torch.is_tensor(t) else t, *rest) for t, *rest in batch] for batch in batches]


pieces = st.sampled_from(["a", "photo of", "snow,", "(red:1.2)", "(a big", "hat)", "\n", r"\(x\)", "dog " * 9])
prompts = st.lists(st.one_of(pieces, st.sampled_from([*LENGTHS])), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(prompts)
def test_words_of_several_vectors_stand_where_the_hosts_embeddings_would(both, pieces):
    clip, spoken = both
    concepts = " ".join(f"<{piece}>" if piece in LENGTHS else piece for piece in pieces)
    embeddings = " ".join(f" embedding:{piece} " if piece in LENGTHS else piece for piece in pieces)
    assert entries(spoken, concepts) == entries(clip, embeddings)


@pytest.fixture(scope="module")
def without_folder():
    one, two = tiny_clip(), tiny_sdxl_clip()
    words = {"three": 3, "one": 1}
    return (one, taught(one, ["clip_l"], **words)[0]), (two, taught(two, ["clip_l", "clip_g"], **words)[0])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 90), st.booleans(), st.sampled_from(["", "embedding:moody "]))
def test_a_word_is_in_one_chunk_of_every_encoder(without_folder, before, xl, start):
    """Also without a folder of embeddings, where `embedding:` is text."""
    clip, spoken = without_folder[xl]
    tokens = spoken.tokenize(start + "word " * before + "<three>, <one> and a <three>s hat")
    places = []
    for key, batches in tokens.items():
        marked = [[getattr(entry[0], "perfusion_word", None) for entry in batch] for batch in batches]
        places.append([(i, j, w) for i, batch in enumerate(marked) for j, w in enumerate(batch) if w])
        width = spoken.cond_stage_model.get_submodule(f"clip_{key}").transformer.get_input_embeddings().embedding_dim
        assert all(len(t) == width for batch in batches for t, _ in batch if torch.is_tensor(t))
        words = [w for _, _, w in places[-1]]
        assert words == ["<three>"] * 3 + ["<one>"] + ["<three>"] * 3
        for first in (0, 4):
            (chunk, at, _), *rest = places[-1][first : first + 3]
            assert [(i, j) for i, j, _ in rest] == [(chunk, at + 1), (chunk, at + 2)]
    assert all(place == places[0] for place in places)
    if start:
        expected = clip.tokenize("embedding:moody")[key][0][1:4]
        assert tokens[key][0][1:4] == expected
