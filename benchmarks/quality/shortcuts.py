"""Does cheaper painting read worse?  Prints, for several samplers and precisions, what is read in the same prompts.

    python benchmarks/quality/shortcuts.py --pictures 96

The first row is how the demo model is measured elsewhere.  Half of the prompts are the benchmark's own with the plain
superclass word, half are captions that state everything.  bfloat16 is in order where nearly all readings are equal to
those of float32 with the same sampler; fewer steps are in order where as much of what was asked is found."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if not __package__:  # started as a script: the folder's modules are a package named quality
    __package__ = "quality"
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import quality  # noqa: F401

import numpy as np
import torch

from .cache import Cache
from .tables import markdown
from .workbench import open_workbench, start_host

# precision, sampler, steps, and the row to which readings are compared
COMPARED = (
    ("float32", "euler", 20, 0), ("bfloat16", "euler", 20, 0), ("float32", "euler", 12, 0),
    ("bfloat16", "euler", 12, 2), ("bfloat16", "euler", 10, 2), ("float32", "dpmpp_2m", 12, 0),
    ("bfloat16", "dpmpp_2m", 12, 5),
)  # fmt: skip
CATEGORIES = ("teddy", "cup", "car", "fish")
READ = ("category", "colour", "pattern", "background", "accessory", "second", "second_colour")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    options = parser.parse_args()
    start_host(options.device)
    from perfusion_pack.demo.world.captions import full_caption

    from .painting import paint
    from .prompts import Prompt, plain_scenes, single_prompts

    half = options.pictures // 2
    own = [
        Prompt(prompt.text.format(category), prompt.asked, prompt.said)
        for category in CATEGORIES
        for prompt in single_prompts(category, -(-half // len(CATEGORIES)))
    ]
    captions = [Prompt(full_caption(scene), asked_of(scene), {}) for scene in plain_scenes(options.pictures - half)]
    prompts, found = [*own[:half], *captions], []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        both = open_workbench(Cache(Path(folder)), precision="bfloat16")
        for precision, sampler, steps, reference in COMPARED:
            bench = both if precision == "bfloat16" else both.exact()
            bench = dataclasses.replace(bench, sampler=sampler, sampling_steps=steps)
            started = time.process_time()
            painted = paint(bench, bench.painter, bench.clip, [prompt.text for prompt in prompts])
            painted_at = time.process_time()
            pictures = bench.decode(painted)
            decoded_at = time.process_time()
            found.append(look_at(bench, pictures, prompts))
            values, shares, looks = found[-1]
            of_values, _, of_looks = found[reference]
            rows = {
                "precision": precision, "sampler": sampler, "steps": steps,
                "found, own prompts": float(shares[:half].mean()), "found, captions": float(shares[half:].mean()),
                "everything right": float((shares == 1).mean()),
                "compared with row": reference + 1,
                "pictures read the same": float((values == of_values).all(axis=1).mean()),
                "values read the same": float((values == of_values).mean()),
                "cosine of looks": float((looks * of_looks).sum(dim=-1).mean()),
                "core ms to paint": round(1000 * (painted_at - started) / len(prompts)),
                "core ms to decode": round(1000 * (decoded_at - painted_at) / len(prompts)),
            }  # fmt: skip
            rows |= {name: f"{value:.3f}" for name, value in rows.items() if isinstance(value, float)}
            print(markdown([rows]) if len(found) == 1 else markdown([rows]).splitlines()[-1], flush=True)


def asked_of(scene: Any) -> dict[str, str]:
    """What must be read in a picture of a scene whose caption states everything."""
    main = scene.main
    asked = {"category": main.category, "colour": main.colour, "pattern": main.pattern, "background": scene.background,
             "accessory": scene.accessory, "second": scene.second.category if scene.second else "none"}  # fmt: skip
    return asked | ({"second_colour": scene.second.colour} if scene.second else {})


def look_at(bench: Any, pictures: torch.Tensor, prompts: list) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Values read [P, READ], shares of the asked attributes found [P], and embeddings of the looks."""
    from . import reading
    from .measures import attribute_share

    read, masks = bench.recogniser.read(pictures), bench.recogniser.body_mask(pictures) > 0.5
    shares = []
    for prompt, one, mask in zip(prompts, read, masks, strict=True):
        limits = reading.area_limits(bench, prompt.asked["category"]) if "size" in prompt.asked else (0.0, 0.0)
        seen = {"size": reading.size_of(mask, limits), "place": reading.place_of(mask)}
        shares.append(attribute_share({n: seen.get(n, getattr(one, n, "")) == v for n, v in prompt.asked.items()}))
    values = np.array([[getattr(one, name) for name in READ] for one in read])
    return values, np.array(shares), bench.recogniser.embed(pictures)


if __name__ == "__main__":
    main()
