"""No harm: what loaded concepts do to prompts that do not name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perfusion_pack.demo.world.things import THINGS

from .cache import OutOfTimeError
from .jobs import Cell, Job
from .methods import METHODS
from .painting import load_latents, paint, save_latents
from .plan import AS_USED, PERFUSION, Size, Variant
from .plan import METHODS as VARIANTS
from .prompts import plain_captions
from .single import TENSORS, Use, artefact, settings_of
from .workbench import Workbench

VERSION = 1


@dataclass(frozen=True)
class Loaded:
    """Concepts of one method loaded together at one knob, in so many captions that name none of them."""

    variant: Variant
    uses: tuple[Use, ...]
    knob: float
    captions: int

    def facts(self, bench: Workbench) -> dict[str, Any]:
        method = METHODS[self.variant.method]
        return {
            "trainings": [use.training_facts(bench) for use in self.uses],
            "applied as": [method.name, method.applied], "knob": self.knob, **base_facts(bench, self.captions),
        }  # fmt: skip

    def reading_facts(self, bench: Workbench) -> dict[str, Any]:
        return {"painting": self.facts(bench), "weights": bench.hashes, "version": VERSION}

    def job(self, bench: Workbench) -> Job:
        cells = [
            *(use.training_cell(bench) for use in self.uses),
            Cell("harm-base", base_facts(bench, self.captions), TENSORS),
            Cell("harm", self.facts(bench), TENSORS),
            Cell("harm-reading", self.reading_facts(bench)),
        ]
        return Job(cells, partial(_differences, bench, self))


def base_facts(bench: Workbench, captions: int) -> dict[str, Any]:
    """The facts of the base model's paintings."""
    return {"captions": plain_captions(captions), "kept": "float32", **bench.sampling}


def plan(size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]) -> list[Loaded]:
    """Every row: Perfusion local at the bias at which it is reported with all captions, then at the others, then the
    other methods as their users run them."""
    wanted = []
    for variant in sorted(VARIANTS, key=lambda variant: variant.label != PERFUSION):
        if variant.label != PERFUSION and variant.kind != AS_USED:
            continue
        knob, settings = knobs.get(variant.label, variant.knobs[0]), settings_of(variant, size, tuned)
        biases = [bias for bias in size.harm_biases if bias != knob] if variant.label == PERFUSION else []
        for bias, count in product((knob, *biases), size.harm_counts):
            if count > len(size.measured) and variant.label != PERFUSION:
                continue  # it would take trainings that nothing else needs
            few = variant.label != PERFUSION or bias != knob
            captions = size.harm_few_captions if few else size.harm_captions
            uses = tuple(Use(variant, settings, name, seed, bias) for name, seed in _things(size, count))
            wanted.append(Loaded(variant, uses, bias, captions))
    return wanted


def jobs(bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]) -> list[Job]:
    """The jobs of all rows.  They paint and keep float32: rounding would hide how little an almost closed gate does."""
    return [row.job(bench.exact()) for row in plan(size, tuned, knobs)]


def measure(
    bench: Workbench, size: Size, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for each method, number of loaded concepts and knob that is measured, and what is missing."""
    rows, missing = [], []
    for one in plan(size, tuned, knobs):
        try:
            with bench.cache.closed():
                found = _differences(bench.exact(), one)
        except OutOfTimeError:
            missing.append(f"{one.variant.label} at {one.knob:g}, {len(one.uses)} loaded")
            continue
        row = {"method": one.variant.label, "loaded": len(one.uses), "knob": one.knob, "captions": one.captions}
        rows.append({**row, **found})
    return rows, missing


def _things(size: Size, count: int) -> list[tuple[str, int]]:
    """`count` things with their training seeds: every thing once, then again with the next seed."""
    names = size.things if count <= len(size.things) else tuple(THINGS)
    return [(names[index % len(names)], index // len(names)) for index in range(count)]


def _differences(bench: Workbench, loaded: Loaded) -> dict[str, float]:
    method, captions = METHODS[loaded.variant.method], plain_captions(loaded.captions)

    def make(path: Path) -> None:
        # A thing that is loaded twice has another word the second time.
        learned = [
            method.renamed(artefact(bench, use), f"<{use.thing}{use.seed or ''}>") for use in loaded.uses
        ]  # fmt: skip
        with method.altered():
            model, clip = method.apply(bench, learned, loaded.knob)
            save_latents(path, paint(bench, model, clip, captions), torch.float32)

    def make_base(path: Path) -> None:
        save_latents(path, paint(bench, bench.model, bench.clip, captions), torch.float32)

    @torch.no_grad()
    def compare() -> dict[str, float]:
        base_file = bench.cache.file("harm-base", base_facts(bench, loaded.captions), TENSORS, make_base)
        base = load_latents(base_file).float()
        painted = load_latents(bench.cache.file("harm", loaded.facts(bench), TENSORS, make)).float()
        pictures, base_pictures = bench.decode(painted), bench.decode(base)
        read = zip(bench.recogniser.read(pictures), bench.recogniser.read(base_pictures), strict=True)
        return {
            "attributes equal": float(np.mean([_attributes(one) == _attributes(other) for one, other in read])),
            "pixel difference": float((pictures - base_pictures).abs().mean()),
            "latent difference": float((painted - base).norm() / base.norm()),
            "largest latent difference": float((painted - base).abs().max()),
        }

    return bench.cache.numbers("harm-reading", loaded.reading_facts(bench), compare)


def _attributes(reading: Any) -> tuple:
    names = ("category", "colour", "pattern", "background", "accessory", "second", "second_colour")
    return tuple(getattr(reading, name) for name in names)
