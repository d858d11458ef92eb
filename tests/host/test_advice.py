"""One home for every number: what templates, tooltips, help pages and the README tell users is what the code says."""

from __future__ import annotations

import csv
import importlib
import json
import re

import pytest
from perfusion_pack.nodes import advice
from perfusion_pack.nodes.advice import WHOLE_PROMPT_LOCK_BIAS
from perfusion_pack.nodes.training_settings import (
    AS_STANDARD,
    CUSTOM,
    DEFAULTS,
    LOCKED_VALUE_RATE,
    OF_CHECKPOINTS,
    OF_DEMO,
    PRESETS,
    SETTING_OF,
    training_settings,
)
from perfusion_pack.perfusion_core.edit import OWN_KEYS
from test_nodes import HELP, REPOSITORY, SCHEMAS, TEMPLATES, TRAINER, inputs_of

MOST_SENTENCES, MOST_CHARACTERS = 2, 240

TOOLTIPS = {
    f"{node_id}.{getattr(one, 'id', None) or one.display_name}": one.tooltip
    for node_id, schema in SCHEMAS.items()
    for one in [*inputs_of(schema), *schema.outputs]
}
NOTES = {
    path.stem.split(" ", 2)[2]: node["widgets_values"][0]  # without its number
    for path in TEMPLATES
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]
    if node["type"] == "MarkdownNote"
}
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in HELP.glob("*.md")}
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# A tooltip speaks of its input, so the input's name belongs to it.
TEXTS = {name: f"{name.rpartition('.')[2]}: {text}" for name, text in TOOLTIPS.items()}
TEXTS |= {**NOTES, **PAGES, "README": README}

# What a text may say of a number after each of these words, wherever users read it.
BIASES = {
    *(advice.BIAS, advice.BIAS_FOR_LIKENESS, advice.BIAS_FOR_PROMPT, advice.BIAS_OPEN_TO_OTHERS, advice.BIAS_SHUT),
    *(advice.BIAS_NUDGE, *advice.SWEPT_BIASES),
    *(advice.LOWEST_BIAS, advice.HIGHEST_BIAS, DEFAULTS.bias),
}
ALLOWED = {
    "bias": BIASES,
    "temperature": {advice.TEMPERATURE, advice.LEAKING_TEMPERATURE, DEFAULTS.temperature},
    "cfg": {advice.DEMO_CFG, advice.SD15_CFG, advice.SDXL_CFG},
    "learning_rate": {
        *(DEFAULTS.value_learning_rate, LOCKED_VALUE_RATE, DEFAULTS.word_learning_rate),
        *(of[f"relative_{kind}_rate"] for of in (OF_DEMO, OF_CHECKPOINTS) for kind in ("value", "word")),
    },
}
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?!\d|\.\d)")


def passages(text: str) -> list[str]:
    """The paragraphs, items and table rows of a text; code that is set apart is left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#>]|\d+\.))", text)]


@pytest.mark.parametrize("name", TOOLTIPS)
def test_a_tooltip_is_two_short_sentences_at_most(name):
    tooltip = TOOLTIPS[name]
    assert len(re.findall(r"[.!?](?=\s|$)", tooltip)) <= MOST_SENTENCES, tooltip
    assert len(tooltip) <= MOST_CHARACTERS, f"{len(tooltip)} characters: {tooltip}"


def faults(text: str) -> list[str]:
    """Passages that name a bias, a temperature, ... beside a decimal number that is none of those advised for it."""
    found = []
    for passage in passages(text):
        named = {word for word in ALLOWED if word in passage.lower().replace(" ", "_")}
        allowed = set().union(*(ALLOWED[word] for word in named))
        if "bias" in named and re.search(r"(?i)\bglobal\b|whole prompt", passage):
            allowed = {WHOLE_PROMPT_LOCK_BIAS}
        if named and not {float(number) for number in DECIMAL.findall(passage)} <= allowed:
            found.append(passage)
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_says_no_other_number_than_the_code(name):
    assert not faults(TEXTS[name])


@pytest.mark.parametrize(
    "text",
    [
        "3. Turn **bias** and run again. Lower (0.45) looks more like the toy, higher (1) obeys the prompt more.",
        "Lower (0.6) looks more like the toy, a higher bias (0.8) obeys more.",
        "likeness; use a bias of 0.4 with **key_lock** *global*.",
        "| `temperature` | start at 0.2 |",
        "Start with 0.01 as the learning rate of the values.",
    ],
)
def test_the_rule_sees_a_number_of_its_own(text):
    assert faults(text)


def test_the_knob_is_told_everywhere_with_the_same_numbers():
    for name in ("PerfusionLoadConcept", "PerfusionLoadConcept.bias", "README"):
        told = TEXTS[name]
        assert f"{advice.BIAS:g}" in told, name
        assert re.search(rf"(?i)lower \({advice.BIAS_FOR_LIKENESS:g}\)", told), name
        assert re.search(rf"(?i)higher \({advice.BIAS_FOR_PROMPT:g}\)", told), name
    note = NOTES["First picture"]
    assert f"Lower ({advice.BIAS_FOR_LIKENESS:g})" in note and f"higher ({advice.BIAS_FOR_PROMPT:g})" in note


def test_the_lock_of_the_whole_prompt_has_one_bias():
    for name in ("PerfusionConceptGate", "PerfusionConceptGate.key_lock", "Two concepts in one picture"):
        assert f"{WHOLE_PROMPT_LOCK_BIAS:g}" in TEXTS[name], name


def test_the_sweep_is_told_as_it_is_set():
    default = SCHEMAS["PerfusionGateSweep"].inputs[1].default
    assert default == advice.in_words(advice.SWEPT_BIASES)
    assert default in TOOLTIPS["PerfusionGateSweep.biases"] and f"`{default}`" in PAGES["PerfusionGateSweep"]


def test_the_defaults_of_the_nodes_are_those_that_are_advised():
    loader = {one.id: one for one in SCHEMAS["PerfusionLoadConcept"].inputs}
    of_the_file = (advice.BIAS_OF_THE_FILE, advice.TEMPERATURE_OF_THE_FILE)
    assert (loader["bias"].default, loader["temperature"].default) == of_the_file
    assert advice.BIAS_OF_THE_FILE < advice.LOWEST_BIAS, "every number that a saved workflow may hold stays that number"
    assert advice.TEMPERATURE_OF_THE_FILE < 0.01, "the lowest that a saved workflow may hold"
    assert TRAINER["sample_cfg"].default == advice.CFG_OF_THE_FAMILY < 1, "every CFG of a saved workflow stays that CFG"
    assert TRAINER["preview_every"].default == advice.PREVIEW_EVERY
    assert TRAINER["keep_every"].default == advice.KEEP_EVERY


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_the_widgets_of_a_template_hold_what_is_advised(path):
    bias = advice.BIAS_OF_A_STYLE if path.stem.endswith("Paint in a style") else advice.BIAS
    expected = {
        "PerfusionLoadConcept": (1, [bias, advice.TEMPERATURE]),
        "KSampler": (3, [advice.DEMO_CFG]),
        "PerfusionTrainConcept": (7, [advice.CFG_OF_THE_FAMILY]),
    }
    seen = 0
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if node["type"] in expected:
            first, values = expected[node["type"]]
            assert node["widgets_values"][first : first + len(values)] == values, node["type"]
            seen += 1
        if node["type"] == "PerfusionGateSweep":
            biases = [float(bias) for bias in node["widgets_values"][0].split(",")]
            assert set(biases) <= set(advice.SWEPT_BIASES)
    assert seen


def test_the_tour_and_the_templates_are_made_with_these_numbers():
    prompts = importlib.import_module("perfusion_pack.demo.making.prompts")
    assert (prompts.BIAS, prompts.TEMPERATURE, prompts.SAMPLER["cfg"]) == (
        *(advice.BIAS, advice.TEMPERATURE, advice.DEMO_CFG),
    )
    assert prompts.STYLE_BIAS == advice.BIAS_OF_A_STYLE
    replaced = importlib.import_module("perfusion_pack.demo.making.replacing_prompts").replace_prompt()
    assert replaced["described"]["inputs"]["self_end"] == advice.SELF_END_FOR_ONE_KIND
    assert replaced["edit"]["inputs"]["real_end"] == advice.REAL_END_FOR_A_CONCEPT
    assert prompts.sweep_prompt()["sweep"]["inputs"]["biases"] == advice.in_words(advice.SWEPT_BIASES)


def test_the_settings_of_an_edit_are_told_once():
    page, cross, own = PAGES["PerfusionEditPrompt"], advice.EDIT.cross[1], advice.EDIT.own[1]
    around = (
        f"`blend_end` {advice.BLEND_END_AROUND:g}, `threshold` {advice.THRESHOLD_AROUND:g}, `softness`"
        f" {advice.SOFTNESS_AROUND:g}"
    )
    for edit, first, second, also in (
        ("another thing, a concept's word", cross, own, ""),
        ("another colour or pattern", cross, advice.SELF_END_FOR_COLOUR, ""),
        ("another background", 0, own, around),
        ("something added to the thing", cross, own, f"`threshold` {advice.THRESHOLD_FOR_ADDITION:g}"),
    ):
        text = item(page, edit)
        assert text.startswith(f"`cross_end` {first:g}, `self_end` {second:g};") and also in text
    (given,) = [one for one in passages(page) if "**Replace a subject**" in one]
    assert f"`self_end` {advice.SELF_END_FOR_ONE_KIND:g}" in given
    assert f"`real_end` {advice.REAL_END_FOR_A_CONCEPT:g}" in given
    (style,) = [one for one in passages(PAGES["PerfusionTrainConcept"]) if "**Paint in a style**" in one]
    assert f"bias of {advice.BIAS_OF_A_STYLE:g}" in style
    described = PAGES["PerfusionDescribeEdit"]
    assert f"`blend_end` {advice.BLEND_END_AROUND:g}" in described
    assert f"`threshold` {advice.THRESHOLD_AROUND:g} and `softness` {advice.SOFTNESS_AROUND:g}" in described


def rows(page: str, columns: int) -> list[list[str]]:
    """The rows of all tables of so many columns."""
    lines = [line.strip().strip("|").split("|") for line in page.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if len(line) == columns]


def item(page: str, name: str) -> str:
    """What the one item of a page's lists says that begins with the name; tables are too wide for the help panel."""
    (text,) = [one.partition(": ")[2] for one in passages(page) if one.startswith(f"- {name}: ")]
    return text


@pytest.mark.parametrize("preset", PRESETS)
def test_the_help_page_tells_the_settings_of_a_preset(preset):
    text = item(PAGES["PerfusionTrainConcept"], f"**{preset}**")
    told = re.fullmatch(
        r"(\d+) steps of (\d+) pictures(.*), (own|locked) keys \(`(\w+)`\), value rate ([\d.]+): (.*)", text
    )
    assert told, text
    settings = training_settings(preset, seed=0, flip=True, validate_every=25, custom={})
    pictures = settings.batch_size * settings.accumulation
    parts = f" ({settings.batch_size if preset == 'Low memory' else settings.accumulation} x"
    steps, shown, parted, keys, form, rate, use = told.groups()
    assert (steps, shown) == (f"{settings.steps}", f"{pictures}")
    assert settings.accumulation == 1 or parts in parted
    assert (form, keys) == (settings.form, "own" if settings.form in OWN_KEYS else "locked")
    assert rate == f"{settings.relative_value_rate:g}"
    seen, usual = settings.steps * pictures, DEFAULTS.steps * DEFAULTS.batch_size * DEFAULTS.accumulation
    for factor in re.findall(r"(\d\.\d) times", use):
        assert round(seen / usual, 1) == float(factor)


def test_all_presets_are_in_the_tooltip_and_on_the_pages():
    measured = (REPOSITORY / "benchmarks" / "presets.md").read_text(encoding="utf-8")
    for preset in [*PRESETS, CUSTOM]:
        assert preset in TRAINER["preset"].tooltip and f"**{preset}**" in PAGES["PerfusionTrainConcept"]
        assert preset in measured or preset == CUSTOM


@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name, setting in SETTING_OF.items()])
def test_the_help_page_tells_where_a_setting_starts(name, setting):
    usual = AS_STANDARD if setting == "form" else getattr(DEFAULTS, setting)
    text = item(PAGES["PerfusionTrainConcept"], f"`{name}`")
    assert re.match(rf"`?{usual if isinstance(usual, str) else f'{usual:g}'}`?(?!\d|\.\d)", text), text


def measured(name: str) -> list[dict[str, str]]:
    """The rows of a table of the quality benchmark."""
    with (REPOSITORY / "benchmarks" / "quality" / "results" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shown(row: dict[str, str], column: str = "harmonic mean") -> str:
    return f"{float(row[column]):.2f}"


def test_the_figures_of_the_readme_are_those_of_the_quality_benchmark():
    told = " ".join(README.split())
    at_bias = {row["method"]: row for row in measured("methods-varied") if row["knob"] == f"{advice.BIAS:g}"}
    ours, locked = at_bias["perfusion local"], at_bias["perfusion local, lock 1"]
    assert f"likeness {shown(ours, 'likeness')}, obedience {shown(ours, 'obedience')}" in told
    assert f"mean {shown(locked)} instead of {shown(ours)}" in told

    several = measured("several")

    def right(loaded: str, method: str, knob: float | None = None) -> str:
        """At a knob, or at the best one."""
        rows = [row for row in several if (row["loaded"], row["method"]) == (loaded, method)]
        return max(shown(row, "right") for row in rows if knob is None or float(row["knob"]) == knob)

    kinds, kind = "two of different kinds", "two of one kind"
    both, same = (right(loaded, "perfusion local", advice.BIAS) for loaded in (kinds, kind))
    word, lora = right(kinds, "textual inversion"), right(kinds, "host LoRA")
    assert f"both right in {both} (textual inversion {word}, LoRAs {lora})" in told
    word, lora = right(kind, "textual inversion"), right(kind, "host LoRA")
    assert f"two of one kind in {same} ({word}, {lora})" in told

    entangled = {row["method"]: row for row in measured("best-entangled") if row["kind"] != "with our masks"}
    rivals = [row for row in entangled.values() if row["kind"] == "as users run it"]
    assert f"({shown(entangled['perfusion local'])}, next {max(shown(row) for row in rivals)})" in told


def test_the_readme_starts_real_models_with_what_is_advised_and_estimated():
    (cfg,) = [row for row in rows(README, 3) if row[0].endswith("`cfg`")]
    assert cfg[1:] == [f"{advice.SD15_CFG:g}", f"{advice.SDXL_CFG:g}"]
    page = (REPOSITORY / "benchmarks" / "memory.md").read_text(encoding="utf-8")
    estimated = {(row[0].split(",")[0], row[2]): row for row in rows(page, 7) if row[1] == "fp16"}
    memory, time = ([row for row in rows(README, 3) if row[0].startswith(name)][0] for name in ("memory", "time"))
    (preset,) = [row for row in rows(README, 3) if row[0] == "`preset`"]
    assert preset[1:] == ["Standard"] * 2
    for model, column in (("SD1.5", 1), ("SDXL", 2)):
        size, unit = memory[column].split()
        row = estimated[model, size]
        assert unit == "GB" and float(row[5]) <= float(size)
        assert time[column].split()[0] == f"{float(row[6]):.0f}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_the_note_says_what_to_set_for_a_real_checkpoint(path):
    note = NOTES[path.stem.split(" ", 2)[2]]
    types = {node["type"] for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    trains = "PerfusionLoadPictures" in types
    if "KSampler" in types or trains:
        sizes = f"512 x 512 and **cfg** {advice.SD15_CFG:g} for SD1.5, 1024 x 1024 and {advice.SDXL_CFG:g} for SDXL"
        assert sizes in note
    # A sweep gives each run a bias of its own.
    if {"KSampler", "PerfusionLoadConcept"} <= types and "PerfusionGateSweep" not in types or trains:
        assert f"**bias** {advice.BIAS_OF_THE_FILE:g} (the file's own)" in note
