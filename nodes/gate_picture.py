"""What was found of gates, for people and for scripts: a picture, a sentence, a text, and numbers."""

from __future__ import annotations

import json
import math

from PIL import Image

from .drawing import LARGE, MARGIN, MEDIUM, SMALL, WIDTH, Sheet, cell, font, rows_of, shortened
from .host.gate.inspection import REST, GateInspection

_GAP = 6
_WIDEST_WORD, _NARROWEST = 190, 82
_CELL, _HEADING = 66, 38
_LITTLE = 0.1  # similarity of what has hardly anything in common


def gate_picture(found: GateInspection, theme: str) -> Image.Image:
    """Words across, concepts down, in each cell the gate and the similarity; below them what the concepts share."""
    names = [f"bias {gated.bias:g}" for gated in found.stack]
    labels = [*found.concepts, *names, "opens below"]
    left = MARGIN + min(200, max(round(font(MEDIUM).getlength(label)) for label in labels)) + 14
    matrix = left + len(found.stack) * 116 + MARGIN if len(found.stack) > 1 else 0
    sheet = Sheet(theme, max(WIDTH, matrix))
    sheet.text(sentence(found), MEDIUM)
    sheet.top += 14
    sheet.text("How far each gate opens", LARGE)
    sheet.text("large: gate, from 0 to 1 · small: similarity to the concept", SMALL, sheet.theme.faint)
    sheet.top += 10
    widths = [
        min(_WIDEST_WORD, max(_NARROWEST, round(font(MEDIUM).getlength(word)) + 18)) + _GAP for word in found.words
    ]
    for line in rows_of(widths, sheet.width - left - MARGIN + _GAP):
        _draw_words(sheet, found, line, widths, left)
        sheet.top += 16
    if len(found.stack) > 1:
        _draw_matrix(sheet, found, left)
    return sheet.finished()


def _draw_words(sheet: Sheet, found: GateInspection, line: list[int], widths: list[int], left: int) -> None:
    """One line of words with the cells of all concepts below them."""
    theme, count = sheet.theme, len(found.stack)
    draw = sheet.room(_HEADING + count * (_CELL + _GAP) + 30)
    for j, gated in enumerate(found.stack):
        _draw_label(sheet, left, sheet.top + _HEADING + j * (_CELL + _GAP), gated.concept.word, f"bias {gated.bias:g}")
    across, bottom = float(left), sheet.top + _HEADING + count * (_CELL + _GAP)
    for number in line:
        right = across + widths[number] - _GAP
        middle, word = (across + right) / 2, found.words[number]
        colour = theme.accent if word in found.concepts else theme.faint if word == REST else theme.ink
        short = shortened(word, widths[number] - _GAP, MEDIUM)
        draw.text((middle, sheet.top + _HEADING / 2), short, fill=colour, font=font(MEDIUM), anchor="mm")
        for j, reading in enumerate(found.readings[number]):
            top = sheet.top + _HEADING + j * (_CELL + _GAP)
            box = (across, top, right, top + _CELL)
            cell(draw, box, theme, reading.gate, f"{reading.gate:.2f}", _signed(reading.similarity))
        opens = max(reading.similarity for reading in found.readings[number])
        draw.text((middle, bottom + 13), _signed(opens), fill=theme.faint, font=font(SMALL), anchor="mm")
        across += widths[number]
    draw.text((left - 14, bottom + 13), "opens below", fill=theme.faint, font=font(SMALL), anchor="rm")
    sheet.top = bottom + 28


def _draw_matrix(sheet: Sheet, found: GateInspection, left: int) -> None:
    """Similarity of each concept, on the left, at the word of each, above."""
    theme, count, width = sheet.theme, len(found.stack), 110
    sheet.top += 4
    sheet.text("How much the concepts have in common", LARGE)
    sheet.text("large: similarity at the other's word · small: when all are used together", SMALL, theme.faint)
    draw = sheet.room(_HEADING + count * (_CELL + _GAP) + 10)
    for k, word in enumerate(found.concepts):
        middle = left + k * (width + _GAP) + width / 2
        short = shortened(word, width, MEDIUM)
        draw.text((middle, sheet.top + _HEADING / 2), short, fill=theme.accent, font=font(MEDIUM), anchor="mm")
    for j, word in enumerate(found.concepts):
        top = sheet.top + _HEADING + j * (_CELL + _GAP)
        _draw_label(sheet, left, top, word)
        for k in range(count):
            box = (left + k * (width + _GAP), top, left + k * (width + _GAP) + width, top + _CELL)
            alone, together = found.by_themselves[j][k], found.together[j][k]
            if j == k:
                cell(draw, box, theme, 0.0, "itself")
            else:
                cell(draw, box, theme, alone, _signed(alone), _signed(together))
    sheet.top += _HEADING + count * (_CELL + _GAP) + 10


def _draw_label(sheet: Sheet, left: int, top: float, word: str, below: str = "") -> None:
    """The word of a concept at the left of its row."""
    draw, right = sheet.room(0), left - 14
    at = top + _CELL * (0.36 if below else 0.5)
    word = shortened(word, right - MARGIN, MEDIUM)
    draw.text((right, at), word, fill=sheet.theme.accent, font=font(MEDIUM), anchor="rm")
    draw.text((right, top + _CELL * 0.76), below, fill=sheet.theme.faint, font=font(SMALL), anchor="rm")


def _signed(number: float) -> str:
    """Two digits, without the sign of a zero."""
    return f"{number:.2f}".replace("-0.00", "0.00")


def sentence(found: GateInspection) -> str:
    """What matters most, in one plain sentence."""
    if len(found.stack) == 1:
        return _sentence_of_one(found)
    count = range(len(found.stack))
    pairs = [(j, k) for j in count for k in count if j < k]

    def shared(pair: tuple[int, int], of: tuple[tuple[float, ...], ...]) -> tuple[float, float]:
        return of[pair[0]][pair[1]], of[pair[1]][pair[0]]

    closest = max(pairs, key=lambda pair: (max(shared(pair, found.together)), max(shared(pair, found.by_themselves))))
    one, other = (found.concepts[index] for index in closest)
    alike, together = max(shared(closest, found.by_themselves)), shared(closest, found.together)
    start = f"{one} and {other} are alike by {alike:.2f}"
    if min(together) > _LITTLE:
        return f"{start}: at a bias below {min(together):.2f} each opens at the other's word."
    if max(together) > _LITTLE:
        opening, word = (one, other) if together[0] > together[1] else (other, one)
        return f"{start}: at a bias below {max(together):.2f} {opening} opens at the word of {word}."
    if alike > _LITTLE:
        return f"{start}, but solved together neither opens at the other's word."
    return f"{one} and {other} come closest, with a similarity of {_signed(alike)}: no concept opens at another's word."


def _sentence_of_one(found: GateInspection) -> str:
    """Of the word beside its own at which the concept opens first."""
    concept = found.concepts[0]
    others = [
        (readings[0].similarity, word)
        for word, readings in zip(found.words, found.readings, strict=True)
        if word != concept
    ]
    nearest, word = max(others)
    word = "a token at which no word stands" if word == REST else f'"{word}"'
    absent = "" if concept in found.words else f"The prompt does not have the word {concept}. "
    if nearest <= _LITTLE:
        return f"{absent}{concept} opens at no other word."
    return (
        f"{absent}Of all other words {concept} comes closest to {word}: it opens there at a bias below {nearest:.2f}."
    )


def gate_text(found: GateInspection) -> str:
    """The same as lines of text: one for each word, then what the concepts share."""
    lines = [f"{g.concept.word}: bias {g.bias:g}, temperature {g.temperature:g}" for g in found.stack]
    for word, readings in zip(found.words, found.readings, strict=True):
        told = (
            f"{concept} gate {reading.gate:.2f}, similarity {_signed(reading.similarity)}"
            for concept, reading in zip(found.concepts, readings, strict=True)
        )
        lines.append(f"{word}: {'; '.join(told)}; opens below {_signed(max(r.similarity for r in readings))}")
    for j, one in enumerate(found.concepts):
        for k, other in enumerate(found.concepts):
            if j != k:
                alone, together = (_signed(of[j][k]) for of in (found.by_themselves, found.together))
                lines.append(f"{one} at the word of {other}: similarity {alone}, used together {together}")
    return "\n".join([*lines, sentence(found)])


def gate_numbers(found: GateInspection) -> str:
    """The same as JSON, for scripts."""
    numbers = {
        "concepts": [
            {"word": gated.concept.word, "bias": gated.bias, "temperature": gated.temperature} for gated in found.stack
        ],
        "words": [
            {
                "word": word,
                "similarity": [reading.similarity for reading in readings],
                "gate": [reading.gate for reading in readings],
                "opens_below": max(reading.similarity for reading in readings),
            }
            for word, readings in zip(found.words, found.readings, strict=True)
        ],
        "similarity_by_themselves": found.by_themselves,
        "similarity_together": found.together,
        "sentence": sentence(found),
    }
    return json.dumps(_rounded(numbers))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value
