"""How faithful Prompt-to-Prompt is: is the edit done, and is everything else kept?

    python benchmarks/editing.py --results DIR                     all kinds, 30 held-out pairs each, and the tables
    python benchmarks/editing.py --results DIR --kinds colour --pairs 6

Pairs of prompts of the demo world that leave open what the edit shall keep, since a prompt that states everything keeps
it anyway.  Each pair is one run of the host's sampler, with a row for the source, one for the new prompt at the same
seed without an edit ("plain"), and one for each way to edit; the recogniser reads all of them.

    done      the edit is in the picture
    kept      category, colour, background, accessory and second object are read as in the source, but for what the edit
              asks; its place has moved by less than 6 pixels; and where the look shall stay, its cosine is at least 0.9
    outside   PSNR between edit and source outside of both bodies, grown by 4 pixels, in dB (median)

What is read is kept (--results), and a table can be had at any time.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_pack import open_pack
from PIL import Image
from torch import Tensor
from torch.nn import functional

STEPS, CFG = 20, 3.0
MOVED, SAME_LOOK, GROWN = 6.0, 0.9, 4
FIRST_SEED = 500_000  # of the pairs; none was looked at while settings were chosen
FIRST_REAL = 800_000  # of real pictures, for what is advised came from those at 500 000
READ = ("category", "colour", "background", "accessory", "second", "second_colour")


@dataclass(frozen=True)
class Pair:
    """Two prompts at a seed.  asked: what must be read in the edit, and may differ from the source.

    source: what must be read in the source for the pair to count.  thing: a concept that the edit paints.
    """

    before: str
    after: str
    seed: int
    asked: Mapping[str, str]
    source: Mapping[str, str]
    words: tuple[str, str] = ("", "")
    same_look: bool = False
    thing: str = ""


@dataclass
class Bench:
    """The demo model, with the shipped concepts on it, and the recogniser."""

    model: Any
    clip: Any
    vae: Any
    recogniser: Any
    negative: Any
    looks: dict[str, Any] = field(default_factory=dict)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1."""
        return self.vae.decode(latents).movedim(-1, 1).clamp(0, 1)


def open_bench() -> Bench:
    open_pack()
    import comfy.utils
    from perfusion_pack.demo.load import load_demo_model
    from perfusion_pack.demo.making.recogniser import load_recogniser
    from perfusion_pack.nodes.host.gate.patch import apply_concepts
    from perfusion_pack.nodes.host.text.words import add_words
    from perfusion_pack.perfusion_core.concept import GatedConcept
    from perfusion_pack.perfusion_core.concept_file import load_concept

    comfy.utils.set_progress_bar_enabled(False)
    folder = Path(__file__).resolve().parents[1] / "demo" / "concepts"
    with torch.inference_mode():
        model, clip, vae = load_demo_model()
        stack = tuple(
            GatedConcept(concept, bias=concept.bias, temperature=concept.temperature)
            for concept in (load_concept(folder / f"demo_{name}.safetensors") for name in ("bruno", "hugsy", "sippy"))
        )
        clip = add_words(clip, stack)
        negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        return Bench(apply_concepts(model, stack), clip, vae, load_recogniser(), negative)


# The pairs ------------------------------------------------------------------------------------------------------------


def make_pair(kind: str, seed: int) -> Pair:
    """The pair of a kind at a seed."""
    from perfusion_pack.demo.world.backgrounds import BACKGROUNDS, PHRASES
    from perfusion_pack.demo.world.captions import with_article
    from perfusion_pack.demo.world.colours import NAMES
    from perfusion_pack.demo.world.objects import ACCESSORIES
    from perfusion_pack.demo.world.shapes import CATEGORIES

    rng = np.random.default_rng([seed, *kind.encode()])
    one, other = (str(name) for name in rng.choice(CATEGORIES, 2, replace=False))
    colour, new_colour = (str(name) for name in rng.choice(NAMES, 2, replace=False))
    place, new_place = (str(name) for name in rng.choice(BACKGROUNDS, 2, replace=False))
    accessory = str(rng.choice([name for name in ACCESSORIES if name != "none"]))
    if kind == "category":
        texts = (with_article(f"a photo of a {colour} {name}") for name in (one, other))
        return Pair(*texts, seed, {"category": other}, {"category": one, "colour": colour}, (one, other))
    if kind == "colour":
        texts = (with_article(f"a photo of a {name} {one}") for name in (colour, new_colour))
        return Pair(*texts, seed, {"colour": new_colour}, {"category": one, "colour": colour}, (one, one))
    if kind == "background":
        texts = (f"a photo of a {one} {PHRASES[name]}" for name in (place, new_place))
        source = {"category": one, "background": place}
        return Pair(*texts, seed, {"background": new_place}, source, (one, one), same_look=True)
    if kind == "accessory":
        source = {"category": one, "accessory": "none"}
        texts = (f"a photo of a {one}", f"a photo of a {one} with a {accessory}")
        return Pair(*texts, seed, {"accessory": accessory}, source, (accessory, accessory), same_look=True)
    if kind == "second object":
        source = {"category": one, "second": "none"}
        asked = {"second": other, "second_colour": colour}
        texts = (f"a photo of a {one}", with_article(f"a photo of a {one} beside a {colour} {other}"))
        return Pair(*texts, seed, asked, source, (other, other), same_look=True)
    if kind == "concept":
        thing, category = (("hugsy", "teddy"), ("sippy", "cup"))[seed % 2]
        text = (
            f"a photo of a {{}} with a {accessory} {PHRASES[place]}"
            if seed % 4 < 2
            else f"a photo of a {{}} {PHRASES[place]}"
        )
        asked = {"background": place} | ({"accessory": accessory} if seed % 4 < 2 else {})
        source = {"category": category} | asked
        texts, words = (text.format(category), text.format(f"<{thing}>")), (category, f"<{thing}>")
        return Pair(*texts, seed, {"category": category, "colour": "", **asked}, source, words, thing=thing)
    if kind == "real":
        source = {"category": one, "colour": colour}
        asked = {"colour": new_colour} if seed % 2 else {"category": other}
        after = f"a photo of a {asked.get('colour', colour)} {asked.get('category', one)}"
        texts = (with_article(text) for text in (f"a photo of a {colour} {one}", after))
        return Pair(*texts, seed, asked, source, (one, one) if seed % 2 else (one, other))
    if kind == "weights":
        text = "a photo of a teddy with a hat"
        return Pair(text, text, seed, {"accessory": "hat"}, {"category": "teddy"}, ("hat", "hat"))
    raise ValueError(f"There is no kind {kind!r}.")


KINDS = ("category", "colour", "background", "accessory", "second object", "concept", "real", "weights")
WEIGHTS = (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0)
IMG2IMG = (0.6, 0.7, 0.8)


# The ways to edit -----------------------------------------------------------------------------------------------------


def ways(kind: str, pair: Pair) -> dict[str, Any]:
    """The edits that are compared, by name: none, maps alone, the node's defaults, and what is advised for the kind."""
    from perfusion_pack.perfusion_core.prompt_edit import LocalBlend, PromptEdit, WordSetting

    if kind == "weights":
        return {f"hat = {w:g}": PromptEdit("", (0.0, 1.0), words=(WordSetting("hat", w),), blend=None) for w in WEIGHTS}

    def edit(cross: float, own: float, blend: Any = None) -> Any:
        return PromptEdit(pair.after, (0.0, cross), (0.0, own), blend=blend)

    thing = (pair.words[0],)
    advised = {
        "category": edit(0.4, 0.6, LocalBlend()),
        "colour": edit(0.4, 0.6, LocalBlend(thing)),
        "background": edit(0.0, 0.4, LocalBlend(thing, True, threshold=0.7, softness=0.3, window=(0.2, 0.8))),
        "accessory": edit(0.4, 0.4, LocalBlend(thing, threshold=0.7)),
        "second object": edit(0.4, 0.6, LocalBlend(thing)),
        "concept": edit(0.4, 0.6, LocalBlend()),
        # A colour leaves every outline, another kind has its own.
        "real": edit(0.4, 1.0 if "colour" in pair.asked else 0.6, LocalBlend(tuple(dict.fromkeys(pair.words)))),
    }
    maps, default = edit(0.4, 0.4), PromptEdit(pair.after)
    return {"plain": edit(0.0, 0.0), "maps alone": maps, "default": default, "advised": advised[kind]}


# Painting and reading -------------------------------------------------------------------------------------------------


def paint(bench: Bench, pair: Pair, edits: Mapping[str, Any], given: Tensor | None = None) -> dict[str, Tensor]:
    """The source and its edits of one run, pictures [3, H, W] by name; given: latents of the source, [1, 4, 16, 16]."""
    import comfy.sample
    from perfusion_pack.nodes.host.editing.edit_masks import EditMasks
    from perfusion_pack.nodes.host.editing.edit_patch import apply_edits
    from perfusion_pack.nodes.host.editing.edit_run import RealPicture
    from perfusion_pack.nodes.host.editing.edited_latents import in_rows
    from perfusion_pack.nodes.host.editing.edited_prompts import plan_edits

    with torch.inference_mode():
        plan, positive = plan_edits(bench.clip, pair.before, list(edits.values()))
        model = apply_edits(bench.model, plan, EditMasks(), None if given is None else RealPicture())
        latent = in_rows({"samples": torch.zeros(1, 4, 16, 16) if given is None else given}, plan.rows)
        noise = comfy.sample.prepare_noise(latent["samples"], pair.seed, latent["batch_index"])
        latents = comfy.sample.sample(
            model, noise, STEPS, CFG, "euler", "normal", positive, bench.negative, latent["samples"], disable_pbar=True,
            seed=pair.seed,
        )  # fmt: skip
    return dict(zip(("source", *edits), bench.decode(latents), strict=True))


def paint_real(bench: Bench, pair: Pair, edits: Mapping[str, Any]) -> dict[str, Tensor]:
    """The same of a picture that the demo world draws, and what img2img makes of it with the new prompt.

    "named" is what is advised, where both prompts also name the hat or scarf that the thing wears."""
    import comfy.sample
    from perfusion_pack.demo.world.looks import plain_look
    from perfusion_pack.demo.world.scenes import Placed, random_scene, render

    rng = np.random.default_rng([pair.seed, 7])
    category, colour = pair.source["category"], pair.source["colour"]
    scene = random_scene(rng, Placed(category, plain_look(colour, "plain", rng), colour, "plain"))
    drawn = torch.from_numpy(np.asarray(render(scene)[0]).astype(np.float32) / 255)
    with torch.inference_mode():
        given = bench.vae.encode(drawn[None])
        positive = bench.clip.encode_from_tokens_scheduled(bench.clip.tokenize(pair.after))
        others = [
            comfy.sample.sample(
                bench.model, comfy.sample.prepare_noise(given, pair.seed), STEPS, CFG, "euler", "normal", positive,
                bench.negative, given, denoise=denoise, disable_pbar=True, seed=pair.seed,
            )
            for denoise in IMG2IMG
        ]  # fmt: skip
        through = bench.decode(given)[0]
    made = paint(bench, pair, {name: edit for name, edit in edits.items() if name != "plain"}, given)
    made["named"] = made["advised"]
    if scene.accessory != "none":
        worn = f" with a {scene.accessory}"
        named = replace(pair, before=pair.before + worn, after=pair.after + worn)
        made["named"] = paint(bench, named, {"named": ways("real", named)["advised"]}, given)["named"]
    error = float((made["source"] - through).square().mean())
    logging.info("source against the autoencoder's own picture: %.0f dB", -10 * np.log10(max(error, 1e-15)))
    names = (f"img2img {denoise:g}" for denoise in IMG2IMG)
    return made | dict(zip(names, bench.decode(torch.cat(others)), strict=True))


def read(bench: Bench, pair: Pair, pictures: Mapping[str, Tensor]) -> dict[str, dict[str, float]] | None:
    """What is measured of each edit; None where the source is not what its prompt asks."""
    names, shown = [*pictures], torch.stack([*pictures.values()])
    readings = dict(zip(names, bench.recogniser.read(shown), strict=True))
    if any(getattr(readings["source"], name) != value for name, value in pair.source.items()):
        return None
    masks = dict(zip(names, bench.recogniser.body_mask(shown) > 0.5, strict=True))
    looks = dict(zip(names, bench.recogniser.embed(shown), strict=True))
    index = bench.recogniser.attributes["accessory"].index("hat")
    with torch.no_grad():
        chances = bench.recogniser(shown)[0]["accessory"].softmax(-1)[:, index]
    hats = dict(zip(names, chances.tolist(), strict=True))
    rows = {}
    for name in names[1:]:
        reading, source = readings[name], readings["source"]
        same = all(getattr(reading, one) == getattr(source, one) for one in READ if one not in pair.asked)
        moved = distance(masks[name], masks["source"])
        look = float(looks[name] @ looks["source"])
        asked = [getattr(reading, one) == value for one, value in pair.asked.items() if value]
        row = {
            "done": all(asked),
            "kept": same and moved < MOVED and (look >= SAME_LOOK or not pair.same_look),
            "attributes": same, "moved": moved, "look": look,
            "outside": outside(pictures[name], pictures["source"], masks[name] | masks["source"]),
            "iou": float((masks[name] & masks["source"]).sum() / (masks[name] | masks["source"]).sum().clamp(min=1)),
        }  # fmt: skip
        row["hat"] = hats[name]
        if pair.thing:
            row["done"] = bench.recogniser.nearest(pictures[name][None], candidates(bench, pair))[0] == pair.thing
            row["scene"] = float(np.mean(asked))
            row["near"] = moved < MOVED
        rows[name] = {key: float(value) for key, value in row.items()}
    return rows


def distance(mask: Tensor, other: Tensor) -> float:
    """Between the centres of two masks [H, W], in pixels; infinite where one is empty."""
    if not mask.any() or not other.any():
        return float("inf")
    return float((mask.nonzero().float().mean(0) - other.nonzero().float().mean(0)).norm())


def outside(picture: Tensor, other: Tensor, bodies: Tensor) -> float:
    """PSNR outside of the bodies, in dB, at most 100."""
    grown = functional.max_pool2d(bodies[None, None].float(), 2 * GROWN + 1, stride=1, padding=GROWN)[0, 0] > 0
    error = (picture - other)[:, ~grown].square().mean()
    return float(-10 * torch.log10(error.clamp(min=1e-10))) if bool((~grown).any()) else float("nan")


def candidates(bench: Bench, pair: Pair) -> dict[str, Tensor]:
    """Looks of all things and of plain ones of the category, through the autoencoder."""
    from perfusion_pack.demo.making.candidates import plain_tensors, thing_tensors
    from perfusion_pack.demo.world.colours import NAMES
    from perfusion_pack.demo.world.things import THINGS

    category = pair.source["category"]
    if category not in bench.looks:
        shown = {name: thing_tensors(name, 3, seed=2)[0] for name in THINGS}
        shown |= {f"{colour} {category}": plain_tensors(category, colour, count=2) for colour in NAMES}
        with torch.inference_mode():
            through = {name: bench.decode(bench.vae.encode(one.movedim(1, -1))) for name, one in shown.items()}
        bench.looks[category] = bench.recogniser.candidates(through)
    return bench.looks[category]


# Tables ---------------------------------------------------------------------------------------------------------------


def measure(bench: Bench, kind: str, count: int, results: Path) -> list[dict]:
    """The rows of so many pairs of a kind; those in the results are not painted again."""
    file = results / f"{kind.replace(' ', '_')}.jsonl"
    known = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    seed = known[-1]["seed"] + 1 if known else FIRST_REAL if kind == "real" else FIRST_SEED
    while sum(one["rows"] is not None for one in known) < count:
        pair = make_pair(kind, seed)
        pictures = (paint_real if kind == "real" else paint)(bench, pair, ways(kind, pair))
        rows = read(bench, pair, pictures)
        known.append({"seed": seed, "before": pair.before, "after": pair.after, "rows": rows})
        with file.open("a") as out:
            out.write(json.dumps(known[-1]) + "\n")
        if rows is not None:
            strip = (torch.cat([*pictures.values()], dim=-1).movedim(0, -1) * 255).round().to(torch.uint8)
            Image.fromarray(strip.numpy()).save(results / f"{file.stem}-{seed}.png")
        seed += 1
    return [one["rows"] for one in known if one["rows"] is not None][:count]


def table(kind: str, rows: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    columns = {
        "concept": ["done", "scene", "near", "iou", "outside"],
        "weights": ["hat", "done", "kept", "outside"],
    }.get(kind, ["done", "kept", "attributes", "outside"])
    lines = [f"| {kind} ({len(rows)} pairs) | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in rows[0] if rows else ():
        values = [
            np.nanmedian([row[name][key] for row in rows])
            if key == "outside"
            else np.mean([row[name][key] for row in rows])
            for key in columns
        ]
        numbers = (
            f"{value:.1f} dB" if key == "outside" else f"{value:.2f}"
            for key, value in zip(columns, values, strict=True)
        )
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--results", type=Path, required=True, help="what was read, and a strip of pictures for each pair"
    )
    parser.add_argument("--kinds", nargs="+", default=[*KINDS], choices=KINDS)
    parser.add_argument("--pairs", type=int, default=30)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    arguments.results.mkdir(parents=True, exist_ok=True)
    bench = open_bench()
    for count in range(1, arguments.pairs + 1):  # all kinds in turn, so that any moment has something of each
        for kind in arguments.kinds:
            measure(bench, kind, count, arguments.results)
    for kind in arguments.kinds:
        print("\n" + table(kind, measure(bench, kind, arguments.pairs, arguments.results)))


if __name__ == "__main__":
    main()
