"""Paths beside the author's modules, which a model's copies of these have beside themselves."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterator
from os.path import isabs, pardir, relpath
from pathlib import Path
from types import ModuleType

from mlflow_flavor._model_imports import MODULE_PREFIX
from mlflow_flavor._pairs import Pair, plain_name

__all__ = ["is_moved"]

MISSING = (
    "%s is the path of %s, and the model has nothing there: if the agent needs what is there, put it below a folder or "
    "package of code_paths"
)

_told: deque[tuple[str, str]] = deque(maxlen=1000)

logger = logging.getLogger("workflows.mlflow")


def is_moved(pair: Pair, one: str, other: str) -> bool:
    """Whether two texts name one place, as seen from where a module of the author's lies, and the model's copy does.

    What is there for the author, and not in the model, is told: a file of settings need not be there.
    """
    for mine, copied in _roots():
        within = copied in other and other.replace(copied, mine) == one
        if within or _is_same_from(mine, one, copied, other):
            mine_at, copied_at = (text[max(text.find(root), 0) :] for text, root in ((one, mine), (other, copied)))
            if Path(mine_at).exists() and not Path(copied_at).exists():
                _tell_missing(pair.place, mine_at, copied_at)
            return True
    return False


def _is_same_from(mine: str, one: str, copied: str, other: str) -> bool:
    """Whether two paths are the same from two folders: above these, or beside what is above."""
    if not (isabs(one) and isabs(other)):
        return False
    way = relpath(other, copied)
    return way.startswith(pardir) and way == relpath(one, mine)


def _tell_missing(place: str, one: str, other: str) -> None:
    """Say it once for each model, by the first place: it is compared more than once, and several may hold the path."""
    if (one, other) not in _told:
        _told.append((one, other))
        logger.warning(MISSING, place, one)


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
