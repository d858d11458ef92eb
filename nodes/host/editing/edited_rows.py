"""Which rows of a call of the model are a source and its edits.

The host tiles a conditioning of N rows over the latents: [picture 0 source, picture 0 edit 1, ..., picture 1 source,
...], and joins conditionings to one call as it likes (both halves of guidance or one, areas, time ranges, a second
guider). Neither the order of the halves nor the ids of entries tell which rows those are: of an area the host makes a
copy for the other half. What a model is told of the prompt stays right, so the number of each row goes that way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from comfy.conds import CONDRegular
from torch import Tensor

from .edited_prompts import PLAN_KEY, EditPlan

ROW_KEY = "perfusion_prompt_edit_row"


class Pair(NamedTuple):
    """The rows of an edit in a call, and those of its source, as indices on the device of the call."""

    edited: Tensor
    source: Tensor


def is_of(entry: Mapping[str, Any], plan: EditPlan) -> bool:
    """Whether an entry of a guider's conditioning is the plan's; none is that another node made longer or shorter."""
    encoding = entry.get("cross_attn")
    shape = None if encoding is None else encoding.shape[:2]
    return entry.get(PLAN_KEY) == plan.name and shape == (plan.rows, plan.length)


def number_rows(entries: Iterable[dict[str, Any]], plan: EditPlan) -> None:
    """Give every entry of a guider's conditioning the numbers of its rows: 1 .. N in those of the plan, 0 in others,
    which need it too to share a call.  The dicts are the sampler's own copies."""
    for entry in entries:
        numbers = torch.arange(1, plan.rows + 1) if is_of(entry, plan) else torch.zeros(1, dtype=torch.long)
        entry["model_conds"] = {**entry["model_conds"], ROW_KEY: CONDRegular(numbers[:, None])}


def edited_pairs(numbers: Tensor, edits: int, device: torch.device) -> list[Pair]:
    """For each edit the rows of a call with these numbers, [B, 1]."""
    places = ((numbers.flatten() == edit + 2).nonzero().flatten() for edit in range(edits))
    return [Pair(rows.to(device), (rows - edit - 1).to(device)) for edit, rows in enumerate(places)]
