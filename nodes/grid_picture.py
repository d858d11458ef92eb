"""Pictures of several runs in one: under their labels, or as a table whose columns and rows have names."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ..perfusion_core.errors import PerfusionError
from .drawing import THEMES, Colour, Font, font, wrapped
from .pictures import to_image
from .sweep import Sweep

GAP = 4
# A node shows a picture about 400 pixels wide, and letters are read from 10 pixels on.
_LETTERS_ACROSS, _LETTERS_DOWN, _SMALLEST = 40, 14, 11


def labelled_grid(
    batches: Sequence[Tensor], labels: Sequence[str], columns: int = 0, theme: str = "light"
) -> Image.Image:
    """Batches of pictures, each [B, H, W, 3] in 0..1, as columns under their labels.

    Pictures of other sizes are fitted into the size of the first.  columns: labels on one line, 0 for all.
    Raises PerfusionError where there is not one label for each batch.
    """
    if len(batches) != len(labels):
        raise PerfusionError(
            f"The input labels expected one text for each of the {len(batches)} batches of images, but found"
            f" {len(labels)}; connect the labels of the Sweep Gate Bias node that the models come from."
        )
    height, width = batches[0].shape[1:3]
    colours = THEMES[theme]
    across = min(columns or len(batches), len(batches))
    size = _size_of_letters(across * (width + GAP), height)
    names = [wrapped(label, width, size) for label in labels]
    line_of_text, heading = round(size * 1.3), round(size * (0.3 + 1.3 * max(map(len, names))))
    lines = [range(start, min(start + across, len(batches))) for start in range(0, len(batches), across)]
    heights = [heading + max(len(batches[index]) for index in line) * (height + GAP) for line in lines]
    grid = Image.new("RGB", (across * (width + GAP) - GAP, sum(heights) - GAP), colours.paper)
    draw, top = ImageDraw.Draw(grid), 0
    for line, line_height in zip(lines, heights, strict=True):
        for column, index in enumerate(line):
            left = column * (width + GAP)
            middle = top + heading / 2 - (len(names[index]) - 1) * line_of_text / 2
            for number, text in enumerate(names[index]):
                at = (left + width / 2, middle + number * line_of_text)
                draw.text(at, text, fill=colours.ink, font=font(size), anchor="mm")
            _paste_batch(grid, batches[index], left, top + heading, (width, height), colours.paper)
        top += line_height
    return grid


def swept_grid(batches: Sequence[Tensor], sweep: Sweep, theme: str = "light") -> Image.Image:
    """The batches of a sweep, each [B, H, W, 3] in 0..1, as its table: columns under their names, rows beside theirs
    and the time that they took; the pictures of a batch below each other.

    Pictures of other sizes are fitted into the size of the first.
    Raises PerfusionError where there is not one batch for each run of the sweep.
    """
    if len(batches) != len(sweep.runs):
        raise PerfusionError(
            f"The input images expected one batch for each of the {len(sweep.runs)} runs of the sweep, but found"
            f" {len(batches)}; connect the pictures that were sampled with the models of the same Sweep Gate Bias node."
        )
    height, width = batches[0].shape[1:3]
    colours, across = THEMES[theme], len(sweep.across)
    size = _size_of_letters(across * (width + GAP), height)
    rows = [batches[start : start + across] for start in range(0, len(batches), across)]
    names = [_lines_of(sweep, row) for row in range(len(rows))]
    letters, line, heading = font(size), round(size * 1.3), round(size * 1.6)
    side = round(max(letters.getlength(text) for lines in names for text in ["", *lines]))
    side += size if side else 0
    heights = [max(max(len(batch) for batch in row) * (height + GAP), len(name) * line + GAP)
               for row, name in zip(rows, names, strict=True)]  # fmt: skip
    grid = Image.new("RGB", (side + across * (width + GAP) - GAP, heading + sum(heights) - GAP), colours.paper)
    draw, top = ImageDraw.Draw(grid), heading
    for column, name in enumerate(sweep.across):
        middle = side + column * (width + GAP) + width / 2
        _centred(draw, name, (middle, heading / 2), width, size, colours.ink)
    for number, row in enumerate(rows):
        middle = top + (heights[number] - GAP) / 2 - (len(names[number]) - 1) * line / 2
        for index, text in enumerate(names[number]):
            ink = colours.faint if text.endswith(" s") else colours.ink
            draw.text((side - size / 2, middle + index * line), text, fill=ink, font=letters, anchor="rm")
        for column, batch in enumerate(row):
            _paste_batch(grid, batch, side + column * (width + GAP), top, (width, height), colours.paper)
        top += heights[number]
    return grid


def _lines_of(sweep: Sweep, row: int) -> list[str]:
    """What stands beside a row: a line for each of its settings, and its time."""
    seconds = sweep.row_of_seconds(row)
    named = sweep.down[row].split(", ") if sweep.down[row] else []
    return named + ([] if seconds is None else [f"{seconds:.1f} s"])


def _size_of_letters(width: int, height: int) -> int:
    return max(_SMALLEST, height // _LETTERS_DOWN, width // _LETTERS_ACROSS)


def _centred(
    draw: ImageDraw.ImageDraw, text: str, middle: tuple[float, float], room: int, size: int, ink: Colour
) -> None:
    """A text around a point, in smaller letters where it would be wider than its column."""
    letters: Font = font(size)
    while size > _SMALLEST and letters.getlength(text) > room:
        size -= 1
        letters = font(size)
    draw.text(middle, text, fill=ink, font=letters, anchor="mm")


def _paste_batch(grid: Image.Image, batch: Tensor, left: int, top: int, size: tuple[int, int], paper: Colour) -> None:
    for row, picture in enumerate(batch):
        grid.paste(_fitted(picture, *size, paper), (left, top + row * (size[1] + GAP)))


def _fitted(picture: Tensor, width: int, height: int, paper: Colour) -> Image.Image:
    """The whole picture, as large as it can be within the size, on paper."""
    image = to_image(picture)
    if image.size == (width, height):
        return image
    scale = min(width / image.width, height / image.height)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    sheet = Image.new("RGB", (width, height), paper)
    sheet.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return sheet
