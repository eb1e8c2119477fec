"""Runs a model's script: a module name that every process agrees on, own helpers for each model, no global left behind.

The module is called `workflows_model_<16 hex>` after the bytes of the script and of its `code/` tree, so that events in
a serialised context can be found again by any process that holds the same model. Modules of `code/` live below that
name: two models may each bring a `helpers.py`, and neither sees the other's. That works by the `__import__` which the
script's own `__builtins__` hold; nothing of Python's or MLflow's is patched.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.util
import sys
import threading
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import mlflow
import mlflow.models

from mlflow_flavor._compat import invalid
from mlflow_flavor._compat_models import check_model_code_allowed, model_config_of_script
from workflows import Workflow

__all__ = ["MODULE_PREFIX", "ModelCode", "config", "set_model", "source_digest"]

MODULE_PREFIX = "workflows_model_"
DIGEST_CHARS = 16

# One script runs at a time: `mlflow.models.ModelConfig` reads a process-wide variable, and names are handed out here.
_running = threading.RLock()
_slot = threading.local()


@dataclass(slots=True)
class Slot:
    """Where a running script puts its workflow, and finds its configuration."""

    label: str
    config: Mapping[str, Any]
    found: list[Workflow] = field(default_factory=list[Workflow])

    def set_model(self, model: object) -> None:
        if isinstance(model, type):
            raise invalid(
                f"{self.label}: set_model() needs a Workflow instance, got type {model.__name__}: "
                f"call it ({model.__name__}())."
            )
        if not isinstance(model, Workflow):
            raise invalid(f"{self.label}: set_model() needs a Workflow instance, got {type(model).__name__}.")
        self.found.append(model)

    def taken(self) -> Workflow:
        """The workflow, which the script's modules then hold no more by this slot."""
        match self.found:
            case [workflow]:
                self.found = []
                return workflow
            case []:
                raise invalid(f"{self.label} ran but never called mlflow.models.set_model(<Workflow instance>).")
            case _:
                raise invalid(f"{self.label} called set_model() {len(self.found)} times. A model is one workflow.")


def set_model(workflow: Workflow) -> None:
    """Say in a model script which workflow is the model; `mlflow.models.set_model()` does the same there.

    It works as well where the script is run as a program (`python agent.py`): there it only checks its argument, while
    `mlflow.models.set_model()` raises, because MLflow does not know this kind of model.

    Raises:
        MlflowException: If it is not an instance of `Workflow`.
    """
    slot: Slot | None = getattr(_slot, "current", None)
    (slot or Slot("the script", {})).set_model(workflow)


def config(defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of the model script that runs: `defaults`, overlaid by the model's own `model_config`.

    Unlike `mlflow.models.ModelConfig` it has defaults, and works when the model has no configuration.
    """
    slot: Slot | None = getattr(_slot, "current", None)
    return {**(defaults or {}), **(slot.config if slot is not None else {})}


def source_digest(script: Path, code: Path | None) -> str:
    """SHA-256 over a script and the tree of its helpers: sorted relative paths and bytes, compiled files left out."""
    digest = hashlib.sha256()
    for name, path in [("workflow.py", script), *_tree(code)]:
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _tree(code: Path | None) -> Iterator[tuple[str, Path]]:
    if code is None:
        return
    files = {path.relative_to(code).as_posix(): path for path in code.rglob("*") if path.is_file()}
    for name in sorted(files):
        if "__pycache__" not in name.split("/") and not name.endswith(".pyc"):
            yield f"code/{name}", files[name]


@dataclass(frozen=True, slots=True)
class ModelCode:
    """A model's script and helpers on disk.

    Attributes:
        script: The script.
        code: The directory of its helpers, if it has any.
        label: What errors call the script.
    """

    script: Path
    code: Path | None
    label: str

    @property
    def sha256(self) -> str:
        """The digest that names the script's module."""
        return source_digest(self.script, self.code)

    def imports(self) -> set[str]:
        """The modules that the script and its helpers import, wherever in them; the helpers themselves left out."""
        own = frozenset(_top_level_names(self.code))
        scripts = [self.script, *(self.code.rglob("*.py") if self.code is not None else ())]
        trees = (ast.parse(script.read_bytes()) for script in scripts)
        found = {name for tree in trees for node in ast.walk(tree) for name in _imported(node)}
        return {name for name in found if name.partition(".")[0] not in own}

    def run(self, model_config: Mapping[str, Any] | None = None) -> Workflow:
        """Run the script and give the workflow that it set; each call makes a new one, whose modules go with it.

        Raises:
            MlflowException: If the script sets no workflow, or several, or cannot be run, or must not be.
        """
        check_model_code_allowed()
        slot = Slot(self.label, dict(model_config or {}))
        with _running, model_config_of_script(slot.config):
            name = self._free_name()
            try:
                with _current(slot):
                    self._execute(name, slot)
                return _owned(name, slot.taken())
            except ImportError as error:
                _forget(name)
                raise invalid(self._cannot_import(error)) from error
            except Exception as error:
                _forget(name)
                error.add_note(f"It was raised while {self.label} ran as a model.")
                raise

    def _free_name(self) -> str:
        name = stem = MODULE_PREFIX + self.sha256[:DIGEST_CHARS]
        number = 1
        while name in sys.modules:
            number += 1
            name = f"{stem}_{number}"
        return name

    def _execute(self, name: str, slot: Slot) -> None:
        importer = ScriptImport(name, self.code, slot)
        finder.importers[name] = importer
        if finder not in sys.meta_path:
            sys.meta_path.insert(0, finder)
        loader = ModelLoader(name, str(self.script), importer)
        spec = importlib.util.spec_from_file_location(
            name, self.script, loader=loader, submodule_search_locations=[str(self.code)] if self.code else None
        )
        assert spec is not None, "a spec with a loader is always made"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)

    def _cannot_import(self, error: ImportError) -> str:
        if error.name is None or not isinstance(error, ModuleNotFoundError):
            return f"{self.label} could not be imported: {error}."
        missing = error.name.partition(".")[2] if error.name.startswith(MODULE_PREFIX) else error.name
        return (
            f"{self.label} could not import '{missing}'. "
            f"If it is a local file, pass code_paths=['{missing.partition('.')[0]}.py']."
        )


@contextmanager
def _current(slot: Slot) -> Generator[None]:
    outer: Slot | None = getattr(_slot, "current", None)
    _slot.current = slot
    try:
        yield
    finally:
        _slot.current = outer


def _owned(name: str, workflow: Workflow) -> Workflow:
    """The workflow, with whose end its modules are forgotten; else every load would leave some behind.

    The script's own variables must not keep it: they are made to refer to it weakly, which its code cannot tell.
    """
    for module in _modules_of(name):
        variables = vars(sys.modules[module])
        for variable in [key for key, value in variables.items() if value is workflow]:
            variables[variable] = weakref.proxy(workflow)
    weakref.finalize(workflow, _forget, name).atexit = False
    return workflow


def _modules_of(name: str) -> list[str]:
    return [m for m in sys.modules if m == name or m.startswith(f"{name}.")]


def _forget(name: str) -> None:
    finder.importers.pop(name, None)
    for module in _modules_of(name):
        del sys.modules[module]


class ScriptImport:
    """`__import__` as a model's script and helpers have it.

    A name that the model's `code/` directory provides is that model's own module; `mlflow` is a view of MLflow whose
    `models.set_model` fills this script's slot; everything else is Python's business.
    """

    def __init__(self, package: str, code: Path | None, slot: Slot) -> None:
        self._package = package
        self._local = frozenset(_top_level_names(code))
        models = ModuleView(mlflow.models, {"set_model": slot.set_model})
        self._views = {"mlflow": ModuleView(mlflow, {"models": models}), "mlflow.models": models}

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or (top != "mlflow" and top not in self._local):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if top in self._local:
            module = builtins.__import__(f"{self._package}.{name}", globals, locals, fromlist or (), 0)
            return module if fromlist else sys.modules[f"{self._package}.{top}"]
        module = builtins.__import__(name, globals, locals, fromlist or (), 0)
        view: ModuleType | None = self._views.get(name if fromlist else "mlflow")
        return view if view is not None else module

    def builtins(self) -> dict[str, Any]:
        """What `__builtins__` is in the model's modules."""
        return {**vars(builtins), "__import__": self}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _top_level_names(code: Path | None) -> Iterator[str]:
    if code is None:
        return
    for path in code.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            yield path.name
        elif path.suffix == ".py":
            yield path.stem


class ModuleView(ModuleType):
    """A module with some of its names replaced, for one reader; the module itself is left as it is."""

    def __init__(self, module: ModuleType, replaced: Mapping[str, object]) -> None:
        super().__init__(module.__name__, module.__doc__)
        vars(self).update(
            {"__spec__": module.__spec__, "__loader__": module.__loader__, "__package__": module.__package__}
        )
        vars(self).update(replaced, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_module"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(vars(self)["_module"], name, value)

    def __dir__(self) -> list[str]:
        return dir(vars(self)["_module"])


class ModelLoader(SourceFileLoader):
    """Loads a module of a model with that model's own `__import__`; leaves no compiled file in the artifact."""

    def __init__(self, fullname: str, path: str, importer: ScriptImport) -> None:
        super().__init__(fullname, path)
        self._importer = importer

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._importer.builtins()
        super().exec_module(module)


class ModelFinder(MetaPathFinder):
    """Finds the modules below `workflows_model_<sha>`; everything else is left to the finders after it."""

    def __init__(self) -> None:
        self.importers: dict[str, ScriptImport] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith(MODULE_PREFIX):
            return None
        importer = self.importers.get(fullname.partition(".")[0])
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and importer is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = ModelLoader(fullname, spec.loader.path, importer)
            spec.cached = None
        return spec


finder = ModelFinder()
