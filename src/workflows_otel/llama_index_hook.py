"""`llama_index=True`: our reader of llama-index's calls, in place once that package is there, and not before.

Nothing of llama-index is imported for it. Where the package is not loaded yet, `begin` waits in the import system for
the one module in which handlers are registered.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["begin", "end"]

LIBRARY = "llama_index_instrumentation"
READER = "workflows_otel.llama_index_reader"  # imports the library, so that it is imported by its name

logger = logging.getLogger("workflows.otel")


def begin() -> None:
    """Draw llama-index's calls from now on, or from when it is loaded; called again it does nothing."""
    if _is_loaded():
        import_module(READER).begin()
    elif _arrival not in sys.meta_path:
        sys.meta_path.insert(0, _arrival)


def end() -> None:
    """Draw no more of them; calls under way are drawn to their end."""
    if _arrival in sys.meta_path:
        sys.meta_path.remove(_arrival)
    if (reader := sys.modules.get(READER)) is not None:
        reader.end()


def _is_loaded() -> bool:
    module = sys.modules.get(LIBRARY)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


class _Arrival(MetaPathFinder):
    """Finds no module, but sees the library being looked for, and begins when it has been loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The library's own spec, whose loader tells when it is done."""
        if fullname != LIBRARY:
            return None
        sys.meta_path.remove(self)  # the look below would come here again
        spec = find_spec(fullname)
        loader: Any = spec.loader if spec is not None else None
        if loader is None:  # not installed, and maybe later
            sys.meta_path.insert(0, self)
            return None
        load = loader.exec_module

        def load_and_begin(module: ModuleType) -> None:
            loader.exec_module = load
            load(module)
            try:
                import_module(READER).begin()
            except Exception:  # the guard around somebody's import, which must not fail by us
                logger.exception("calls of llama-index cannot be drawn")

        loader.exec_module = load_and_begin
        return spec


_arrival = _Arrival()
