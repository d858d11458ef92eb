"""Writes what the finished pieces say: results.md, CSV files, plots of likeness over obedience and contact sheets.

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

from . import ablation, budget, choice, harm, plot, reading, several, sheets, single
from .answers import answers
from .cache import OutOfTimeError
from .conditions import PICTURES, training_pictures
from .curves import Samples, best_rows, curve, lock_rows, row
from .plan import AS_USED, LOCK_BIASES, METHODS, MISSING, PERFUSION, WITH_MASKS, Size
from .prompts import real_pictures
from .schedule import STAGES
from .tables import markdown, write_csv
from .workbench import Workbench

SHEETS, SHEET_PROMPTS = 2, 8  # of each condition
AXES = ("obedience (superclass word = 1)", "likeness (first of 200 and alike, real pictures = 1)")


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
        best: dict[str, Sequence[Mapping[str, Any]]] = {}
        locks: list[dict[str, Any]] = []
        if "methods" in self.stages:
            for condition in size.conditions:
                samples = self._methods(condition, tuned)
                if samples:
                    best[condition] = self.rows[f"best-{_file(condition)}"]
                    locks += lock_rows(condition, samples)
            self._locks(locks)
            self._bars(best)
            for thing in size.measured:
                self._training_pictures(thing)
        if "several" in self.stages:
            found = several.measure(bench, size, tuned, knobs)
            about = "Shares of pictures; real pictures test the judge.  The demo model has never seen two of one kind."
            self._part("Several things in one picture", "several", found, about)
        if "harm" in self.stages:
            about = "Prompts that name no loaded thing, against the base model."
            self._part("No harm", "harm", harm.measure(bench, size, tuned, knobs), about)
        if "ablations" in self.stages:
            about = f"On {', '.join(ablation.things_of(size))}, which chose the default; each row at its best bias."
            self._part("Ablations of Perfusion", "ablations", ablation.measure(bench, size, tuned), about)
        several_rows, harm_rows = (self.rows.get(name, ()) for name in ("several", "harm"))
        whole = None if self.missing else budget.table(bench, size, self.stages)[-1][budget.WHOLE]
        answered = answers(best, several_rows, harm_rows, locks, knobs[PERFUSION], whole)
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

    def _methods(self, condition: str, tuned: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Samples]:
        """The tables, the plot and the sheets of a condition: of the things that all its methods have seen, with as
        many seeds as all of these have.  Returns the samples of each method."""
        wanted, seeds = self.size.measured, self.size.seeds_of(condition)
        things = choice.measured_things(self.bench, self.size, tuned, wanted, 1, condition)
        self.missing += [f"methods on {thing}, {condition}" for thing in wanted if thing not in things]
        if not things:
            return {}
        enough = [
            count
            for count in range(1, seeds + 1)
            if choice.measured_things(self.bench, self.size, tuned, things, count, condition) == things
        ][-1]
        self.missing += [f"methods, {condition}: seeds {enough} to {seeds - 1}"] * (enough < seeds)
        samples = {
            variant.label: choice.curve_samples(self.bench, self.size, variant, tuned, things, enough, condition)
            for variant in single.compared_under(self.size, condition)
        }
        about = f"{', '.join(things)}: {self.size.prompts_of(condition)} prompts, {enough} seeds."
        title, file = f"Pictures: {condition}", _file(condition)
        found = best_rows(samples)
        self._table(f"{title}, each method at its best knob", f"best-{file}", found,
                    f"{about}  The knob of each thing was chosen on the others.")  # fmt: skip
        scores = single.Scores(self.bench, self.size)
        with self.bench.cache.closed():
            real = np.stack([scores.of_real_pictures(thing, condition, enough) for thing in things])
        rows = [row(label, knob, of_knob[knob]) for label, of_knob in samples.items() for knob in of_knob]
        self._table(f"{title}, all knobs", f"methods-{file}", [row("real pictures", "", real), *rows], about)
        lines = {
            label: [plot.Dot(p.obedience, p.likeness, f"{p.knob:g}") for p in sorted(points, key=lambda p: p.knob)]
            for label, points in ((label, curve(of_knob)) for label, of_knob in samples.items())
        }
        plot.draw(self.folder / f"pareto-{file}.png", lines, title, *AXES, hollow=WITH_MASKS)
        self._doubtful(condition, things, samples)
        for thing in things[:SHEETS]:
            self._sheet(thing, condition, found, tuned)
        return samples

    def _locks(self, rows: Sequence[Mapping[str, Any]]) -> None:
        about = (
            f"Form lockable at bias {LOCK_BIASES[0]:g}, one training used at every lock; gained: against lock 0 on the"
            " same things and seeds."
        )
        self._table("What the lock costs and buys", "lock", rows, about)
        lines: dict[str, list[plot.Dot]] = defaultdict(list)
        for line in rows:
            dot = plot.Dot(line["obedience"].value, line["likeness"].value, f"{line['lock']:g}")
            lines[line["condition"]].append(dot)
        if lines:
            plot.draw(self.folder / "lock.png", lines, "The lock of the keys, 0 to 1", *AXES)

    def _bars(self, best: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """The harmonic means of the methods as users run them, and of Perfusion's own row, under each condition."""
        groups = {
            condition: {
                str(line["method"]).replace(PERFUSION, "Perfusion"): line["harmonic mean"]
                for line in lines
                if line["method"] == PERFUSION or line["kind"] == AS_USED
            }
            for condition, lines in best.items()
        }
        if groups:
            plot.bars(
                self.folder / "methods.png", groups, "Likeness and obedience, harmonic mean, after pictures that are"
            )

    def _doubtful(self, condition: str, things: Sequence[str], samples: Mapping[str, Samples]) -> None:
        """Where more than half of the pictures come first, but the body's colour is three times as far off as a real
        picture's: there the rank and the eye disagree (benchmarks/instrument.md)."""
        body, first = map(single.COLUMNS.index, (single.COLOURS[0], "first of 200"))
        rows = []
        for label, of_knob in samples.items():
            for knob, found in of_knob.items():
                for thing, means in zip(things, found.mean(axis=1), strict=True):
                    real = reading.ceiling(self.bench, thing)["off"][0]
                    if real is not None and means[first] > 0.5 and means[body] > 3 * real:
                        off = {"off: body": float(means[body]), "of real pictures": real}
                        facts = {"method": label, "knob": knob, "thing": thing}
                        rows.append({**facts, "first of 200": means[first], **off})
        title = f"Pictures: {condition}, where rank and colours disagree"
        self._table(title, f"doubtful-{_file(condition)}", rows, "Look at the sheets.")

    def _training_pictures(self, thing: str) -> None:
        rows = {name: training_pictures(thing, name)[0] for name in self.size.conditions}
        headings = [f"{thing}, picture {number + 1}" for number in range(PICTURES)]
        sheets.sheet(self.folder / f"training-{thing}.jpg", rows, headings)

    def _sheet(
        self, thing: str, condition: str, best: Sequence[Mapping[str, Any]], tuned: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """One row for each method, at the knob that was chosen most often."""
        count, shown = self.size.prompts_of(condition), min(SHEET_PROMPTS, self.size.prompts_of(condition))
        chosen = {line["method"]: float(str(line["knob"]).split()[0].rstrip(",")) for line in best[1:]}
        paintings = {}
        for variant in single.compared_under(self.size, condition):
            settings = single.settings_of(variant, self.size, tuned)
            use = single.Use(variant, settings, thing, 0, chosen.get(variant.label, variant.knobs[0]), condition)
            try:
                with self.bench.cache.closed():
                    painted = single.latents(self.bench, use, count, 0)
            except OutOfTimeError:  # the paintings are in the cache of another machine
                self.missing.append(
                    f"the contact sheet of {thing}, {condition}: it needs the paintings of {variant.label}"
                )
                return
            paintings[f"{variant.label} ({use.knob:g})"] = painted[:shown]
        prompts = use.prompts(count)[:shown]
        rows = {"real pictures": self.bench.reconstruct(real_pictures(THINGS[thing].placed(), prompts, 0))}
        rows |= {label: self.bench.decode(painted) for label, painted in paintings.items()}
        headings = [prompt.text.format(f"<{thing}>") for prompt in prompts]
        sheets.sheet(self.folder / f"sheet-{_file(condition)}-{thing}.jpg", rows, headings)

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
            f" {', '.join(size.held_out)}; {size.training_seeds} trainings;"
            f" {self.bench.sampler}, {self.bench.sampling_steps} steps, CFG {self.bench.cfg:g}, {self.bench.precision};"
            f" no harm is painted in float32. Machine: {device}, {os.cpu_count()} cores."
            f" Commits: {', '.join(sorted({note['commit'] for note in notes}))}."
            " Intervals: 95 %, bootstrap over things and seeds."
            + ("" if size.strict else " Likeness is not by the strict instrument: the run only proves that all runs.")
        )
        return "\n\n".join(["# Quality benchmark", about, markdown(spent), markdown(chosen)])


def _file(condition: str) -> str:
    return condition.replace(" ", "-")
