"""No harm: what loaded concepts do to prompts that do not name them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perfusion_pack.demo.world.things import THINGS

from .cache import finish
from .methods import METHODS
from .painting import load_latents, paint, save_latents
from .plan import METHODS as VARIANTS
from .plan import PERFUSION, SUPERCLASS, Size, Variant
from .prompts import plain_captions
from .single import Use, artefact, settings_of
from .workbench import Workbench

VERSION = 1


def measure(
    bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One row for each method, number of loaded concepts and knob; Perfusion local at every bias (the gate's curve)."""
    wanted = []
    for variant in VARIANTS:
        if variant.label == SUPERCLASS:
            continue
        for count in size.harm_counts:
            if count > len(size.things) and variant.label != PERFUSION:
                continue  # it would take trainings that nothing else needs
            biases = size.harm_biases if variant.label == PERFUSION else (knobs.get(variant.label, variant.knobs[0]),)
            wanted += [(variant, count, knob) for knob in biases]
    tasks = [partial(_differences, bench, size, tuned, *one) for one in wanted]
    return [
        {"method": variant.label, "loaded": count, "knob": knob, **found}
        for (variant, count, knob), found in zip(wanted, finish(tasks), strict=True)
    ]


def _uses(size: Size, variant: Variant, settings: Mapping[str, Any], knob: float, count: int) -> list[tuple[Use, str]]:
    """`count` uses with their words: every thing once, then again with the next training seed under another word."""
    names = size.things if count <= len(size.things) else tuple(THINGS)
    return [
        (
            Use(variant, settings, names[index % len(names)], index // len(names), knob),
            f"<{names[index % len(names)]}{index // len(names) or ''}>",
        )
        for index in range(count)
    ]


def _differences(
    bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], variant: Variant, count: int, knob: float
) -> dict[str, float]:
    method, captions = METHODS[variant.method], plain_captions(size.harm_captions)
    loaded = _uses(size, variant, settings_of(variant, size, tuned), knob, count)
    painting = {"captions": captions, "steps": bench.sampling_steps, "cfg": bench.cfg, "weights": bench.model_hashes}
    facts = {
        "trainings": [use.training_facts(bench) for use, _ in loaded], "applied as": [method.name, method.version],
        "knob": knob, **painting,
    }  # fmt: skip

    def make(path: Path) -> None:
        learned = [method.renamed(artefact(bench, use), word) for use, word in loaded]
        with method.altered():
            model, clip = method.apply(bench, learned, knob)
            save_latents(path, paint(bench, model, clip, captions, seeds=1))

    def make_base(path: Path) -> None:
        save_latents(path, paint(bench, bench.model, bench.clip, captions, seeds=1))

    base = load_latents(bench.cache.file("harm-base", painting, ".safetensors", make_base)).float()
    painted = load_latents(bench.cache.file("harm", facts, ".safetensors", make)).float()

    def compare() -> dict[str, float]:
        pictures, base_pictures = bench.decode(painted), bench.decode(base)
        read = zip(bench.recogniser.read(pictures), bench.recogniser.read(base_pictures), strict=True)
        return {
            "attributes equal": float(np.mean([_attributes(one) == _attributes(other) for one, other in read])),
            "pixel difference": float((pictures - base_pictures).abs().mean()),
            "latent difference": float((painted - base).norm() / base.norm()),
            "largest latent difference": float((painted - base).abs().max()),
        }

    return bench.cache.numbers(
        "harm-reading", {"painting": facts, "weights": bench.hashes, "version": VERSION}, torch.no_grad()(compare)
    )


def _attributes(reading: Any) -> tuple:
    names = ("category", "colour", "pattern", "background", "accessory", "second", "second_colour")
    return tuple(getattr(reading, name) for name in names)
