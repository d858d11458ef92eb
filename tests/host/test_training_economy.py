"""What a training must not do, since it would only cost time and memory; and that its words of several tokens act."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept_file import load_concept
from tiny_models import difference, encode, gated, sample
from training_inputs import run_node


def test_every_picture_is_encoded_once(inputs, folder, monkeypatch):
    """Through all steps, validations, previews and samples, in each orientation; and again in another training."""
    autoencoder, encoded = inputs.vae.first_stage_model, []
    original = autoencoder.encode
    monkeypatch.setattr(autoencoder, "encode", lambda pixels: encoded.append(len(pixels)) or original(pixels))
    run_node(inputs, steps=6, preview_every=2, validate_every=2, samples=2)
    assert sum(encoded) == 2 * len(inputs.images) == 6  # as they are, and mirrored
    run_node(inputs, steps=1, flip=False)
    assert sum(encoded) == 9


@contextmanager
def watched(model, boundary: str) -> Iterator[tuple[list[str], list[torch.Size], list[torch.Size]]]:
    """While the block is open, note which modules gave a tensor with a gradient, in the order of the forward pass,
    and what autograd kept inside the UNet: before the module `boundary` was called, and from there on."""
    unet = model.model.diffusion_model
    order: list[str] = []
    kept: dict[str, list[torch.Size]] = {"before": [], "after": [], "outside": []}
    place = ["outside"]

    def note(name: str):
        def hook(_module, _inputs, output) -> None:
            if torch.is_tensor(output) and output.requires_grad:
                order.append(name)

        return hook

    def go_to(where: str):
        return lambda *_: place.__setitem__(0, where)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[place[0]].append(tensor.shape)
        return tensor

    with ExitStack() as open_:
        for name, module in unet.named_modules():
            open_.callback(module.register_forward_hook(note(name)).remove)
        open_.callback(unet.get_submodule(boundary).register_forward_pre_hook(go_to("after")).remove)
        open_.callback(unet.register_forward_pre_hook(go_to("before")).remove)
        open_.callback(unet.register_forward_hook(go_to("outside")).remove)
        open_.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        yield order, kept["before"], kept["after"]


@pytest.mark.parametrize("form", ["unlocked", "gated", "paper"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_nothing_before_the_first_edited_layer_has_a_gradient_or_is_kept_for_one(inputs, folder, form, checkpointing):
    first = next(iter(cross_attention_layers(inputs.model.model.diffusion_model)))
    # What is computed again on the way back is a whole block, from its input on.
    boundary = first.rpartition(".")[0] if checkpointing else first
    with watched(inputs.model, boundary) as (order, before, after):
        run_node(inputs, steps=1, validate_every=0, form=form, gradient_checkpointing=checkpointing)
    assert order[0] in (f"{first}.to_k", f"{first}.to_v")
    assert not before and after


def test_a_word_of_two_tokens_acts_where_it_stands_and_nowhere_else(inputs, folder):
    """Trained by the node, loaded from its file, applied by the gate; against the same model without the gate."""
    run_node(inputs, superclass="teddy bear", steps=6)
    concept = load_concept(folder / "hugsy.safetensors")
    assert len(concept.word_vectors["clip_l"]) == len(concept.superclass_vectors["clip_l"]) == 2
    stack = (gated(concept, bias=0.75, temperature=0.002),)
    spoken, patched = add_words(inputs.clip, stack), apply_concepts(inputs.model, stack)
    negative = encode(spoken, "")

    def effect(text: str) -> float:
        positive = encode(spoken, text)
        plain = sample(inputs.model, positive, negative)
        return difference(sample(patched, positive, negative), plain) / plain.abs().max().item()

    assert effect("a red ball on the") == 0.0
    assert effect("a photo of <hugsy> in the snow") > 2e-3
    assert effect("two <hugsy> beside a <hugsy>") > 2e-3
