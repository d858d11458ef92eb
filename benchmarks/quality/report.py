"""Runs the experiments and writes what they say: results.md, CSV files, the Pareto plot and contact sheets."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perfusion_pack.demo.world.things import THINGS

from . import harm, plot, several, sheets, single
from .answers import answers
from .measures import Interval, Point, best_point, bootstrap, harmonic_mean, likeness_at, smallest_lead
from .plan import ABLATIONS, GLOBAL, METHODS, MISSING, ONE_SHOT, PERFUSION, SUPERCLASS, Size, Variant
from .prompts import real_pictures, single_prompts
from .tables import markdown, write_csv
from .workbench import Workbench

STAGES = ("tune", "methods", "ablations", "several", "harm")
SHEET_PROMPTS = 8

Samples = dict[float, np.ndarray]  # by knob: [things, seeds, single.COLUMNS]


class Report:
    """The results so far, and the text made of them."""

    def __init__(self, bench: Workbench, size: Size, stages: Sequence[str], folder: Path) -> None:
        self.bench, self.size, self.stages, self.folder = bench, size, stages, folder
        self.scores = single.Scores(bench, size.prompts, size.seeds)
        self.parts: list[str] = []
        self.rows: dict[str, Sequence[Mapping[str, Any]]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str) -> Path:
        """Run the stages and write everything; returns the path of results.md."""
        tuned, tuning_table = single.tune(self.bench, self.size)
        if "tune" in self.stages:
            self._table("Tuning", "tuning", tuning_table, "On tuning things alone; the best row of a method is used.")
        knobs: dict[str, float] = {}
        if {"methods", "several", "harm"} & set(self.stages):
            self._prepare(METHODS, tuned, self.size.things)
            methods = {variant: self._samples(variant, tuned) for variant in METHODS}
            knobs = {variant.label: self._best_knob(samples) for variant, samples in methods.items()}
            self._methods(methods, knobs, tuned)
        if "ablations" in self.stages:
            self._ablations(tuned)
        if "several" in self.stages:
            rows = several.measure(self.bench, self.size, tuned, knobs)
            self._table("Several things in one picture", "several", rows, "Shares of pictures; bar: pairs .80 right.")
        if "harm" in self.stages:
            rows = harm.measure(self.bench, self.size, tuned, knobs)
            about = "Prompts that name no loaded thing, against the base model; bar: attributes equal in .99."
            self._table("No harm", "harm", rows, about)
            self._closing_gate(rows)
        compared = self.rows.get("comparison-held-out", self.rows.get("comparison-tuning", ()))
        others = (self.rows.get(name, ()) for name in ("several", "harm", "one-shot"))
        answered = answers(compared, *others, bias=self._nearest_bias(knobs))
        path = self.folder / "results.md"
        text = [self._head(name, tuned), "## The bars", markdown(answered), *self.parts]
        path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
        return path

    def _nearest_bias(self, knobs: Mapping[str, float]) -> float | None:
        """The bias of the harm experiment nearest to the one at which Perfusion is reported."""
        if PERFUSION not in knobs:
            return None
        return min(self.size.harm_biases, key=lambda bias: abs(bias - knobs[PERFUSION]))

    def _closing_gate(self, rows: Sequence[Mapping[str, Any]]) -> None:
        own = [row for row in rows if row["method"] == PERFUSION]
        lines = {
            f"{count} loaded": [plot.Dot(r["knob"], r["latent difference"]) for r in own if r["loaded"] == count]
            for count in self.size.harm_counts
        }
        plot.draw(self.folder / "closing-gate.png", lines, "Prompts that name no loaded thing: what the gate leaks",
                  "bias of the gate", "difference of the latents, relative to the base model's")  # fmt: skip

    def _prepare(
        self, variants: Sequence[Variant], tuned: Mapping[str, Mapping[str, Any]], things: Sequence[str]
    ) -> None:
        uses: list[single.Use] = []
        for variant in variants:
            knobs = variant.knobs[: self.size.max_knobs]
            settings = single.settings_of(variant, self.size, tuned)
            uses += single.uses_of(variant, settings, things, knobs, self.size.training_seeds)
        self.scores.prepare(uses)

    def _samples(
        self, variant: Variant, tuned: Mapping[str, Mapping[str, Any]], things: Sequence[str] | None = None
    ) -> Samples:
        settings, trainings = single.settings_of(variant, self.size, tuned), self.size.training_seeds
        return {
            knob: self.scores.samples(variant, settings, things or self.size.things, knob, trainings)
            for knob in variant.knobs[: self.size.max_knobs]
        }

    def _best_knob(self, samples: Samples) -> float:
        tuning = len(self.size.tuning)
        points = [single.point_of(found[:tuning].mean(axis=(0, 1)), knob) for knob, found in samples.items()]
        return best_point(points).knob

    def _groups(self) -> dict[str, slice]:
        tuning = len(self.size.tuning)
        held_out = {"held out": slice(tuning, None)} if self.size.held_out else {}
        return {**held_out, "tuning": slice(None, tuning)}

    def _methods(self, methods: Mapping[Variant, Samples], knobs: Mapping[str, float], tuned: Mapping) -> None:
        for group, things in self._groups().items():
            rows = [
                row(variant.label, knob, samples[knob][things])
                for variant, samples in methods.items()
                for knob in samples
            ]
            self._table(f"Methods, {group} things", f"methods-{group.replace(' ', '-')}", rows, "")
            curves = {
                variant.label: curve({knob: found[things] for knob, found in samples.items()})
                for variant, samples in methods.items()
            }
            lines = {
                label: [plot.Dot(p.obedience, p.likeness, f"{p.knob:g}") for p in sorted(points, key=lambda p: p.knob)]
                for label, points in curves.items()
            }
            plot.draw(
                self.folder / f"pareto-{group.replace(' ', '-')}.png",
                lines,
                f"Methods on {group} things",
                "obedience (superclass word = 1)",
                "likeness (superclass word = 0, real pictures = 1)",
            )
            compared = [
                comparison(variant.label, curves, knobs, methods, things)
                for variant in methods
                if variant.label not in (PERFUSION, GLOBAL, SUPERCLASS)
            ]
            about = (
                "Perfusion local against each method: lead in the best harmonic mean (both at the knob chosen on the"
                " tuning things; paired interval), and the smallest lead in likeness where obedience is .85 to 1."
            )
            self._table(f"The comparison, {group} things", f"comparison-{group.replace(' ', '-')}", compared, about)
        doubtful = [
            {"method": variant.label, "knob": knob, "thing": thing, "look": likeness, "colours": colours}
            for variant, samples in methods.items()
            for knob, found in samples.items()
            for thing, (likeness, colours) in zip(self.size.things, found[:, :, 1:3].mean(axis=1), strict=True)
            if abs(likeness - colours) > 0.35
        ]
        self._table("Where look and colours disagree by more than .35", "doubtful", doubtful, "Look at the sheets.")
        for thing in self.size.things[:4] + self.size.held_out:
            self._sheet(thing, knobs, tuned)

    def _ablations(self, tuned: Mapping[str, Mapping[str, Any]]) -> None:
        base = next(variant for variant in METHODS if variant.label == PERFUSION)
        things = self.size.ablation_things
        base_samples = self._samples(base, tuned, things)
        knob = best_point(curve(base_samples)).knob
        wanted = [one for one in ABLATIONS if self.size.ablations is None or one.label in self.size.ablations]
        self._prepare([*wanted, *ONE_SHOT], tuned, things)
        rows = []
        for variant in (base, *wanted):
            samples = base_samples if variant is base else self._samples(variant, tuned, things)
            best = best_point(curve(samples)).knob
            both = np.concatenate([samples[best], base_samples[knob]], axis=2)
            rows.append({**row(variant.label, best, samples[best]), "against the default": lead(both)})
        about = (
            f"On {', '.join(things)}, each row at its best bias of those tried.\n\nNot measured: "
            + "; ".join(MISSING)
            + "."
        )
        self._table("Ablations of Perfusion", "ablations", rows, about)
        full = curve(base_samples)
        rows = []
        for variant in ONE_SHOT:
            samples = self._samples(variant, tuned, things)
            for knob, found in samples.items():
                point = single.point_of(found.mean(axis=(0, 1)), knob)
                five = likeness_at(full, point.obedience) if variant.method == base.method else None
                behind = "" if five is None else five - point.likeness
                rows.append({**row(variant.label, knob, found), "behind 5 pictures at equal obedience": behind})
        self._table("One picture", "one-shot", rows, "Bar: at most .15 behind.")

    def _sheet(self, thing: str, knobs: Mapping[str, float], tuned: Mapping[str, Mapping[str, Any]]) -> None:
        prompts = single_prompts(THINGS[thing].category, self.size.prompts)
        shown = min(SHEET_PROMPTS, len(prompts))
        placed = THINGS[thing].placed()
        rows = {"real pictures": self.bench.reconstruct(real_pictures(placed, prompts[:shown], 0))}
        for variant in METHODS:
            settings = single.settings_of(variant, self.size, tuned)
            use = single.Use(variant, settings, thing, 0, knobs[variant.label])
            painted, _ = single.latents(self.bench, use, self.size.prompts, self.size.seeds)
            rows[f"{variant.label} ({use.knob:g})"] = self.bench.decode(painted[:shown])
        sheets.sheet(self.folder / f"sheet-{thing}.jpg", rows, [p.text.format(f"<{thing}>") for p in prompts[:shown]])

    def _table(self, title: str, name: str, rows: Sequence[Mapping[str, Any]], about: str) -> None:
        self.rows[name] = rows
        write_csv(self.folder / f"{name}.csv", rows)
        self.parts.append("\n\n".join(filter(None, (f"## {title}", about, markdown(rows)))))

    def _head(self, name: str, tuned: Mapping[str, Mapping[str, Any]]) -> str:
        notes = list(self.bench.cache.notes())
        seconds: dict[str, list[float]] = defaultdict(list)
        for note in notes:
            seconds[note["kind"]].append(note["seconds"])
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
        spent = [
            {"piece": kind, "made": len(all_of), "seconds each": float(np.mean(all_of)), "hours": sum(all_of) / 3600}
            for kind, all_of in seconds.items()
        ]
        chosen = [{"method": label, "settings chosen by tuning": str(dict(best))} for label, best in tuned.items()]
        about = (
            f"Size: {name}; things for tuning {', '.join(self.size.tuning)}, held out {', '.join(self.size.held_out)};"
            f" {self.size.prompts} prompts x {self.size.seeds} seeds x {self.size.training_seeds} trainings;"
            f" {self.bench.sampling_steps} sampling steps, CFG {self.bench.cfg:g}."
            f" Machine: {device}, {os.cpu_count()} cores."
            f" Commits: {', '.join(sorted({note['commit'] for note in notes}))}."
            " Intervals: 95 %, bootstrap over things and seeds."
        )
        return "\n\n".join(["# Quality benchmark", about, markdown(spent), markdown(chosen)])


def row(label: str, knob: float, samples: np.ndarray) -> dict[str, Any]:
    """A line of a table from [things, seeds, COLUMNS]."""
    columns = {name: bootstrap(samples[:, :, [i]], lambda m: m[..., 0]) for i, name in enumerate(single.COLUMNS[:2])}
    others = {name: float(samples[:, :, i].mean()) for i, name in enumerate(single.COLUMNS) if i >= 2}
    together = bootstrap(samples[:, :, :2], lambda means: harmonic_mean(means[..., 0], means[..., 1]))
    return {"method": label, "knob": knob, **columns, "harmonic mean": together, **others}


def curve(samples: Samples) -> list[Point]:
    """The points of a method, over all things in the samples."""
    return [single.point_of(found.mean(axis=(0, 1)), knob) for knob, found in samples.items()]


def lead(both: np.ndarray) -> Interval:
    """By how much the harmonic mean of the first of two methods side by side is above that of the second."""
    other = len(single.COLUMNS)
    return bootstrap(
        both[:, :, [0, 1, other, other + 1]],
        lambda m: harmonic_mean(m[..., 0], m[..., 1]) - harmonic_mean(m[..., 2], m[..., 3]),
    )


def comparison(
    label: str, curves: Mapping[str, list[Point]], knobs: Mapping[str, float], methods: Mapping[Variant, Samples],
    things: slice,
) -> dict[str, Any]:  # fmt: skip
    """Perfusion local against one method."""
    samples = {variant.label: found for variant, found in methods.items()}
    mine, theirs = samples[PERFUSION][knobs[PERFUSION]][things], samples[label][knobs[label]][things]
    least = smallest_lead(curves[PERFUSION], curves[label])
    return {
        "method": label,
        "lead in harmonic mean": lead(np.concatenate([mine, theirs], axis=2)),
        "smallest lead of the curve": "never as obedient" if least is None else least,
    }
