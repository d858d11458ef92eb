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
