"""Modules that are not installed, looked for once: MLflow looks for Databricks' with every request that it sends.

Looking for a module in vain takes longer than to send the request: a dozen attempts, each in all of `sys.path`.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["absence_remembered"]

LOOKED_FOR = frozenset({"IPython", "dbruntime", "pyspark"})

KEPT = 60.0
"""Seconds until a module that was absent is looked for again: it may have been installed."""


class AbsentModules(MetaPathFinder):
    """Says at once that a module of `LOOKED_FOR` is absent, to threads that asked for that and to nobody else."""

    def __init__(self) -> None:
        self.thread = threading.local()
        self._absent_since: dict[str, float] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in LOOKED_FOR or not getattr(self.thread, "remembers", False):
            return None
        since = self._absent_since.get(fullname)
        if since is None or time.monotonic() - since > KEPT:
            with self._looking():
                found = importlib.util.find_spec(fullname)
            if found is not None:
                return found
            self._absent_since[fullname] = time.monotonic()
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    @contextmanager
    def _looking(self) -> Generator[None]:
        self.thread.remembers = False
        try:
            yield
        finally:
            self.thread.remembers = True


_finder = AbsentModules()


@contextmanager
def absence_remembered() -> Generator[None]:
    """Inside the block, and in this thread, what MLflow looks for in vain is looked for once a minute."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.thread.remembers = True
    try:
        yield
    finally:
        _finder.thread.remembers = False
