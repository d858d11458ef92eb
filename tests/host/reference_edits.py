"""Edits by explicit attention maps, as the paper writes them, for a model that is run step by step."""

from __future__ import annotations

import torch
from edits import Edited, drawn
from torch import Tensor


def by_maps(edited: Edited, negative: list) -> Tensor:
    """The latents of an unedited MODEL whose attention is written out, with the maps of its rows exchanged."""
    plan, sampling = edited.plan, edited.base.get_model_object("model_sampling")
    edits = plan.edits

    def is_open(window, sigma):
        start, end = (float(sampling.percent_to_sigma(percent)) for percent in window)
        return window[0] < window[1] and end <= sigma <= start

    def split(tensor, heads):
        return tensor.unflatten(-1, (heads, -1)).transpose(1, 2).double()

    def attention(q, k, v, options, of_text):
        heads, sigma = options["n_heads"], float(options["sigmas"][0])
        queries, keys, values = (split(t, heads) for t in (q, k, v))
        maps = (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(dim=-1)
        size = len(q) // len(options["cond_or_uncond"])
        for chunk, half in enumerate(options["cond_or_uncond"]):
            for row in range(chunk * size, (chunk + 1) * size) if half == 0 else ():
                number = (row - chunk * size) % plan.rows
                if number == 0:
                    continue
                edit, source = edits[number - 1], row - number
                if of_text:
                    times = k.shape[1] // plan.length
                    alignment = edit.alignment.repeated(times, times)
                    takes = torch.tensor([is_open(window, sigma) for window in edit.windows] * times)
                    moved = maps[source] @ alignment.shares.double()
                    taken = torch.where(takes & alignment.has_source, moved, maps[row])
                    maps[row] = taken * edit.weights.repeat(times)
                elif is_open(edit.own, sigma):
                    maps[row] = maps[source]
        return (maps @ values).transpose(1, 2).flatten(2).to(q.dtype)

    model = edited.base.clone()
    for block in [("input", 1), ("input", 3), ("middle", 0), *(("output", n) for n in range(4))]:
        model.set_model_attn1_replace(lambda q, k, v, options: attention(q, k, v, options, False), *block)
        model.set_model_attn2_replace(lambda q, k, v, options: attention(q, k, v, options, True), *block)
    return drawn(model, edited.positive, negative, edited.latent)
