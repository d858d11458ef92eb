"""Writes what the finished pieces say: results.md, CSV files, the Pareto plots and contact sheets.

Nothing is trained or painted for it, so it may be written at any time; what is missing is named."""

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

from . import ablation, choice, harm, plot, several, sheets, single
from .answers import answers
from .cache import OutOfTimeError
from .curves import Samples, comparison, curve, row
from .plan import GLOBAL, LOCKED, METHODS, MISSING, PERFUSION, SUPERCLASS, Size
from .prompts import real_pictures, single_prompts
from .schedule import STAGES
from .tables import markdown, write_csv
from .workbench import Workbench

SHEET_PROMPTS = 8


class Report:
    """The results so far, and the text made of them."""

    def __init__(self, bench: Workbench, size: Size, stages: Sequence[str], folder: Path) -> None:
        self.bench, self.size, self.stages, self.folder = bench, size, stages, folder
        self.parts: list[str] = []
        self.missing = [f"the experiment `{stage}` (not asked for)" for stage in STAGES if stage not in stages]
        self.rows: dict[str, Sequence[Mapping[str, Any]]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str) -> Path:
        """Write everything that is measured; returns the path of results.md."""
        bench, size = self.bench, self.size
        tuned, tuning_table = choice.tuned(bench, size)
        knobs = choice.knobs(bench, size, tuned)
        if "tune" in self.stages:
            self._table("Tuning", "tuning", tuning_table, f"Settings, by halving: rounds on {size.tune_rounds} tuning"
                        " things; the best row of a method in its last round is used.")  # fmt: skip
            self._name_missing_settings(tuning_table)
        if "methods" in self.stages:
            for group in size.groups:
                self._methods(group, knobs, tuned)
        if "ablations" in self.stages:
            about = f"On {', '.join(size.ablation_things)}, each row at its best bias of those tried."
            self._part("Ablations of Perfusion", "ablations", ablation.measure(bench, size, tuned), about)
            about = f"On {', '.join(size.one_shot_things)}. Bar: at most .15 behind."
            self._part("One picture", "one-shot", ablation.one_shot(bench, size, tuned), about)
        if "several" in self.stages:
            found = several.measure(bench, size, tuned, knobs)
            self._part("Several things in one picture", "several", found, "Shares of pictures; bar: pairs .80 right.")
        if "harm" in self.stages:
            about = "Prompts that name no loaded thing, against the base model; bar: attributes equal in .99."
            self._part("No harm", "harm", harm.measure(bench, size, tuned, knobs), about)
            self._closing_gate()
        compared = self.rows.get("comparison-held-out") or self.rows.get("comparison-tuning", ())
        others = (self.rows.get(name, ()) for name in ("several", "harm", "one-shot"))
        answered = answers(compared, *others, bias=knobs[PERFUSION])
        path = self.folder / "results.md"
        lacking = "\n".join(f"- {line}" for line in (*self.missing, *MISSING))
        text = [self._head(name, tuned, knobs), "## The bars", markdown(answered), "## Not measured", lacking]
        path.write_text("\n\n".join([*text, *self.parts]) + "\n", encoding="utf-8")
        return path

    def _name_missing_settings(self, table: Sequence[Mapping[str, Any]]) -> None:
        measured = {(line["method"], line["round"], line["settings"]) for line in table}
        for variant in METHODS:
            for number in range(len(self.size.tune_rounds)):
                for one in choice.candidates(self.bench, self.size, variant, number):
                    if (variant.label, number + 1, str(dict(one))) not in measured:
                        self.missing.append(f"tuning of {variant.label}, round {number + 1}: {dict(one)}")

    def _closing_gate(self) -> None:
        own = sorted((r for r in self.rows["harm"] if r["method"] == PERFUSION), key=lambda r: r["knob"])
        lines = {
            f"{count} loaded": [plot.Dot(r["knob"], r["latent difference"]) for r in own if r["loaded"] == count]
            for count in self.size.harm_counts
        }
        if own:
            plot.draw(self.folder / "closing-gate.png", lines, "Prompts that name no loaded thing: what the gate leaks",
                      "bias of the gate", "difference of the latents, relative to the base model's")  # fmt: skip

    def _methods(self, group: str, knobs: Mapping[str, float], tuned: Mapping[str, Mapping[str, Any]]) -> None:
        """The tables, the plot and the sheets of a group: of its things that all methods have seen, with as many seeds
        as all of these have."""
        wanted, seeds = self.size.groups[group]
        things = choice.measured_things(self.bench, self.size, tuned, wanted, 1)
        self.missing += [f"methods on the {group} thing {thing}" for thing in wanted if thing not in things]
        if not things:
            return
        enough = [
            count
            for count in range(1, seeds + 1)
            if choice.measured_things(self.bench, self.size, tuned, things, count) == things
        ]
        self.missing += [f"methods on {group} things: seeds {enough[-1]} to {seeds - 1}"] * (enough[-1] < seeds)
        samples = {
            variant.label: choice.curve_samples(self.bench, self.size, variant, tuned, things, enough[-1])
            for variant in METHODS
        }
        file = group.replace(" ", "-")
        rows = [row(label, knob, found[knob]) for label, found in samples.items() for knob in found]
        about = f"{', '.join(things)}: {self.size.prompts} prompts, {enough[-1]} seeds."
        self._table(f"Methods, {group} things", f"methods-{file}", rows, about)
        curves = {label: curve(found) for label, found in samples.items()}
        lines = {
            label: [plot.Dot(p.obedience, p.likeness, f"{p.knob:g}") for p in sorted(points, key=lambda p: p.knob)]
            for label, points in curves.items()
        }
        plot.draw(self.folder / f"pareto-{file}.png", lines, f"Methods on {group} things",
                  "obedience (superclass word = 1)", "likeness (superclass word = 0, real pictures = 1)")  # fmt: skip
        compared = [
            comparison(label, curves, knobs, samples)
            for label in samples
            if label not in (PERFUSION, GLOBAL, LOCKED, SUPERCLASS)
        ]
        about = (
            "Perfusion local against each method: lead in the best harmonic mean (both at the knob chosen on the"
            " tuning things; paired interval), and the smallest lead in likeness where obedience is .85 to 1."
        )
        self._table(f"The comparison, {group} things", f"comparison-{file}", compared, about)
        self._doubtful(group, things, samples)
        for thing in things if group == "held out" else things[:4]:
            self._sheet(thing, knobs, tuned)

    def _doubtful(self, group: str, things: Sequence[str], samples: Mapping[str, Samples]) -> None:
        rows = [
            {"method": label, "knob": knob, "thing": thing, "look": likeness, "colours": colours}
            for label, of_knob in samples.items()
            for knob, found in of_knob.items()
            for thing, (likeness, colours) in zip(things, found[:, :, 1:3].mean(axis=1), strict=True)
            if abs(likeness - colours) > 0.35
        ]
        title = f"Where look and colours disagree by more than .35, {group} things"
        self._table(title, f"doubtful-{group.replace(' ', '-')}", rows, "Look at the sheets.")

    def _sheet(self, thing: str, knobs: Mapping[str, float], tuned: Mapping[str, Mapping[str, Any]]) -> None:
        prompts = single_prompts(THINGS[thing].category, self.size.prompts)
        shown = min(SHEET_PROMPTS, len(prompts))
        placed = THINGS[thing].placed()
        paintings = {}
        for variant in METHODS:
            settings = single.settings_of(variant, self.size, tuned)
            use = single.Use(variant, settings, thing, 0, knobs[variant.label])
            try:
                with self.bench.cache.closed():
                    painted = single.latents(self.bench, use, self.size.prompts, 0)
            except OutOfTimeError:  # the paintings are in the cache of another machine
                self.missing.append(f"the contact sheet of {thing}: it needs the paintings of {variant.label}")
                return
            paintings[f"{variant.label} ({use.knob:g})"] = painted[:shown]
        rows = {"real pictures": self.bench.reconstruct(real_pictures(placed, prompts[:shown], 0))}
        rows |= {label: self.bench.decode(painted) for label, painted in paintings.items()}
        sheets.sheet(self.folder / f"sheet-{thing}.jpg", rows, [p.text.format(f"<{thing}>") for p in prompts[:shown]])

    def _part(self, title: str, name: str, found: tuple[Sequence[Mapping[str, Any]], list[str]], about: str) -> None:
        self._table(title, name, found[0], about)
        self.missing += found[1]

    def _table(self, title: str, name: str, rows: Sequence[Mapping[str, Any]], about: str) -> None:
        self.rows[name] = rows
        write_csv(self.folder / f"{name}.csv", rows)
        self.parts.append("\n\n".join(filter(None, (f"## {title}", about, markdown(rows)))))

    def _head(self, name: str, tuned: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, float]) -> str:
        notes, size = list(self.bench.cache.notes()), self.size
        seconds: dict[str, list[float]] = defaultdict(list)
        for note in notes:
            seconds[note["kind"]].append(note["core seconds"])
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
        spent = [
            {"piece": kind, "made": len(all_of), "core seconds each": float(np.mean(all_of)),
             "core hours": sum(all_of) / 3600}
            for kind, all_of in seconds.items()
        ]  # fmt: skip
        chosen = [
            {"method": label, "settings chosen by tuning": str(dict(best)), "knob chosen": knobs[label]}
            for label, best in tuned.items()
        ]
        about = (
            f"Size: {name}; things for tuning {', '.join(size.tuning)} ({size.tuning_seeds} seeds), held out"
            f" {', '.join(size.held_out)} ({size.seeds} seeds); {size.prompts} prompts,"
            f" {size.training_seeds} trainings;"
            f" {self.bench.sampler}, {self.bench.sampling_steps} steps, CFG {self.bench.cfg:g}, {self.bench.precision};"
            f" no harm is painted in float32. Machine: {device}, {os.cpu_count()} cores."
            f" Commits: {', '.join(sorted({note['commit'] for note in notes}))}."
            " Intervals: 95 %, bootstrap over things and seeds."
        )
        return "\n\n".join(["# Quality benchmark", about, markdown(spent), markdown(chosen)])
