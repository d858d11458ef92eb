"""Concepts of other implementations: what is imported gives their own outputs, and nothing in a file is run."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from core_examples import random, relative_error
from peer_files import (
    DIFFUSERS_LAYERS,
    LAYERS,
    TOKENS,
    WIDTH,
    chendaryen_content,
    inverse_moment,
    lucidrains_content,
    projection,
    save_checkpoint,
    save_with_omegaconf_list,
)
from torch import Tensor, nn

from perfusion_core.concept import Concept, GatedConcept
from perfusion_core.concept_file import load_concept
from perfusion_core.edit import add_value_targets, edit_encoding
from perfusion_core.errors import PerfusionError
from perfusion_core.importers import base_model, chendaryen, lucidrains
from perfusion_core.importers.__main__ import main
from perfusion_core.importers.base_model import read_base_model, superclass_encoding, tokens_of
from perfusion_core.importers.conversion import convert
from perfusion_core.importers.pickle_file import read_pickle

TOLERANCE = 1e-5
HALF_PRECISION = 2**-10  # of the target values in a concept file


@pytest.fixture(autouse=True)
def small_family(monkeypatch):
    """The made-up checkpoint's width counts as that of SD1."""
    monkeypatch.setitem(base_model.FAMILIES, WIDTH, ("sd1", "clip_l"))


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return save_checkpoint(tmp_path / "sd15.safetensors")


@pytest.fixture
def base(checkpoint) -> base_model.BaseModel:
    return read_base_model(checkpoint, [7])


def run(tmp_path, caplog, path: Path, *arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its status and what it said."""
    caplog.clear()
    caplog.set_level("INFO")
    checkpoint = tmp_path / "sd15.safetensors"
    options = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "hugsy.safetensors"), *arguments]
    status = main([str(path), *options])
    return status, "\n".join(record.getMessage() for record in caplog.records)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def encodings(target_input: Tensor) -> Tensor:
    """A batch of prompts in which the word stands at position 5 and something like it at 6."""
    encoding = random((2, TOKENS, WIDTH), 9, torch.float32)
    encoding[:, 5] = target_input
    encoding[:, 6] = 0.6 * target_input + 0.1 * encoding[:, 6]
    return encoding


def our_outputs(concept: Concept, encoding: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Keys and values of the imported concept in one layer, with the gate it recommends."""
    edited = edit_encoding(encoding, [GatedConcept(concept, concept.bias, concept.temperature).edit()])
    keys = edited.key_context @ projection(layer, "k").T
    values = add_value_targets(
        edited.value_context @ projection(layer, "v").T, edited.value_gates, concept.value_targets[layer][None]
    )
    return keys, values


# --- perfusion-pytorch ---------------------------------------------------------------------------------------------


@pytest.fixture
def peer(monkeypatch) -> types.ModuleType:
    """The package perfusion-pytorch; its text encoder (open-clip) takes no part here, so a stand-in does."""
    for name in ("perfusion_pytorch", "beartype", "einops", "opt_einsum"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name} (pip install --no-deps perfusion-pytorch beartype opt-einsum)")
    if importlib.util.find_spec("open_clip") is None:
        stand_in = types.ModuleType("open_clip")
        stand_in.tokenizer = types.SimpleNamespace(tokenize=None)
        monkeypatch.setitem(sys.modules, "open_clip", stand_in)
    return importlib.import_module("perfusion_pytorch")


def trained_peer_model(peer: types.ModuleType, layers: list[str]) -> nn.Module:
    """A model of that package after three of its own training passes; its values get numbers as if learned."""
    model = nn.Module()
    model.embedding = peer.EmbeddingWrapper(nn.Embedding(50, WIDTH), superclass_embed_id=7)
    model.attentions = nn.ModuleList()
    for layer in layers:
        attention = nn.Module()
        for side in "kv":
            linear = nn.Linear(WIDTH, LAYERS[layer], bias=False)
            linear.weight.data.copy_(projection(layer, side))
            module = peer.Rank1EditModule(linear, C=torch.linalg.inv(inverse_moment()), is_key_proj=side == "k")
            setattr(attention, f"to_{side}", module.train())
        model.attentions.append(attention)
    for step in range(3):
        encoding = random((2, TOKENS, WIDTH), 100 + step, torch.float32)
        superclass = random((2, TOKENS, WIDTH), 200 + step, torch.float32)
        for attention in model.attentions:
            for module in (attention.to_k, attention.to_v):
                module(encoding, concept_indices=torch.tensor([5, 4]), text_enc_with_superclass=superclass)
    for number, attention in enumerate(model.attentions):
        attention.to_v.concept_outputs.data.copy_(random((1, LAYERS[layers[number]]), 400 + number))
    return model.eval()


@pytest.mark.parametrize("layers", [DIFFUSERS_LAYERS, list(LAYERS)], ids=["diffusers", "ldm"])
def test_a_file_that_perfusion_pytorch_saved(tmp_path, base, peer, layers):
    model = trained_peer_model(peer, layers)
    path = tmp_path / "their.pt"
    importlib.import_module("perfusion_pytorch.save_load").save(model, str(path))
    concept, notes = convert(lucidrains.read(read_pickle(path), path, base), base, path, "hugsy", "bear")
    assert not notes
    assert concept.form == "paper"
    encoding = encodings(model.attentions[0].to_k.ema_concept_text_encs[0])
    for layer, attention in zip(layers, model.attentions, strict=True):
        keys, values = our_outputs(concept, encoding, layer)
        with torch.no_grad():
            assert relative_error(keys, attention.to_k(encoding)) <= TOLERANCE
            assert relative_error(values, attention.to_v(encoding)) <= TOLERANCE
    assert torch.equal(concept.word_vectors["clip_l"], model.embedding.concepts.data)
    assert torch.equal(concept.superclass_vectors["clip_l"], base.superclass_vectors)


def test_one_of_several_concepts(tmp_path, base):
    content = lucidrains_content(concepts=3)
    concept, _ = convert(lucidrains.read(content, "a.pt", base, 2), base, "a.pt", "hugsy", "bear")
    assert torch.equal(concept.target_input, content["key_value_params"][0][0][2])
    assert torch.equal(concept.word_vectors["clip_l"], content["embed_params"][2:])
    with pytest.raises(PerfusionError, match="3 concepts"):
        lucidrains.read(content, "a.pt", base, 3)


def test_what_its_optimizer_does_is_told(base):
    """The peer's optimizer helper trains keys and leaves values where they start."""
    content = lucidrains_content()
    superclass = random((1, WIDTH), 3, torch.float32)
    for number, layer in enumerate(DIFFUSERS_LAYERS):
        key, value = content["key_value_params"][2 * number : 2 * number + 2]
        key[1] = key[1] + 0.3 * random(tuple(key[1].shape), 500 + number, torch.float32)
        value[1] = superclass @ projection(layer, "v").T
    _, (trained_keys, *_) = convert(lucidrains.read(content, "a.pt", base), base, "a.pt", "hugsy", "bear")
    assert "nearest" in trained_keys
    for number, layer in enumerate(DIFFUSERS_LAYERS):
        content["key_value_params"][2 * number][1] = superclass @ projection(layer, "k").T
    _, (untrained,) = convert(lucidrains.read(content, "a.pt", base), base, "a.pt", "hugsy", "bear")
    assert "starts from" in untrained


# --- ChenDarYen ----------------------------------------------------------------------------------------------------


def chendaryen_output(content: dict, encoding: Tensor, layer: str, side: str, beta: float, tau: float) -> Tensor:
    """The peer's forward at inference, single concept, written out in float64."""
    target_input, inverse = content["target_input"].double(), content["C_inv"].double()
    direction = inverse @ target_input
    energy = direction @ target_input
    similarity = (encoding.double() @ direction)[..., None]
    gate = torch.sigmoid((similarity / energy - beta) / tau)
    orthogonal = encoding.double() - similarity * target_input / energy
    output = content["target_output"][f"{layer}.to_{side}.target_output"].double()
    return orthogonal @ projection(layer, side).double().T + gate * output[None]


def test_a_chendaryen_file_gives_its_own_outputs(tmp_path, base):
    """Exactly, where all rows of the file are equal."""
    path = save_with_omegaconf_list(tmp_path / "teddy.ckpt")
    content = chendaryen_content(["Teddy"])
    concept, notes = convert(chendaryen.read(read_pickle(path), path, base), base, path, "hugsy", "teddy")
    assert not notes
    assert concept.training["steps"] == 400
    encoding = encodings(content["target_input"])
    for layer in LAYERS:
        for ours, side in zip(our_outputs(concept, encoding, layer), "kv", strict=True):
            assert relative_error(ours, chendaryen_output(content, encoding, layer, side, 0.7, 0.15)) <= TOLERANCE


def test_rows_that_differ_by_position(tmp_path, base):
    """One position alone is exact there; by default the rows of the templates are averaged, and the user is told."""
    content = read_pickle(save_with_omegaconf_list(tmp_path / "their.ckpt", rows_differ=0.5))
    encoding = encodings(content["target_input"])
    at_5, _ = convert(chendaryen.read(content, "a.ckpt", base, [5]), base, "a.ckpt", "hugsy", "teddy")
    averaged, notes = convert(chendaryen.read(content, "a.ckpt", base), base, "a.ckpt", "hugsy", "teddy")
    assert "differ from the mean" in notes[0]
    rows = torch.tensor([2] + [4] * 4 + [5] * 2 + [6] * 2)
    for name, table in content["target_output"].items():
        layer, side = name.split(".to_")[0], name.split(".to_")[1][0]
        theirs = chendaryen_output(content, encoding, layer, side, 0.7, 0.15)
        number = "kv".index(side)
        assert relative_error(our_outputs(at_5, encoding, layer)[number][:, 5], theirs[:, 5]) <= TOLERANCE
        one_row = {**content, "target_output": {name: table[rows].mean(0).expand(TOKENS, -1)}}
        theirs = chendaryen_output(one_row, encoding, layer, side, 0.7, 0.15)
        assert relative_error(our_outputs(averaged, encoding, layer)[number], theirs) <= TOLERANCE


def test_positions_that_the_file_lacks(base):
    with pytest.raises(PerfusionError, match="--positions"):
        chendaryen.read(chendaryen_content(["teddy"]), "a.ckpt", base, [77])


def test_a_list_that_the_real_omegaconf_made(tmp_path):
    omegaconf = pytest.importorskip("omegaconf", reason="the hand-made pickle has the same layout")
    words = omegaconf.OmegaConf.create({"model": {"words": ["teddy"]}}).model.words
    path = saved(tmp_path / "their.ckpt", chendaryen_content(words))
    assert chendaryen.superclass_in(read_pickle(path)) == "teddy"


# --- the superclass encoding ---------------------------------------------------------------------------------------


def test_superclass_encoding_is_recovered(base):
    expected = random((WIDTH,), 11, torch.float32)
    keys = {layer: weight @ expected for layer, weight in base.key_weights.items()}
    found, distance = superclass_encoding(keys, base.key_weights)
    assert relative_error(found, expected) <= TOLERANCE
    assert distance < TOLERANCE
    found, distance = superclass_encoding({n: k.half().float() for n, k in keys.items()}, base.key_weights)
    assert relative_error(found, expected) <= 2e-3
    assert distance < 1e-3


def test_vocabulary(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({"teddy</w>": 7, "bear</w>": 9}))
    assert tokens_of("Teddy bear", path) == [7, 9]
    with pytest.raises(PerfusionError, match="single token"):
        tokens_of("hippogriff", path)
    for content in ("[1]", "{", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(PerfusionError, match="vocab.json"):
            tokens_of("bear", path)
    with pytest.raises(PerfusionError, match="vocab.json"):
        tokens_of("bear", tmp_path / "none.json")


# --- the command ---------------------------------------------------------------------------------------------------


def test_command_with_a_ckpt(tmp_path, caplog, checkpoint):
    (tmp_path / "vocab.json").write_text(json.dumps({"teddy</w>": 7}))
    path = save_with_omegaconf_list(tmp_path / "their.ckpt")
    status, said = run(tmp_path, caplog, path, "--vocabulary", str(tmp_path / "vocab.json"))
    assert status == 0, said
    concept = load_concept(tmp_path / "hugsy.safetensors")
    assert (concept.word, concept.superclass, concept.base_model) == ("<hugsy>", "Teddy", "sd1")
    assert (concept.form, concept.bias, concept.temperature, concept.clip_layer) == ("paper", 0.7, 0.15, None)
    content = chendaryen_content(["teddy"])
    encoding = encodings(content["target_input"])
    for layer in LAYERS:
        keys, values = our_outputs(concept, encoding, layer)
        assert relative_error(keys, chendaryen_output(content, encoding, layer, "k", 0.7, 0.15)) <= TOLERANCE
        assert relative_error(values, chendaryen_output(content, encoding, layer, "v", 0.7, 0.15)) <= HALF_PRECISION


def test_command_with_a_pt_and_settings(tmp_path, caplog, checkpoint):
    path = saved(tmp_path / "their.pt", lucidrains_content())
    tokens = ["--superclass-tokens", "7", "8"]
    status, said = run(tmp_path, caplog, path, *tokens)
    assert status == 1
    assert "--superclass" in said
    more = ["--superclass", "dog", "--word", "Rex", "--bias", "0.5", "--temperature", "0.1", "--clip-layer", "-2"]
    assert run(tmp_path, caplog, path, *tokens, *more)[0] == 0
    concept = load_concept(tmp_path / "hugsy.safetensors")
    assert (concept.word, concept.superclass, concept.clip_layer) == ("<rex>", "dog", -2)
    assert (concept.bias, concept.temperature) == (0.5, 0.1)
    assert concept.superclass_vectors["clip_l"].shape == (2, WIDTH)
    for replace, status, bias in (((), 1, 0.5), (("--replace",), 0, 0.6)):
        assert run(tmp_path, caplog, path, *tokens, *more, "--bias", "0.6", *replace)[0] == status
        assert load_concept(tmp_path / "hugsy.safetensors").bias == bias


def test_command_runs_offline_from_the_repository(tmp_path, checkpoint):
    path = saved(tmp_path / "their.pt", {"something": torch.ones(1)})
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "perfusion_core.importers", path, "--checkpoint", checkpoint, "--out"]
    command += [tmp_path / "a.safetensors", "--superclass", "dog", "--superclass-tokens", "7"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("it has the parts of neither; choose another file.")
    assert len(done.stderr.strip().splitlines()) == 1


# --- what is refused -----------------------------------------------------------------------------------------------


class Calls:
    """Runs a command when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, getattr, __import__, subprocess.check_output])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, caplog, checkpoint, function):
    mark = tmp_path / "was_run"
    argument = {os.mkdir: str(mark), eval: f"open({str(mark)!r}, 'w')"}.get(function, f"touch {mark}")
    bomb = Calls(function, argument)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(bomb, protocol=2))
        file.writestr("archive/version", "3")
    whole = io.BytesIO()
    torch.save({**chendaryen_content(["teddy"]), "global_step": bomb}, whole)
    for number, content in enumerate([archive.getvalue(), whole.getvalue(), pickle.dumps(bomb, protocol=2)]):
        path = tmp_path / f"bad{number}.ckpt"
        path.write_bytes(content)
        status, said = run(tmp_path, caplog, path, "--superclass", "dog", "--superclass-tokens", "7")
        assert status == 1
        assert str(path) in said
        assert "\n" not in said
        assert said.endswith(".")
        assert not mark.exists()
        assert not (tmp_path / "hugsy.safetensors").exists()


def broken_contents() -> dict[str, object]:
    """Contents that are nearly right."""
    broken: dict[str, object] = {"a list": [1, 2], "a number": 5, "nothing": {}}
    for name in ("C_inv", "target_input", "embedding", "target_output"):
        for value in (None, torch.ones(3), torch.full((WIDTH,), float("nan")), {}, "text"):
            broken[f"{name} {type(value).__name__} {len(broken)}"] = {**chendaryen_content(["teddy"]), name: value}
    for name in ("C_inv", "embed_params", "key_value_params"):
        for value in (None, torch.ones(3), [], [1], [[1, 2]], [[torch.ones(1, WIDTH), torch.ones(1, 5)]], {}):
            broken[f"{name} {type(value).__name__} {len(broken)}"] = {**lucidrains_content(), name: value}
    foreign = lucidrains_content()
    for pair in foreign["key_value_params"][0::2]:
        pair[1] = random(tuple(pair[1].shape), 700 + pair[1].shape[1], torch.float32)
    broken["keys of another model"] = foreign
    uneven = lucidrains_content()
    uneven["key_value_params"][3][0] = torch.ones(1, WIDTH)
    broken["two target inputs"] = uneven
    zero = lucidrains_content()
    zero["C_inv"] = torch.zeros(WIDTH, WIDTH)
    broken["no energy"] = zero
    renamed = chendaryen_content(["teddy"])
    renamed["target_output"]["down_blocks.0.attn2.to_k.target_output"] = torch.ones(TOKENS, 12)
    broken["layers of another program"] = renamed
    return broken


def test_broken_contents_end_in_one_sentence(tmp_path, caplog, checkpoint):
    for name, content in broken_contents().items():
        path = saved(tmp_path / "bad.pt", content)
        status, said = run(tmp_path, caplog, path, "--superclass", "dog", "--superclass-tokens", "7")
        assert status == 1, name
        assert said.isprintable(), name
        assert said.endswith("."), name
        assert len(said) < 600, name


def test_files_that_are_none(tmp_path, caplog, checkpoint):
    good = saved(tmp_path / "good.pt", lucidrains_content())
    whole = good.read_bytes()
    tokens = ["--superclass", "dog", "--superclass-tokens", "7"]
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2], checkpoint.read_bytes()):
        (tmp_path / "bad.pt").write_bytes(content)
        status, said = run(tmp_path, caplog, tmp_path / "bad.pt", *tokens)
        assert (status, said.count("\n")) == (1, 0)
        assert "bad.pt" in said
    assert run(tmp_path, caplog, tmp_path / "none.pt", *tokens)[0] == 1
    for arguments in (["--superclass", "dog", "--superclass-tokens", "50"], [*tokens, "--word", "two words"]):
        status, said = run(tmp_path, caplog, good, *arguments)
        assert (status, said.count("\n")) == (1, 0)
    checkpoint.write_bytes(good.read_bytes())
    status, said = run(tmp_path, caplog, good, *tokens)
    assert (status, said.count("\n")) == (1, 0)
    assert "safetensors" in said
