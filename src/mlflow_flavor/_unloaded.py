"""Modules that a model has and that nobody has imported when its script has run: a step imports them, say.

Who imports one may do much; its source says what it will make use of.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from mlflow_flavor._model_code import parsed
from mlflow_flavor._model_imports import top_level_names

__all__ = ["NOTHING_UNLOADED", "Source", "Unloaded", "with_packages"]


class Source(NamedTuple):
    """The source of a module.

    Attributes:
        tree: Its code.
        package: The package that its relative imports start from.
    """

    tree: ast.Module
    package: str


class Unloaded:
    """The sources of such modules.

    Args:
        code: The model's `code/` directory, if it has one.
        loaded: Modules of it that its script has imported.
    """

    def __init__(self, code: Path | None, loaded: Container[str]) -> None:
        self._code = code
        self._loaded = loaded
        self._known: dict[str, Source | None] = {}

    def top_level_names(self) -> set[str]:
        """What the directory provides to `import`, also what has been imported."""
        return set(top_level_names(self._code))

    def source(self, name: str) -> Source | None:
        """The source of a module; None if the model does not have it, or has imported it, or it is no Python."""
        if self._code is None or name in self._loaded:
            return None
        if name not in self._known:
            self._known[name] = next(self._read(name), None)
        return self._known[name]

    def _read(self, name: str) -> Iterator[Source]:
        place = (self._code or Path()).joinpath(*name.split("."))
        for file, package in ((place / "__init__.py", name), (place.with_suffix(".py"), name.rpartition(".")[0])):
            if file.is_file() and (tree := parsed(file)) is not None:
                yield Source(tree, package)


NOTHING_UNLOADED = Unloaded(None, ())


def with_packages(name: str) -> list[str]:
    """A module and the packages that it is in, the outermost first: they are imported before it."""
    parts = name.split(".")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]
