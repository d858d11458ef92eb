"""Concepts beside patches that change what happens inside the UNet's attention and around its calls."""

import importlib.util

import pytest
import torch
from coexistence import ROUNDING, Partner, check_pair, make_scene
from comfy.ldm.modules.attention import optimized_attention
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from needs_host import needs_host
from tiny_models import WIDTH, encode

LOCKS = pytest.mark.parametrize("lock", ["local", "global"])
NAG = "normalized attention guidance"
BLOCKS = [("input", 1), ("input", 3), ("middle", 0), ("output", 0), ("output", 1), ("output", 2), ("output", 3)]


@pytest.fixture(scope="module")
def scene():
    return make_scene()


def image_prompt(weight):
    """Return a patch of IPAdapter's kind: in every block's replace slot, a second attention to tokens of a picture."""
    generator = torch.Generator().manual_seed(11)
    tokens = torch.randn(1, 4, WIDTH, generator=generator)
    projections = {d: torch.randn(2, WIDTH, d, generator=generator) * 0.1 for d in (32, 64)}

    def attention(q, k, v, extra_options):
        heads = extra_options["n_heads"]
        out = optimized_attention(q, k, v, heads)
        to_k, to_v = projections[q.shape[-1]]
        picture = tokens.expand(len(q), -1, -1)
        return out + weight * optimized_attention(q, picture @ to_k, picture @ to_v, heads)

    def patch(model):
        clone = model.clone()
        for block in BLOCKS:
            clone.set_model_attn2_replace(attention, *block)
        return clone

    return patch


def couple(contexts, masks):
    """Return a patch of attention couple's kind: in every cond of the batch each region attends to its own prompt.

    contexts: one [1, N, d] per region, None for the prompt that arrives.  masks: [R, 1, 8, 8], adding up to 1.
    """

    def regions(n, context, value, extra_options):
        chunks = extra_options["cond_or_uncond"]
        size = len(n) // len(chunks)
        queries, keys, values = [], [], []
        for chunk, kind in zip(range(len(chunks)), chunks, strict=True):
            here = slice(chunk * size, (chunk + 1) * size)
            for region in contexts if kind == 0 else contexts[:1]:
                own = region is None or kind == 1
                queries.append(n[here])
                keys.append(context[here] if own else region.expand(size, -1, -1))
                values.append(value[here] if own else region.expand(size, -1, -1))
        return torch.cat(queries), torch.cat(keys), torch.cat(values)

    def mixed(out, extra_options):
        chunks = extra_options["cond_or_uncond"]
        count = sum(len(contexts) if kind == 0 else 1 for kind in chunks)
        pieces = list(out.chunk(count))
        side = round(out.shape[1] ** 0.5)
        weights = torch.nn.functional.interpolate(masks, (side, side)).reshape(len(masks), 1, -1, 1)
        results = []
        for kind in chunks:
            if kind == 1:
                results.append(pieces.pop(0))
            else:
                results.append(sum(weight * pieces.pop(0) for weight in weights))
        return torch.cat(results)

    def patch(model):
        clone = model.clone()
        clone.set_model_attn2_patch(regions)
        clone.set_model_attn2_output_patch(mixed)
        return clone

    return patch


@LOCKS
def test_attention_couple(scene, lock, record_property):
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    masks, other = torch.cat([left, 1 - left]), encode(scene.clip, "two <cuppy> and a <hugsy>, a red ball")[0][0]
    check_pair(
        scene,
        "attention couple (contexts repeated and swapped)",
        Partner(couple([None, other], masks)),
        record_property,
        lock=lock,
        neutral=Partner(couple([None, None], masks)),
        neutral_tolerance=ROUNDING,
        batch=2,
    )


def stock(node, *settings):
    """Return a stock node that takes and returns a MODEL, with its settings, as a partner."""
    run = node.execute if hasattr(node, "execute") else getattr(node(), node.FUNCTION)  # a V1 node in old hosts
    return Partner(lambda model: run(model, *settings)[0])


# Name: (the partner, the partner set to do nothing, how exactly it then does nothing, sampling settings).
INSIDE = {
    "IPAdapter's kind of attention replacement": (Partner(image_prompt(1.0)), Partner(image_prompt(0.0)), 0.0, {}),
    "FreeU": (stock(FreeU_V2, 1.3, 1.4, 0.9, 0.2), stock(FreeU_V2, 1.0, 1.0, 1.0, 1.0), ROUNDING, {}),
    "perturbed-attention guidance": (
        stock(PerturbedAttentionGuidance, 3.0),
        stock(PerturbedAttentionGuidance, 0.0),
        0.0,
        {},
    ),
    "self-attention guidance": (
        stock(SelfAttentionGuidance, 0.7, 2.0),
        stock(SelfAttentionGuidance, 0.0, 2.0),
        ROUNDING,
        {"size": 16, "steps": 2},
    ),
}
HAS_NAG = importlib.util.find_spec("comfy_extras.nodes_nag") is not None
if HAS_NAG:
    from comfy_extras.nodes_nag import NAGuidance

    INSIDE[NAG] = (
        stock(NAGuidance, 5.0, 0.5, 1.5),
        stock(NAGuidance, 5.0, 0.0, 1.5),
        0.0,
        {},
    )


@LOCKS
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in INSIDE if name != NAG),
        pytest.param(NAG, marks=needs_host("0.14.0", "its node NAGuidance", HAS_NAG)),
    ],
)
def test_patches_that_work_inside_the_unet(scene, name, lock, record_property):
    partner, neutral, tolerance, sampling = INSIDE[name]
    check_pair(
        scene, name, partner, record_property, lock=lock, neutral=neutral, neutral_tolerance=tolerance, **sampling
    )
