"""Layers are found by structure, and a model without any is refused in one sentence."""

import pytest
import torch
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import WIDTH, tiny_model

LAYERS = [
    "input_blocks.1.1.transformer_blocks.0.attn2",
    "input_blocks.3.1.transformer_blocks.0.attn2",
    "middle_block.1.transformer_blocks.0.attn2",
    "output_blocks.0.1.transformer_blocks.0.attn2",
    "output_blocks.1.1.transformer_blocks.0.attn2",
    "output_blocks.2.1.transformer_blocks.0.attn2",
    "output_blocks.3.1.transformer_blocks.0.attn2",
]


@pytest.fixture(scope="module")
def unet():
    return tiny_model().model.diffusion_model


@pytest.mark.parametrize("width", [None, WIDTH])
def test_every_text_layer_is_found_by_name(unet, width):
    layers = cross_attention_layers(unet, width)
    assert sorted(layers) == LAYERS
    assert all(layer is unet.get_submodule(name) for name, layer in layers.items())


def test_a_compiled_model_has_the_same_names(unet):
    compiled = torch.compile(unet, backend="eager")
    assert list(cross_attention_layers(compiled)) == list(cross_attention_layers(unet))


def test_compiled_blocks_have_the_same_names():
    unet = tiny_model().model.diffusion_model
    blocks = unet.middle_block[1].transformer_blocks
    blocks[0] = torch.compile(blocks[0], backend="eager")
    assert sorted(cross_attention_layers(unet)) == LAYERS


class Attention(torch.nn.Module):
    def __init__(self, keys: int, values: int) -> None:
        super().__init__()
        self.to_k = torch.nn.Linear(keys, 8)
        self.to_v = torch.nn.Linear(values, 8)


def test_layers_over_time_and_of_two_widths_are_left_out():
    block = torch.nn.ModuleDict({"attn2": Attention(32, 32)})
    model = torch.nn.ModuleDict({"time_stack": block, "space": torch.nn.ModuleDict({"attn2": Attention(32, 48)})})
    model["text"] = torch.nn.ModuleDict({"attn2": Attention(32, 32)})
    assert list(cross_attention_layers(model)) == ["text.attn2"]


@pytest.mark.parametrize("model", [torch.nn.Linear(3, 3), torch.nn.ModuleDict({"attn2": Attention(16, 16)})])
def test_a_model_without_fitting_layers_is_refused(model):
    with pytest.raises(PerfusionError, match="cross-attention layers for text encodings of width 32"):
        cross_attention_layers(model, 32)
