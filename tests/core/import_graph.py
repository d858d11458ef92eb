"""Which files of the repository import which, read from their relative imports, wherever in a file these stand."""

from __future__ import annotations

import ast
from pathlib import Path


def imported_files(repository: Path, path: str) -> set[str]:
    """The files that a file imports, as paths relative to the repository.

    `from . import x` and `from .a import x` are an import of the module x where there is one, and else of the package
    or module that holds the name x.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse((repository / path).read_text(encoding="utf-8"), path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = Path(path).parents[node.level - 1]
            base = base.joinpath(*node.module.split(".")) if node.module else base
            found |= {_file(repository, base / name.name) or _file(repository, base) or "" for name in node.names}
    return found - {""}


def unresolved(repository: Path, path: str, pack: str = "perfusion_pack") -> list[str]:
    """What a file imports of the pack, relatively or by its name as tests and benchmarks do, and is not there."""
    missing: list[str] = []
    for node in ast.walk(ast.parse((repository / path).read_text(encoding="utf-8"), path)):
        if not isinstance(node, ast.ImportFrom):
            continue
        parts = node.module.split(".") if node.module else []
        if node.level:
            module = Path(path).parents[node.level - 1].joinpath(*parts)
        elif parts[0] == pack:
            module = Path(*parts[1:])
        else:
            continue
        file = _file(repository, module)
        there = _names(repository / file) if file else set()
        missing += [
            f"{module.as_posix()}: {name.name}"
            for name in node.names
            if name.name not in there and not _file(repository, module / name.name)
        ]
    return missing


def _names(file: Path) -> set[str]:
    """Every name that is given a value anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
    return names


def reached_from(repository: Path, *starts: str) -> set[str]:
    """All files that are imported with these, with the packages that they lie in."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += imported_files(repository, path)
            packages = (_file(repository, folder) for folder in Path(path).parents if folder != Path("."))
            waiting += [package for package in packages if package]
    return reached


def _file(repository: Path, module: Path) -> str | None:
    """The file of a module or of a package, given by its path without an ending."""
    if module.name and (repository / module).with_suffix(".py").is_file():
        return module.with_suffix(".py").as_posix()
    package = module / "__init__.py"
    return package.as_posix() if (repository / package).is_file() else None
