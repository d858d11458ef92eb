"""Files of the other implementations as their programs write them, with made-up numbers, and a checkpoint to match."""

from __future__ import annotations

import sys
import types
import typing
from collections import OrderedDict, defaultdict
from pathlib import Path

import safetensors.torch
import torch
from core_examples import random, second_moment
from torch import Tensor, nn

WIDTH, TOKENS = 16, 77

# Blocks of a small U-Net, in the order of ldm and of diffusers, with the width of their layers.
LDM_ORDER = {"input_blocks.1.1": 12, "input_blocks.4.1": 20, "middle_block.1": 24, "output_blocks.3.1": 20}
LDM_ORDER |= {"output_blocks.10.1": 12}
DIFFUSERS_ORDER = [*list(LDM_ORDER)[:2], *list(LDM_ORDER)[3:], "middle_block.1"]
LAYERS = {f"{block}.transformer_blocks.0.attn2": size for block, size in LDM_ORDER.items()}
DIFFUSERS_LAYERS = [f"{block}.transformer_blocks.0.attn2" for block in DIFFUSERS_ORDER]


def projection(layer: str, side: str) -> Tensor:
    """W_K or W_V of the made-up checkpoint, [d_out, d]."""
    number = 2 * list(LAYERS).index(layer) + (side == "v")
    return random((LAYERS[layer], WIDTH), 300 + number, torch.float32)


def save_checkpoint(path: Path) -> Path:
    """A checkpoint with the names of SD1, and a token table of 50 rows."""
    tensors = {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": random((50, WIDTH), 1)}
    for layer in LAYERS:
        for side in "kv":
            tensors[f"model.diffusion_model.{layer}.to_{side}.weight"] = projection(layer, side)
        tensors[f"model.diffusion_model.{layer.replace('attn2', 'attn1')}.to_k.weight"] = torch.ones(12, 12)
    safetensors.torch.save_file({name: tensor.float() for name, tensor in tensors.items()}, path)
    return path


def inverse_moment() -> Tensor:
    return torch.linalg.inv(second_moment(WIDTH)).float()


def lucidrains_content(layers: list[str] = DIFFUSERS_LAYERS, concepts: int = 1) -> dict:
    """What perfusion-pytorch saves, by hand; each concept has its own numbers."""
    target_inputs = random((concepts, WIDTH), 2, torch.float32)
    superclass = random((concepts, WIDTH), 3, torch.float32)
    pairs = []
    for number, layer in enumerate(layers):
        pairs.append([target_inputs.clone(), superclass @ projection(layer, "k").T])
        pairs.append([target_inputs.clone(), random((concepts, LAYERS[layer]), 20 + number, torch.float32)])
    vectors = random((concepts, WIDTH), 4, torch.float32)
    return {"embed_params": vectors, "key_value_params": pairs, "C_inv": inverse_moment()}


def chendaryen_content(initializer_words: object, rows_differ: float = 0.0) -> dict:
    """What ChenDarYen's program saves: a row per position, o_K of a superclass encoding that differs per position."""
    superclass = random((WIDTH,), 5, torch.float32) + rows_differ * random((TOKENS, WIDTH), 6, torch.float32)
    outputs = OrderedDict()
    for number, layer in enumerate(LAYERS):
        outputs[f"{layer}.to_k.target_output"] = superclass @ projection(layer, "k").T
        value = random((LAYERS[layer],), 40 + number, torch.float32)
        per_position = random((TOKENS, LAYERS[layer]), 60 + number, torch.float32)
        outputs[f"{layer}.to_v.target_output"] = value + rows_differ * per_position
    vectors = nn.ParameterDict({"*": nn.Parameter(random((1, WIDTH), 7, torch.float32))})
    return {
        "global_step": 400,
        "C_inv": inverse_moment(),
        "target_input": random((WIDTH,), 8, torch.float32),
        "embedding": {
            "initializer_words": initializer_words,
            "string_to_token": {"*": 265},
            "string_to_param": vectors,
        },
        "target_output": outputs,
    }


def save_with_omegaconf_list(path: Path, rows_differ: float = 0.0) -> Path:
    """Save as the peer does, whose list of words is one of OmegaConf, tied to the whole configuration.

    The pickle is the same as with the library, which need not be installed: classes go into it by name only.
    """
    modules = {}
    for module, names in {
        "omegaconf": [],
        "omegaconf.base": ["ContainerMetadata", "Metadata"],
        "omegaconf.listconfig": ["ListConfig"],
        "omegaconf.dictconfig": ["DictConfig"],
        "omegaconf.nodes": ["AnyNode"],
    }.items():
        modules[module] = types.ModuleType(module)
        for name in names:
            setattr(modules[module], name, type(name, (), {"__module__": module}))

    def make(module: str, name: str, **fields: object) -> object:
        thing = getattr(modules[f"omegaconf.{module}"], name)()
        thing.__dict__.update(fields)
        return thing

    types_of_settings = {"ref_type": typing.Any, "element_type": typing.Any, "key_type": typing.Any, "flags": {}}
    parent = make("dictconfig", "DictConfig", _parent=None, _content={})
    parent._metadata = make(
        "base", "ContainerMetadata", object_type=dict, resolver_cache=defaultdict(dict), **types_of_settings
    )
    words = make("listconfig", "ListConfig", _parent=parent, _flags_cache=None)
    words._metadata = make(
        "base", "ContainerMetadata", object_type=list, resolver_cache=defaultdict(dict), **types_of_settings
    )
    parent._content["initializer_words"] = words
    words._content = [make("nodes", "AnyNode", _val="Teddy", _parent=words, _metadata=make("base", "Metadata"))]
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        torch.save(chendaryen_content(words, rows_differ), path)
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    return path
