"""perfusion_core.edit against the package perfusion-pytorch, an independent implementation (single concept, eval).

Its projection for several concepts is the approximation that subtracts each concept by itself, and its values are not
trained by its own optimiser helpers; neither is compared. Its text encoder (open-clip) is imported by the package but
takes no part here, so an empty stand-in does where open-clip is not installed.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
from core_examples import make_edits, random, relative_error, second_moment

from perfusion_core.edit import ConceptEdit, add_value_targets, edit_encoding

WIDTH, OUT, TOKENS = 64, 40, 77


@pytest.fixture
def peer(monkeypatch):
    for name in ("perfusion_pytorch", "beartype", "einops", "opt_einsum"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(
                f"the numerical peer needs {name} (pip install --no-deps perfusion-pytorch beartype opt-einsum)"
            )
    if importlib.util.find_spec("open_clip") is None:
        stand_in = types.ModuleType("open_clip")
        stand_in.tokenizer = types.SimpleNamespace(tokenize=None)
        monkeypatch.setitem(sys.modules, "open_clip", stand_in)
    return importlib.import_module("perfusion_pytorch").Rank1EditModule


@pytest.mark.parametrize(("bias", "temperature"), [(0.75, 0.10), (0.70, 0.15), (0.45, 0.15)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_single_concept_equals_the_peer(peer, bias, temperature, dtype, tolerance):
    moment = second_moment(WIDTH)
    (edit,) = make_edits(1, WIDTH, torch.linalg.inv(moment), bias=bias, temperature=temperature, form="paper")
    encoding = random((2, TOKENS, WIDTH), 1)
    encoding[:, 5] = edit.target_input  # the concept's word
    encoding[:, 6] = 0.6 * edit.target_input + 0.1 * encoding[:, 6]  # a word close to it, in the gate's slope
    encoding = encoding.to(dtype)
    edited = edit_encoding(encoding, [edit])

    value_target = random((OUT,), 2).to(dtype)
    for is_key in (True, False):
        projection = torch.nn.Linear(WIDTH, OUT, bias=False, dtype=dtype)
        projection.requires_grad_(False)
        target = projection.weight @ edit.superclass_encoding.to(dtype) if is_key else value_target
        module = peer(
            projection, C=moment.to(dtype), is_key_proj=is_key, eval_beta=bias, eval_temperature=temperature
        ).to(dtype)
        module.eval()
        module.initted.fill_(True)
        module.ema_concept_text_encs.copy_(edit.target_input[None])
        module.concept_outputs.data.copy_(target[None])
        with torch.no_grad():
            expected = module(encoding)
        if is_key:
            found = projection(edited.key_context)
        else:
            found = add_value_targets(projection(edited.value_context), edited.value_gates, value_target[None])
        assert relative_error(found, expected) <= tolerance


def test_equals_the_peer_with_its_published_covariance(peer):
    """The matrix that the package ships for SD1.5, at SD1.5's width; everything in float32."""
    shipped = sorted((Path(importlib.util.find_spec("perfusion_pytorch").origin).parent / "data").glob("*.pt"))
    assert shipped, "the package has lost its covariance"
    moment = torch.load(shipped[0], weights_only=True)
    width, bias, temperature = len(moment), 0.70, 0.15
    # Encodings with that second moment: most of what a random vector has would lie in directions that no text takes.
    spread = torch.linalg.cholesky(moment.double())
    encoding = random((1, 77, width), 1) @ spread.T
    edit = ConceptEdit(
        target_input=encoding[0, 5].clone(),
        inverse_target_input=torch.linalg.solve(moment.double(), encoding[0, 5]),
        superclass_encoding=random((width,), 2) @ spread.T,
        bias=bias,
        temperature=temperature,
        form="paper",
    )
    edited = edit_encoding(encoding.float(), [edit])
    assert edited.gates.max() > 0.5 > edited.gates.median()

    projection = torch.nn.Linear(width, OUT, bias=False)
    projection.requires_grad_(False)
    value_target = random((OUT,), 3).float()
    module = peer(projection, eval_beta=bias, eval_temperature=temperature)
    module.eval()
    module.initted.fill_(True)
    module.ema_concept_text_encs.copy_(edit.target_input[None])
    module.concept_outputs.data.copy_(value_target[None])
    with torch.no_grad():
        expected = module(encoding.float())
    found = add_value_targets(projection(edited.value_context), edited.value_gates, value_target[None])
    assert relative_error(found, expected) <= 1e-5
