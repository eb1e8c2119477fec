"""`workflows` under its other name: `llama_agents.workflows.events` is the very module `workflows.events`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from workflows import Context, Workflow, catch_error, step

__all__ = ["Context", "Workflow", "catch_error", "step"]


class _SameModules(MetaPathFinder):
    """Finds `llama_agents.workflows.X` as `workflows.X`; loaded twice, its classes would not be the same classes."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        above, _, name = fullname.partition(f"{__name__}.")
        if above or not name or find_spec(f"workflows.{name}") is None:
            return None
        return ModuleSpec(fullname, _SameModule(f"workflows.{name}"))


class _SameModule(Loader):
    """Gives a module that exists, as it is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has put that of the alias in its place


sys.meta_path.insert(0, _SameModules())
