"""What `python dev.py demo` shows: two concepts are trained through a running ComfyUI, then used in new scenes.

    python demo/tour.py --server http://127.0.0.1:8188 --output DIR

Everything goes through the server as API prompts.  Ends with one labelled picture in DIR and the time of each part.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import prompts
from PIL import Image, ImageDraw, ImageFont
from queue_client import PromptError, QueueClient

CELL, MARGIN, HEADING = 148, 8, 30
SCENES = {
    "hugsy": (
        "a photo of a {} on the beach",
        "a photo of a {} in the snow",
        "a photo of a {} with a hat on the grass",
        "a photo of a {} beside a red cup in a pink room",
    ),
    "sippy": ("a photo of a {} on the beach", "a photo of a {} with a hat on the grass"),
}
BIASES = (0.5, 0.7, 0.85, 1, 1.2)  # the similarity of a concept's own word is 1


async def tour(server: str, output: Path) -> Path:
    """Make all pictures and return the path of the one that shows them."""
    run = time.strftime("%Y%m%d-%H%M%S")
    names = {thing: f"tour-{run}-{thing}" for thing in SCENES}
    files = {thing: f"{name}.safetensors" for thing, name in names.items()}
    rows: list[tuple[str, list[Image.Image]]] = []
    seconds: dict[str, float] = {}

    async with QueueClient(server) as client:

        async def pictures(prompt: dict, label: str) -> list[Image.Image]:
            started = time.monotonic()
            outputs = await client.run(prompt, label)
            seconds[label] = time.monotonic() - started
            return [picture for several in outputs.values() for picture in several]

        for thing in SCENES:
            shown = await pictures(prompts.demo_pictures_prompt(thing), f"draw pictures of {thing}")
            rows.append((f"five training pictures of <{thing}>, a thing that words describe at best roughly", shown))
            await pictures(prompts.train_prompt(thing, file_name=names[thing]), f"train <{thing}>")
        for thing, scenes in SCENES.items():
            for scene in scenes:
                text = scene.format(f"<{thing}>")
                prompt = prompts.sample_prompt(text, [(files[thing], prompts.BIAS)], seed=1, batch=5)
                rows.append((f"“{text}”", await pictures(prompt, text)))
        text = "a photo of a <hugsy> beside a <sippy> on the grass"
        prompt = prompts.sample_prompt(text, [(file, prompts.BIAS) for file in files.values()], seed=1, batch=5)
        rows.append((f"two concepts, trained apart: “{text}”", await pictures(prompt, text)))
        text = "a photo of a <hugsy> with a hat on the grass"
        swept = []
        for bias in BIASES:
            label = f"{text}, bias {bias}"
            swept += await pictures(prompts.sample_prompt(text, [(files["hugsy"], bias)], seed=5, batch=1), label)
        rows.append((f"gate bias {', '.join(map(str, BIASES))}: “{text}”", swept))

    path = output / f"tour-{run}.png"
    _sheet(rows).save(path)
    for label, spent in seconds.items():
        print(f"{spent:7.1f} s  {label}")
    return path


def _sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    columns = max(len(pictures) for _, pictures in rows)
    sheet = Image.new(
        "RGB", (columns * (CELL + MARGIN) + MARGIN, len(rows) * (CELL + MARGIN + HEADING) + MARGIN), (250, 250, 248)
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (heading, pictures) in enumerate(rows):
        top = MARGIN + index * (CELL + MARGIN + HEADING)
        draw.text((MARGIN, top + 6), heading, fill=(30, 30, 36), font=font)
        for column, picture in enumerate(pictures):
            sheet.paste(
                picture.resize((CELL, CELL), Image.Resampling.LANCZOS),
                (MARGIN + column * (CELL + MARGIN), top + HEADING),
            )
    return sheet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        print(f"\n{asyncio.run(tour(arguments.server, arguments.output))}")
    except PromptError as error:
        print(f"\n{error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
