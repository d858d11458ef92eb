"""A concept that does not act, or acts under another lock than asked for, is told in one warning with the cause."""

from __future__ import annotations

import copy
import gc
import logging
import weakref
from types import SimpleNamespace

import pytest
import server
import torch
from coexistence import EFFECT, make_scene
from comfy.ldm.modules.diffusionmodules.openaimodel import forward_timestep_embed, timestep_embedding
from comfy_execution.utils import CurrentNodeContext
from perfusion_pack.nodes.host.executing_node import executing_node
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from tiny_models import changed, difference, encode, sample

import nodes

LOCKS = pytest.mark.parametrize("lock", ["local", "global"])


@pytest.fixture(scope="module")
def scene():
    return make_scene()


def deep_cache(model):
    """Return the MODEL with a unet-function-wrapper of DeepCache's kind: it runs the blocks of the UNet itself."""
    clone = model.clone()

    def run_blocks(model_function, given):
        base, x, t, c = model.model, given["input"], given["timestep"], given["c"]
        unet, options = base.diffusion_model, c["transformer_options"]
        h = base.model_sampling.calculate_input(t, x)
        emb = unet.time_embed(timestep_embedding(base.model_sampling.timestep(t), unet.model_channels))
        kept = []
        for block in unet.input_blocks:
            h = forward_timestep_embed(block, h, emb, c["c_crossattn"], options)
            kept.append(h)
        h = forward_timestep_embed(unet.middle_block, h, emb, c["c_crossattn"], options)
        for block in unet.output_blocks:
            skipped = kept.pop()
            shape = kept[-1].shape if kept else None
            h = forward_timestep_embed(block, torch.cat([h, skipped], 1), emb, c["c_crossattn"], options, shape)
        return base.model_sampling.calculate_denoised(t, unet.out(h), x)

    clone.set_model_unet_function_wrapper(run_blocks)
    return clone


def skip_cross_attention(model):
    """Return the MODEL with a wrapper that never gets to the blocks, as a cache of whole steps has it."""
    clone = model.clone()
    clone.add_wrapper_with_key("apply_model", "cache", whole_step_cache)
    return clone


def whole_step_cache(executor, x, *args, **kwargs):
    return x * 0.5


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@LOCKS
@pytest.mark.parametrize(
    ("bypass", "named"),
    [
        (deep_cache, "deep_cache.run_blocks of test_silent_failures ran the model"),
        (skip_cross_attention, "whole_step_cache of test_silent_failures ran the model"),
    ],
)
def test_what_runs_the_blocks_itself_is_named_once(scene, lock, bypass, named, caplog):
    prompts = scene.positive, scene.negative
    alone = sample(bypass(scene.model), *prompts)
    assert not caplog.records
    both = sample(bypass(apply_concepts(scene.model, scene.stack, lock)), *prompts)
    assert difference(both, alone) == 0.0, "the premise: this patch takes the concepts away"
    (sentence,) = warnings(caplog)
    assert named in sentence and "did not act in this run, though the prompt has <cuppy> and <hugsy>" in sentence
    caplog.clear()
    assert difference(sample(apply_concepts(scene.model, scene.stack, lock), *prompts), alone) > EFFECT
    assert warnings(caplog) == []


def test_deep_cache_computes_what_the_model_does(scene):
    """So that the premise above is not that of a wrapper which computes something else."""
    one, other = (sample(model, scene.positive, scene.negative) for model in (scene.model, deep_cache(scene.model)))
    assert difference(one, other) < 1e-4


@LOCKS
def test_a_concept_that_is_not_due_is_no_reason_to_warn(scene, lock, caplog):
    """Its window is never open, its strength is 0, its word is in no prompt."""
    model = deep_cache(scene.model)
    for stack in (scene.closed(), scene.absent()):
        sample(apply_concepts(model, stack, lock), scene.positive, scene.negative)
    plain = encode(scene.clip, "a photo of a teddy beside a cup")
    sample(apply_concepts(model, scene.stack, lock), plain, scene.negative)
    assert warnings(caplog) == []


def old_call(clip, text):
    """Return the conditioning that many nodes of other packs make."""
    encoding, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return [[encoding, {"pooled_output": pooled}]]


def test_the_old_call_keeps_the_lock_of_the_whole_prompt(scene, caplog):
    text = "a photo of <hugsy> beside a <cuppy>"
    stock, old = encode(scene.clip, text), old_call(scene.clip, text)
    assert torch.equal(stock[0][0], old[0][0]) and CONDITIONING_KEY not in old[0][1]
    patched = {lock: apply_concepts(scene.model, scene.stack, lock) for lock in ("local", "global")}
    expected = {lock: sample(model, stock, scene.negative) for lock, model in patched.items()}
    assert difference(expected["local"], expected["global"]) > EFFECT
    handed_on = {
        "as it is": old,
        "through stock nodes": nodes.ConditioningSetTimestepRange().set_range(old, 0.0, 1.0)[0],
        "to the same device": [[old[0][0].to("cpu"), old[0][1]]],
        "as a deep copy": copy.deepcopy(old),
        "without its extra fields": [[encode(scene.clip, text)[0][0], {}]],
    }
    for how, conditioning in handed_on.items():
        found = sample(patched["global"], conditioning, old_call(scene.clip, "blurry, dark"))
        assert torch.equal(found, expected["global"]), how
    assert torch.equal(sample(patched["local"], old, scene.negative), expected["local"])
    assert warnings(caplog) == []


def test_a_lost_lock_is_told_once_with_the_node_that_encoded(scene, caplog, monkeypatch):
    class Queue:
        currently_running = {0: (0, "p", {"7": {"class_type": "OtherTextEncode"}}, {}, [])}

    monkeypatch.setattr(server.PromptServer, "instance", SimpleNamespace(prompt_queue=Queue()), raising=False)
    with CurrentNodeContext("p", "7"):
        old = old_call(scene.clip, "a photo of <hugsy> beside a <cuppy>")
    (encoding, extra), *_ = old
    lost = [[encoding * 1.0, extra]]  # computed with, as by nodes that weigh tokens in their own way
    model = apply_concepts(scene.model, scene.stack, "global")
    found = sample(model, lost, old_call(scene.clip, "blurry, dark"))
    local = sample(apply_concepts(scene.model, scene.stack, "local"), lost, scene.negative)
    assert torch.equal(found, local)
    (sentence,) = warnings(caplog)
    assert "only the local one for <hugsy>" in sentence and "encoded by OtherTextEncode lacks" in sentence
    assert sentence.endswith(".") and "\n" not in sentence
    caplog.clear()
    sample(model, [[encoding * 1.0, {}]], scene.negative)
    (sentence,) = warnings(caplog)
    assert "the conditioning lacks" in sentence


def test_a_prompt_without_the_word_has_no_lock_to_lose(scene, caplog):
    plain = [[encode(scene.clip, "a photo of a teddy beside a cup")[0][0] * 1.0, {}]]
    sample(apply_concepts(scene.model, scene.stack, "global"), plain, scene.negative)
    sample(apply_concepts(scene.model, scene.closed(), "local"), changed(plain), scene.negative)
    assert warnings(caplog) == []


def test_the_mark_keeps_nothing_alive(scene):
    old = old_call(scene.clip, "a <hugsy>")
    kept = weakref.ref(getattr(old[0][0], CONDITIONING_KEY))
    assert kept() is not None
    del old
    gc.collect()
    assert kept() is None


def test_outside_a_graph_no_node_is_named(monkeypatch):
    assert executing_node() is None
    monkeypatch.setattr(
        server.PromptServer,
        "instance",
        SimpleNamespace(prompt_queue=SimpleNamespace(currently_running={})),
        raising=False,
    )
    with CurrentNodeContext("p", "7"):
        assert executing_node() is None
