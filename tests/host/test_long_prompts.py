"""Text statistics cover long prompts: their tokens stay closed to a concept, on a random CLIP of real vocabulary."""

from __future__ import annotations

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import pytest
import torch
from perfusion_pack.nodes.host.text.statistics import TokenKind, encoded_captions, measure_statistics
from perfusion_pack.perfusion_core.caption_templates import TEMPLATES
from perfusion_pack.perfusion_core.captions import LONG, built_in_captions
from perfusion_pack.perfusion_core.concept import RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE
from tiny_models import clip_options

WIDTH, CAPTIONS, SEED_OF_OTHERS = 128, 400, 1
NOUNS = ("dog", "cat", "horse", "teddy", "cup", "chair", "car", "boat", "house", "castle", "tree", "apple", "woman")
PROMPTS = 4  # for each noun


@pytest.fixture(scope="module")
def clip():
    """Of SD1's kind, filled as the training of CLIP starts: words of .02, positions of .01."""
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(target, model_options=clip_options("clip_l", width=WIDTH))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in clip.cond_stage_model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if "norm" in name:
                parameter.copy_(float(name.endswith("weight")) + 0.2 * noise)
            else:
                scale = 0.02 if "token" in name else 0.01 if "position" in name else WIDTH**-0.5
                parameter.copy_(noise * scale * (parameter.dim() > 1))
    return clip


def tokens(clip, text: str) -> torch.Tensor:
    return torch.tensor([entry[0] for chunk in clip.tokenize(text)["l"] for entry in chunk])


def is_long(caption: str) -> bool:
    return len(caption.split()) + caption.count(",") >= LONG[0] - 10


def similarities_of_others(clip, inverse: torch.Tensor) -> torch.Tensor:
    """Of all tokens but the noun and the padding, in long prompts with a noun, to the noun's mean encoding."""
    held_out, found = [c for c in built_in_captions(6000, SEED_OF_OTHERS) if is_long(c)], []
    for noun in NOUNS:
        number = tokens(clip, noun)[1]
        ((encodings, _, _),) = encoded_captions(clip, [template.format(noun) for template in TEMPLATES])
        at_noun = torch.cat([tokens(clip, template.format(noun)) for template in TEMPLATES]) == number
        target = encodings[at_noun].double().mean(dim=0)
        direction = inverse.double() @ target
        for prompt in [c for c in held_out if noun in c.split()][:PROMPTS]:
            ((encodings, kinds, _),) = encoded_captions(clip, [prompt])
            others = (tokens(clip, prompt) != number) & (kinds != TokenKind.PADDING)
            found.append(encodings[others].double() @ direction / (target @ direction))
    assert len(found) == PROMPTS * len(NOUNS)
    return torch.cat(found)


def test_long_captions_are_as_long_as_prompts_for_sdxl(clip):
    lengths = [int((tokens(clip, c) != 49407).sum()) - 1 for c in built_in_captions(1200) if is_long(c)]
    assert len(lengths) > 240 and 57 < sum(lengths) / len(lengths) < 66
    assert sum(length > 75 for length in lengths) < 0.05 * len(lengths), "most end within one of CLIP's chunks"


def test_other_tokens_of_long_prompts_stay_closed(clip):
    """And lie less about than under statistics of short captions alone, which have seen no late position."""

    def measured(captions: list[str]) -> torch.Tensor:
        statistics = measure_statistics(clip, captions, lambda done, total: None)
        return similarities_of_others(clip, statistics.inverse)

    assert clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight.shape == (49408, WIDTH)
    captions = built_in_captions(2 * CAPTIONS)
    with torch.inference_mode():
        mixed = measured(captions[:CAPTIONS])
        short = measured([caption for caption in captions if not is_long(caption)][:CAPTIONS])
    gates = torch.sigmoid((mixed - RECOMMENDED_BIAS) / RECOMMENDED_TEMPERATURE)
    assert gates.mean() < 0.01 and (gates > 0.5).double().mean() < 0.002
    assert mixed.std() < 0.95 * short.std()
