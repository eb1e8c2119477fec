"""Paths beside the author's modules, which a model's copies of these have beside themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mlflow_flavor._model_imports import MODULE_PREFIX
from mlflow_flavor._pairs import Pair, UnknownError, plain_name

__all__ = ["is_moved"]


def is_moved(pair: Pair, one: str, other: str) -> bool:
    """Whether two texts name one place: below where a module of the author's lies, and where the model's copy does.

    Raises:
        UnknownError: If that is the path of what is there for the author, and not in the model.
    """
    for mine, copied in _roots():
        if copied in other and other.replace(copied, mine) == one:
            if other.startswith(copied) and Path(one).exists() and not Path(other).exists():
                missing = Path(one).relative_to(mine).parts[0]
                raise UnknownError(f"{pair.place} is a path below {missing!r}, which is not in code_paths")
            return True
    return False


def _roots() -> Iterator[tuple[str, str]]:
    """Where modules of the author's lie that are in no package, or their packages, and where those of models do."""
    copies = [name for name in sys.modules if name.startswith(MODULE_PREFIX) and name.count(".") == 1]
    for name in copies:
        mine, copied = (_root_of(sys.modules.get(each)) for each in (plain_name(name), name))
        if mine is not None and copied is not None:
            yield from ((str(a), str(b)) for a in {mine, mine.resolve()} for b in {copied, copied.resolve()})


def _root_of(module: ModuleType | None) -> Path | None:
    folders = list(getattr(module, "__path__", ()))
    place = folders[0] if folders else getattr(module, "__file__", None)
    return Path(place).absolute().parent if place else None
