"""Reads a snapshot into a model: rebuilds the classes of its code and of what that imports from, and no others."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from mlflow_flavor._kinds import is_a
from mlflow_flavor._model_code import DIGEST_CHARS, MODULE_PREFIX, code_of, imported_modules, module_of_model
from workflows import Workflow, events
from workflows.context.class_names import may_be_rebuilt
from workflows.context.model_forms import is_component
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.events import Event

__all__ = ["ModelSerializer", "home_of", "model_serializer", "modules_of", "of_this_load"]

# A step may name them in its body alone, where it waits for one.
_ENGINES_EVENTS = {
    f"{c.__module__}.{c.__qualname__}": c
    for c in vars(events).values()
    if isinstance(c, type) and issubclass(c, Event) and c.__module__ == events.__name__
}

_MODEL_MODULE = re.compile(rf"{MODULE_PREFIX}(?P<digest>[0-9a-f]{{{DIGEST_CHARS}}})(?:_\d+)?(?P<rest>\..*)?")


def model_serializer(workflow: Workflow) -> BaseSerializer:
    """What reads a snapshot into this workflow; a serializer of another kind, which its author chose, stays."""
    own = workflow.serializer
    return ModelSerializer(workflow, own) if type(own) is JsonSerializer else own


class ModelSerializer(JsonSerializer):
    """JSON that rebuilds a workflow's own classes, whatever number its model's module got in this process.

    Those of packages that the model's code imports from as well: messages and memories of llama-index, say, or the
    types of a model's client. Where it is not closed, it rebuilds every class of plain data that is loaded.
    """

    def __init__(self, workflow: Workflow, like: JsonSerializer, *, closed: bool = True) -> None:
        super().__init__()
        vars(self).update(vars(like), _closed=closed)
        self._home = home_of(workflow)
        self._module = self._home.partition(".")[0]
        self._of_class = frozenset(map(_package, type(workflow).__mro__))
        self._packages = self._of_class
        self._looked_at = 0

    def class_here(self, name: str) -> str:
        """The name of a class of this model, of whichever load of it."""
        theirs, ours = _MODEL_MODULE.fullmatch(name), _MODEL_MODULE.fullmatch(self._module)
        if theirs is None or ours is None or theirs["digest"] != ours["digest"]:
            return name
        return f"{self._module}{theirs['rest'] or ''}"

    def resolve_class(self, name: str) -> type:
        """The class of that name, in this model's module where it was in that of the model that wrote it.

        Raises:
            ValueError: If it is a class of another model, or of no model and of none of its packages.
        """
        here = self.class_here(name)
        known = _ENGINES_EVENTS.get(here) or self._types.get(here)
        if known is not None:
            return known
        if _MODEL_MODULE.fullmatch(name) is None:
            return self._of_no_model(name)
        if not here.startswith(self._module):
            raise ValueError(f"Class {name} belongs to another model than {self._module}: load that version.")
        found = _attribute(here) or _imported(here)
        if not _is_of_data(found):
            raise ValueError(f"Class {name} may not be rebuilt: it is no class of plain data of this model's script.")
        return cast("type", found)

    def loaded(self, name: str) -> object:
        """What a dotted name stands for, in this model's module where it was in another load of it; None if nothing."""
        theirs = _MODEL_MODULE.fullmatch(name)
        return _attribute(name if theirs is None else f"{self._module}{theirs['rest'] or ''}")

    def _imports_from(self, package: str) -> bool:
        if package not in self._packages and self._looked_at != len(sys.modules):  # steps may have imported more since
            self._packages = self._of_class.union(_packages_named(modules_of(self._home)))
            self._looked_at = len(sys.modules)
        return package in self._packages

    def _of_no_model(self, name: str) -> type:
        try:
            return super().resolve_class(name)
        except ValueError as error:
            found = self._of_its_packages(name)
            if found is not None:
                return found
            if not self._closed:
                raise
            short = name.rpartition(".")[2]
            raise ValueError(
                f"Class {name} may not be rebuilt: it is neither of this model's code nor of a package that this "
                f"imports from. Import {short} in the script, or give the workflow "
                f"serializer=JsonSerializer(allowed_types=[{short}])."
            ) from error

    def _of_its_packages(self, name: str) -> type | None:
        """A class of plain data of a package that the model's code imports from; a step may import its module later."""
        if not self._imports_from(name.partition(".")[0]):
            return None
        found = _attribute(name) or (_imported(name) if self._closed else None)
        return cast("type", found) if _is_of_data(found) and self._imports_from(_package(found)) else None


def modules_of(home: str) -> list[ModuleType]:
    """The loaded modules that hold a model's own code: the one of its workflow, and those below it."""
    loaded = sys.modules.copy()  # at once: a model that is collected meanwhile takes its modules with it
    return [module for name, module in loaded.items() if name == home or name.startswith(f"{home}.")]


def of_this_load(snapshot: dict[str, Any], workflow: Workflow) -> dict[str, Any]:
    """A snapshot that names the modules of this load of a model, whichever wrote it: not every serializer maps them."""
    home = module_of_model(workflow)
    ours = _MODEL_MODULE.fullmatch(home) if home is not None else None
    if home is None or ours is None:
        return snapshot
    others = re.compile(rf"\b{MODULE_PREFIX}{ours['digest']}(_\d+)?(?=[.\\\"])")
    return json.loads(others.sub(home, json.dumps(snapshot)))


def home_of(workflow: Workflow) -> str:
    """The module that a model's own code is in, and may be below; of any other workflow that of its class."""
    return module_of_model(workflow) or type(workflow).__module__


def _is_of_data(found: object) -> bool:
    """Whether something is a class that serializers write: of plain data, or a component of llama-index."""
    return may_be_rebuilt(found) or (isinstance(found, type) and is_component(cast("type[object]", found)))


def _packages_named(modules: list[ModuleType]) -> Iterator[str]:
    """The packages that modules import from, also within functions, and of what they hold."""
    for module in modules:
        for item in list(vars(module).values()):
            yield _package(item)
        if (tree := code_of(module)) is not None:
            for name in imported_modules(tree):
                yield name.partition(".")[0]


def _package(item: object) -> str:
    """The outermost package of a module, or of what is defined in one."""
    named = item.__name__ if is_a(item, ModuleType) else getattr(item, "__module__", None)
    return named.partition(".")[0] if isinstance(named, str) else ""


def _imported(name: str) -> object:
    """What a dotted name stands for whose module is not loaded yet: a step imports it, or something else does."""
    module = ""
    for part in name.split("."):
        module = f"{module}.{part}" if module else part
        if module not in sys.modules:
            try:
                import_module(module)
            except ImportError:  # of a class, which is no module
                break
    return _attribute(name)


def _attribute(name: str) -> object:
    """What a dotted name of a loaded module stands for."""
    module, _, path = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, head = module.rpartition(".")
        path = f"{head}.{path}"
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
