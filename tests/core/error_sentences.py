"""The sentences of the pack's own errors, read from the code, with an ellipsis for what is filled in."""

from __future__ import annotations

import ast
import re
from pathlib import Path

BASE = "PerfusionError"
FILLED_IN = "\u2026"
FEWEST_LETTERS = 12  # a sentence with fewer fixed ones only passes on another


def error_classes(trees: dict[str, ast.Module]) -> set[str]:
    """PerfusionError and the classes that are made of it."""
    classes = {BASE}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and classes & {ast.unparse(base) for base in node.bases}:
                classes.add(node.name)
    return classes


def sentences(repository: Path, paths: list[str]) -> dict[str, str]:
    """Every sentence in these files, with the file that it stands in."""
    trees = {path: ast.parse((repository / path).read_text(encoding="utf-8"), path) for path in paths}
    classes, found = error_classes(trees), {}
    for path, tree in trees.items():
        for node in made_errors(tree, classes):
            sentence = template(node.args[0])
            if len(re.findall("[a-z]", sentence)) >= FEWEST_LETTERS:
                found[sentence] = path
    return found


def made_errors(tree: ast.Module, classes: set[str]) -> list[ast.Call]:
    """The calls that make an error: of a class, and in a function that is given the class, of what it calls it."""
    scopes: list[tuple[ast.AST, set[str]]] = [(tree, classes)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            kinds = {one.arg for one in given if _is_type_of(one.annotation, classes)}
            scopes += [(node, kinds)] if kinds else []
    calls = [(node, names) for scope, names in scopes for node in ast.walk(scope) if isinstance(node, ast.Call)]
    return [call for call, names in calls if ast.unparse(call.func) in names and call.args]


def _is_type_of(annotation: ast.expr | None, classes: set[str]) -> bool:
    """Whether it is type[E] of one of the classes."""
    named = (
        annotation.slice if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "type" else None
    )
    return named is not None and ast.unparse(named) in classes


def template(text: ast.expr) -> str:
    """A text with one ellipsis for whatever in it is not written there."""
    return re.sub(rf"{FILLED_IN}(?:[ ,]*{FILLED_IN})+", FILLED_IN, _template(text))


def _template(text: ast.expr) -> str:
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return text.value
    if isinstance(text, ast.JoinedStr):
        return "".join(_template(part) for part in text.values)
    if isinstance(text, ast.BinOp) and isinstance(text.op, ast.Add):
        return _template(text.left) + _template(text.right)
    return FILLED_IN
