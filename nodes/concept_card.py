"""All that a concept says of itself, as a card and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageOps

from ..perfusion_core.concept import Concept, GatedConcept
from .drawing import LARGE, MARGIN, MEDIUM, SMALL, Sheet, font, shortened, wrapped
from .form_words import CLOSING, KEYS
from .pictures import opened

_SIDE, _NAME = 220, 190  # of the picture; of the column of names
_SIZE, _LINE = SMALL + 1, 30


def facts_of(gated: GatedConcept) -> dict[str, str]:
    """What the file says, and what it needs, by name; in the order of what people ask first."""
    concept = gated.concept
    layer = "the usual one" if concept.clip_layer is None else f"{concept.clip_layer} (CLIP Set Last Layer)"
    shapes = {key: f"{len(vectors)} x {vectors.shape[1]}" for key, vectors in concept.word_vectors.items()}
    encoders = ", ".join(f"{key} ({shape})" for key, shape in shapes.items())
    widths = [len(target) for target in concept.value_targets.values()]
    offset = concept.encoding_offset
    numbers = sum(widths) + 3 * concept.encoding_width
    facts = {
        "superclass": concept.superclass,
        "model needed": f"{concept.base_model}, text encodings of width {concept.encoding_width}",
        "encoder layer": layer,
        "word's vectors": encoders,
        **({} if offset is None else {"encoding's offset": f"{len(offset)} x {offset.shape[1]}, behind the encoder"}),
        "gate": f"bias {concept.bias:g}, temperature {concept.temperature:g} recommended",
        "form": f"{concept.form}: keys {KEYS[concept.form]}, lock {concept.recommended_lock:g} recommended",
        "closing gate": CLOSING.get(concept.form, "leaves the word"),
        "layers": f"{len(widths)} of width {min(widths)} to {max(widths)}, {numbers:,} numbers",
        "text statistics": concept.statistics_hash or "not told",
    }
    used = used_otherwise(gated)
    return {**({"used with": used} if used else {}), **facts}


def used_otherwise(gated: GatedConcept) -> str:
    """What the loader set otherwise than the concept recommends."""
    concept, told = gated.concept, []
    if gated.bias != concept.bias:
        told.append(f"bias {gated.bias:g}")
    if gated.temperature != concept.temperature:
        told.append(f"temperature {gated.temperature:g}")
    if gated.strength != 1:
        told.append(f"strength {gated.strength:g}")
    if gated.lock is not None and gated.lock != concept.recommended_lock:
        told.append(f"lock {gated.lock:g}")
    if (gated.start_percent, gated.end_percent) != (0, 1):
        told.append(f"steps from {gated.start_percent:g} to {gated.end_percent:g}")
    return ", ".join(told)


def training_of(concept: Concept) -> dict[str, str]:
    """The settings of the training, as the file has them, by names that people read."""
    return {name.replace("_", " "): _in_words(value) for name, value in sorted(concept.training.items())}


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    return "not told" if value is None else str(value)


def concept_cards(stack: Sequence[GatedConcept], theme: str) -> Image.Image:
    """A card for each concept: its picture, its word, what the file says."""
    sheet = Sheet(theme)
    for number, gated in enumerate(stack):
        if number:
            sheet.top += MARGIN
            sheet.room(2).line((MARGIN, sheet.top, sheet.width - MARGIN, sheet.top), fill=sheet.theme.panel, width=2)
            sheet.top += MARGIN
        _draw_card(sheet, gated)
    return sheet.finished()


def _draw_card(sheet: Sheet, gated: GatedConcept) -> None:
    concept, theme, right = gated.concept, sheet.theme, MARGIN + _SIDE + 20
    top = sheet.top
    draw = sheet.room(_SIDE)
    draw.text((right, top), concept.word, fill=theme.accent, font=font(LARGE + 8))
    head = [
        f"a {concept.superclass}, for {concept.base_model} models",
        f"bias {gated.bias:g} · temperature {gated.temperature:g}",
        f"strength {gated.strength:g} · keys {KEYS[concept.form]}",
    ]
    for number, line in enumerate(head):
        fitted = wrapped(line, sheet.width - right - MARGIN, MEDIUM)
        draw.text((right, top + 56 + number * 36), fitted[0], fill=theme.ink, font=font(MEDIUM))
    _draw_picture(sheet, concept)
    sheet.top = top + _SIDE + MARGIN
    for name, fact in facts_of(gated).items():
        _draw_fact(sheet, name, fact)
    training = training_of(concept)
    if training:
        sheet.top += 8
        sheet.text("training", MEDIUM, theme.accent)
        sheet.top += 4
        _draw_in_two_columns(sheet, training)


def _draw_in_two_columns(sheet: Sheet, facts: Mapping[str, str]) -> None:
    """Short facts side by side, read downwards; long ones below them."""
    half = (sheet.width - MARGIN) // 2
    short = {name: fact for name, fact in facts.items() if font(_SIZE).getlength(fact) <= half - _NAME - MARGIN}
    first, names, top = (len(short) + 1) // 2, [*short], sheet.top
    for column in (0, 1):
        sheet.top = top
        for name in names[column * first : (column + 1) * first]:
            _draw_fact(sheet, name, short[name], column * half)
    sheet.top = top + first * _LINE
    for name, fact in facts.items():
        if name not in short:
            _draw_fact(sheet, name, fact)


def _draw_fact(sheet: Sheet, name: str, fact: str, indent: int = 0) -> None:
    left = MARGIN + indent
    lines = wrapped(fact, sheet.width - MARGIN - left - _NAME, _SIZE)
    draw = sheet.room(_LINE * len(lines))
    draw.text((left, sheet.top), shortened(name, _NAME - 8, _SIZE), fill=sheet.theme.faint, font=font(_SIZE))
    for number, line in enumerate(lines):
        draw.text((left + _NAME, sheet.top + number * _LINE), line, fill=sheet.theme.ink, font=font(_SIZE))
    sheet.top += _LINE * len(lines)


def _draw_picture(sheet: Sheet, concept: Concept) -> None:
    box = (MARGIN, sheet.top, MARGIN + _SIDE, sheet.top + _SIDE)
    draw = sheet.room(_SIDE)
    draw.rectangle(box, fill=sheet.theme.panel)
    image = opened(concept.picture)
    if image is None:
        middle = (MARGIN + _SIDE / 2, sheet.top + _SIDE / 2)
        draw.text(middle, "no picture", fill=sheet.theme.faint, font=font(MEDIUM), anchor="mm")
        return
    fitted = ImageOps.contain(image, (_SIDE, _SIDE), Image.Resampling.LANCZOS)
    left, top = (_SIDE - fitted.width) // 2, (_SIDE - fitted.height) // 2
    sheet.paste(fitted, MARGIN + left, sheet.top + top)


def concept_text(stack: Sequence[GatedConcept]) -> str:
    """The same as lines of text: name and fact, concept after concept."""
    parts = []
    for gated in stack:
        facts = {"word": gated.concept.word, **facts_of(gated)}
        facts |= {f"training: {name}": fact for name, fact in training_of(gated.concept).items()}
        facts["picture"] = "none" if gated.concept.picture is None else f"JPEG, {len(gated.concept.picture):,} bytes"
        parts.append("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    return "\n\n".join(parts)
