"""The text statistics on the host: which tokens count, names of encoders that survive loading, and what is kept."""

from __future__ import annotations

import asyncio

import comfy.sd
import folder_paths
import pytest
import torch
from perfusion_pack.nodes.host.text import statistics as text_statistics
from perfusion_pack.nodes.host.text.statistics import (
    TokenKind,
    cached_statistics,
    encoded_captions,
    encoder_hash,
    measure_statistics,
)
from perfusion_pack.nodes.measure_statistics import TextStatisticsNode
from perfusion_pack.perfusion_core.captions import CAPTIONS_ATTACHMENT, built_in_captions
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import encode, tiny_clip, tiny_sdxl_clip

CAPTIONS = [*built_in_captions(40), "a very " + "long " * 90 + "caption"]


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():
        return tiny_clip()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An input and a user folder of the test's own."""
    for name in ("input", "user"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"get_{name}_directory", lambda folder=tmp_path / name: str(folder))
    return tmp_path


def silent(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("make", [tiny_clip, tiny_sdxl_clip])
def test_the_streamed_moment_equals_a_direct_one(make):
    """One caption after the other through the stock encode node, cut by hand from start to end, in float64."""
    with torch.inference_mode():
        clip = make()
        statistics = measure_statistics(clip, CAPTIONS, silent)
        rows = []
        for caption in CAPTIONS:
            encoding = encode(clip, caption)[0][0][0].double()
            chunks = next(iter(clip.tokenize(caption).values()))
            for chunk, encoded in zip(chunks, encoding.split(77), strict=True):
                tokens = [entry[0] for entry in chunk]
                rows.append(encoded[: tokens.index(49407) + 1])
        rows = torch.cat(rows)
        expected = rows.T @ rows / len(rows)
    assert torch.allclose(statistics.second_moment.double(), expected, rtol=1e-5, atol=1e-6 * expected.abs().max())
    assert statistics.captions == len(CAPTIONS) and statistics.encoder_hash == encoder_hash(clip)


def test_what_stands_where(clip):
    (_, kinds, done), (_, more, all_done) = encoded_captions(clip, [*["a red dog"] * 32, "a " + "long " * 90 + "word"])
    assert (done, all_done) == (32, 33)
    first, (one, two) = kinds[:77].tolist(), more.reshape(2, 77).tolist()
    assert first[:5] == [TokenKind.START, *[TokenKind.WORD] * 3, TokenKind.END]
    assert set(first[5:]) == {TokenKind.PADDING}
    assert one == [TokenKind.START, *[TokenKind.WORD] * 75, TokenKind.END]
    assert two[:18] == [TokenKind.START, *[TokenKind.WORD] * 17] and two[18] == TokenKind.END


def lora(clip, seed: int = 1):
    """A clone of the CLIP with a LoRA, made by the host's own loader."""
    draw = torch.Generator().manual_seed(seed)
    up, down = torch.randn(32, 2, generator=draw), torch.randn(2, 32, generator=draw)
    stem = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    weights = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
    return comfy.sd.load_lora_for_models(None, clip, weights, 0.0, 1.0)[1]


def test_an_encoder_keeps_its_name(clip):
    """Whatever is loaded: itself, or a clone with a LoRA that has changed the shared weights."""
    with torch.inference_mode():
        patched, again, other = lora(clip), lora(clip), lora(clip, seed=2)
        names = []
        for loaded in (clip, patched, clip, other):
            encode(loaded, "a dog")
            names.append([encoder_hash(c) for c in (clip, patched, again, other)])
        plain, with_lora, same_lora, other_lora = names[0]
        assert names == [names[0]] * 4
        assert with_lora == same_lora and len({plain, with_lora, other_lora}) == 3
        skipping = clip.clone()
        skipping.clip_layer(-2)
        assert encoder_hash(skipping) != plain and encoder_hash(tiny_clip(seed=5)) != plain
        assert encoder_hash(tiny_clip()) == plain


def test_statistics_are_measured_once(clip, folders, monkeypatch):
    calls = []
    with torch.inference_mode():
        first = cached_statistics(clip, lambda *done: calls.append(done), count=120)
        assert calls == [(32, 120), (64, 120), (96, 120), (120, 120)]
        again = cached_statistics(clip, lambda *done: calls.append(done), count=120)
        assert len(calls) == 4 and again.hash() == first.hash()
        (kept,) = (folders / "user" / "perfusion").iterdir()
        assert encoder_hash(clip) in kept.name
        kept.write_bytes(kept.read_bytes()[:1000])  # half a file, as another program may leave it
        mended = cached_statistics(clip, lambda *done: calls.append(done), count=120)
        assert len(calls) == 8 and mended.hash() == first.hash()
        for changed in ({"count": 121}, {"captions": CAPTIONS}):
            assert cached_statistics(clip, silent, **changed).hash() != first.hash()
    assert len(list((folders / "user" / "perfusion").iterdir())) == 3


def test_cancel_leaves_nothing_behind(clip, folders):
    def stop(done, total):
        raise InterruptedError

    with torch.inference_mode(), pytest.raises(InterruptedError):
        cached_statistics(clip, stop, count=100)
    assert not (folders / "user" / "perfusion").exists()


def run(clip, **inputs):
    node = TextStatisticsNode.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    with torch.inference_mode():
        output = node.execute(clip=clip, **inputs)
    return asyncio.run(output) if asyncio.iscoroutine(output) else output


def test_the_node_shows_how_much_was_shrunk(clip, folders):
    (folders / "input" / "mine.txt").write_text(
        "\ufeff" + "\n\n".join(built_in_captions(150, seed=3)), encoding="utf-8"
    )
    output = run(clip, captions_file="mine.txt")
    (statistics,) = output.result
    assert statistics.captions == 150 and statistics.shrinkage > 0
    (text,) = output.ui.as_dict()["text"]
    assert "150 captions, 32 x 32" in text and f"{statistics.shrinkage:.2%} of it shrunk" in text
    before = TextStatisticsNode.fingerprint_inputs(captions_file="mine.txt", caption_count=100)
    (folders / "input" / "mine.txt").write_text("other", encoding="utf-8")
    assert TextStatisticsNode.fingerprint_inputs(captions_file="mine.txt") != before
    assert TextStatisticsNode.fingerprint_inputs(captions_file="") == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "could not be read"),
        ("latin.txt", "caf\xe9 au lait".encode("latin-1"), "could not be read"),
        ("few.txt", "\n".join(["a dog"] * 200).encode(), "has 1 different captions where at least 100"),
        ("../outside.txt", None, "must lie in the input folder"),
        ("/etc/hostname", None, "must lie in the input folder"),
    ],
)
def test_a_wrong_captions_file_ends_in_one_sentence(clip, folders, name, content, said):
    if content is not None:
        (folders / "input" / name).write_bytes(content)
    with pytest.raises(PerfusionError, match=said) as caught:
        run(clip, captions_file=name)
    assert "\n" not in str(caught.value)


def test_a_clip_brings_its_own_captions(clip, folders):
    own = clip.clone()
    own.patcher.set_attachments(text_statistics.CAPTIONS_ATTACHMENT, lambda: built_in_captions(130, seed=8))
    with torch.inference_mode():
        assert cached_statistics(own, silent).captions == 130


@pytest.mark.parametrize("own", [True, False])
def test_the_node_tells_how_many_captions_were_measured(own, folders, monkeypatch):
    """A CLIP that brings captions along is measured on those, however many built-in ones were asked for."""
    clip = tiny_clip(seed=11)
    if own:
        clip.patcher.set_attachments(CAPTIONS_ATTACHMENT, lambda: built_in_captions(130, seed=5))
    (text,) = run(clip, captions_file="", caption_count=170).ui.as_dict()["text"]
    assert text.startswith(f"{130 if own else 170} captions, ")
    assert ("caption_count, 170, is not used" in text) == own
