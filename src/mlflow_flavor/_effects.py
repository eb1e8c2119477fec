"""Imports that are there for what they do: a module of the author's own that fills a registry of another one."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from mlflow_flavor._names import names_in
from mlflow_flavor._origins import as_user_writes_it, local_places

__all__ = ["imports_for_effect", "warn_of_imports_left_out"]

LEFT_OUT = (
    "%s imports '%s' and makes no use of it, and the model does not have that file: the import is left out. Pass "
    "code_paths=['%s'] if the agent needs what it does."
)

logger = logging.getLogger("workflows.mlflow")


@dataclass(frozen=True, slots=True)
class EffectImport:
    """An import of which its module makes no use: who has it there needs what the imported module does, if anything.

    Attributes:
        name: What the module calls what it imports.
        imported: The module that it imports.
        relative: Whether it is written as one of the same package, which a script can do in that package alone.
    """

    name: str
    imported: str
    relative: bool

    @property
    def top(self) -> str:
        """The imported module, or the outermost package that it is in."""
        return self.imported.partition(".")[0]

    def is_in(self, helpers: Iterable[Path]) -> bool:
        """Whether a model can do it that has these files and directories, and what is installed."""
        return self.is_brought(helpers) or not (self.relative or local_places([self.top]))

    def is_brought(self, helpers: Iterable[Path]) -> bool:
        """Whether the module is in one of these files and directories."""
        return self.top in {path.resolve().stem for path in helpers}


def imports_for_effect(source: str, home: ModuleType, helpers: Sequence[Path]) -> tuple[set[str], list[EffectImport]]:
    """Imports of modules of the author's own, local files or of the same package, that nothing in a module uses.

    An unused module of a library is mostly one that was forgotten, and would be a requirement.

    Args:
        source: The module's source.
        home: The module.
        helpers: Files and directories that the model will have.

    Returns:
        The names by which the module knows those that the model can import; the others, which would fail at each load.
    """
    body = ast.parse(source).body
    spec = home.__spec__
    package = spec.parent if spec is not None else None
    own = spec.name.partition(".")[0] if spec is not None else ""
    found = [each for node in body for each in _imports_of_modules(node, package or "")]
    read = names_in(body).read if found else frozenset[str]()
    unused = [each for each in found if each.name not in read]
    own_unused = [e for e in unused if e.top == own or e.is_brought(helpers) or local_places([e.top])]
    lacking = [each for each in own_unused if not each.is_in(helpers)]
    return {each.name for each in own_unused if each not in lacking}, lacking


def warn_of_imports_left_out(home: ModuleType, lacking: Iterable[EffectImport], bound: Set[str]) -> None:
    """Say which imports a script is without, and what the model needs to have them.

    Args:
        home: The module that the script is of.
        lacking: Those that the model cannot do.
        bound: Names that the script binds: with `import os, tools`, who needs one gets both.
    """
    for each in lacking:
        if each.name not in bound:
            logger.warning(LEFT_OUT, Path(str(home.__file__)).name, each.imported, as_user_writes_it(_place(each.top)))


def _place(top: str) -> Path:
    """The file of a local module, or the folder of a package, which may be installed."""
    folders = getattr(sys.modules.get(top), "__path__", None)
    return local_places([top]).get(top) or Path(next(iter(folders or [top])))


def _imports_of_modules(node: ast.stmt, package: str) -> Iterator[EffectImport]:
    """The imports of modules, not of names of theirs, that a statement makes."""
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield EffectImport(alias.asname or alias.name.partition(".")[0], alias.name, relative=False)
        case ast.ImportFrom(module=module, level=level, names=names) if package or not level:
            parent = resolve_name("." * level + (module or ""), package)
            for alias in names:
                if (found := f"{parent}.{alias.name}") in sys.modules:
                    yield EffectImport(alias.asname or alias.name, found, relative=level > 0)
        case _:
            pass
