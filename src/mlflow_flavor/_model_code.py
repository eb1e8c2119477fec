"""Runs a model's script: a module name that every process agrees on, own helpers for each model, no global left behind.

The module is called `workflows_model_<16 hex>` after the bytes of the script and of its `code/` tree, so that events in
a serialised context can be found again by any process that holds the same model. Modules of `code/` live below that
name: two models may each bring a `helpers.py`, and neither sees the other's.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import threading
import weakref
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow_flavor._arguments import required_workflow
from mlflow_flavor._compat import invalid
from mlflow_flavor._compat_models import check_model_code_allowed, model_config_of_script
from mlflow_flavor._model_imports import MODULE_PREFIX, ModelLoader, ScriptImport, StandIn, finder, top_level_names
from workflows import Workflow

__all__ = [
    "MODULE_PREFIX",
    "ModelCode",
    "code_of",
    "config",
    "digest_of",
    "imported_modules",
    "module_of_model",
    "modules_of_model",
    "parsed",
    "prompts_of",
    "refuse_in_script",
    "set_model",
    "source_digest",
]

DIGEST_CHARS = 16
MODULES = "__model_modules__"
PROMPTS = "__model_prompts__"

# One script runs at a time: `mlflow.models.ModelConfig` reads a process-wide variable, and names are handed out here.
FLAVOR = __name__.partition(".")[0]

_running = threading.RLock()
_slot = threading.local()


@dataclass(slots=True)
class Slot:
    """Where a running script puts its workflow, and finds its configuration."""

    label: str
    config: Mapping[str, Any]
    found: list[Workflow] = field(default_factory=list[Workflow])
    logs: bool = False
    prompts: dict[str, str | None] = field(default_factory=dict[str, "str | None"])

    def set_model(self, model: object) -> None:
        self.found.append(required_workflow(model, f"{self.label}: set_model()"))

    def read_config(self, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What `config()` gives in the script's modules, also when a step calls it long after the script has run."""
        return {**(defaults or {}), **self.config}

    def taken(self) -> Workflow:
        """The workflow, which the script's modules then hold no more by this slot."""
        if self.logs:  # also where the script went on after the refusal
            raise self.refusal()
        match self.found:
            case [workflow]:
                self.found = []
                return workflow
            case []:
                raise invalid(f"{self.label} ran but never called mlflow.models.set_model(<Workflow instance>).")
            case _:
                raise invalid(f"{self.label} called set_model() {len(self.found)} times. A model is one workflow.")

    def refusal(self) -> Exception:
        """The error for a script that logs or saves a model while it runs as one."""
        return invalid(
            f"{self.label} logs or saves a model when it is run, and each load of it would do so again: do that in "
            'another file, or under `if __name__ == "__main__":`.'
        )


def refuse_in_script() -> None:
    """Refuse to log a model where a script is running as one.

    Raises:
        MlflowException: If it is; the script is then no model, whatever it does next.
    """
    slot: Slot | None = getattr(_slot, "current", None)
    if slot is not None:
        slot.logs = True
        raise slot.refusal()


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
    return (slot or Slot("the script", {})).read_config(defaults)


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
        own = frozenset(top_level_names(self.code))
        found = {name for tree in self.trees() for name in imported_modules(tree)}
        return {name for name in found if name.partition(".")[0] not in own}

    def trees(self) -> Iterator[ast.Module]:
        """The code of the script and its helpers, but for files there that are no Python: templates of some, say."""
        for file in (self.script, *(self.code.rglob("*.py") if self.code is not None else ())):
            if (tree := parsed(file)) is not None:
                yield tree

    def run(self, model_config: Mapping[str, Any] | None = None) -> Workflow:
        """Run the script and give the workflow that it set; each call makes a new one, whose modules go with it.

        Raises:
            MlflowException: If the script sets no workflow, or several, or cannot be run, or must not be.
        """
        check_model_code_allowed()
        slot = Slot(self.label, dict(model_config or {}))
        with _running, model_config_of_script(slot.config):
            name = self._free_name()
            with ExitStack() as undo:
                undo.callback(_forget, name)
                with _current(slot), self._explained():
                    self._execute(name, slot)
                workflow = _owned(name, slot.taken())
                undo.pop_all()
            vars(workflow)[PROMPTS] = slot.prompts
            return workflow

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Say of what the script raises that it was a model that did."""
        try:
            yield
        except ImportError as error:
            raise invalid(self._cannot_import(error)) from error
        except SyntaxError as error:
            if error.filename is None or not self._has(Path(error.filename)):
                raise
            raise invalid(self._is_no_python(Path(error.filename), error)) from error
        except SystemExit as error:
            raise invalid(
                f"{self.label} raised SystemExit({error.code}) when it was run as a model: that would end whatever "
                "loads it. A model reads no command line; mlflow_flavor.config() gives it its settings."
            ) from error
        except Exception as error:
            with suppress(Exception):  # some take no notes: a frozen dataclass, say
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
        importer = ScriptImport(name, self.code, slot.set_model, slot.read_config, slot.prompts.__setitem__)
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

    def _has(self, file: Path) -> bool:
        return file == self.script or (self.code is not None and file.is_relative_to(self.code))

    def _is_no_python(self, file: Path, error: SyntaxError) -> str:
        name = self.label if self.code is None or file == self.script else file.relative_to(self.code).as_posix()
        return f"{name}: line {error.lineno} is no valid Python ({error.msg}): {(error.text or '').strip()}"

    def _cannot_import(self, error: ImportError) -> str:
        if error.name is None or not isinstance(error, ModuleNotFoundError):
            return f"{self.label} could not be imported: {error}."
        missing = error.name.partition(".")[2] if error.name.startswith(MODULE_PREFIX) else error.name
        top = missing.partition(".")[0]
        if top in top_level_names(self.code) and not error.name.startswith(MODULE_PREFIX):
            return (
                f"{self.label} could not import '{missing}': the model has it, but another library asked for it, to "
                f"whom it is called otherwise. Import it in the model, and give that library its {top}.__name__."
            )
        return f"{self.label} could not import '{missing}'. If it is a local file, pass code_paths=['{top}.py']."


@contextmanager
def _current(slot: Slot) -> Generator[None]:
    outer: Slot | None = getattr(_slot, "current", None)
    _slot.current = slot
    try:
        yield
    finally:
        _slot.current = outer


def _owned(name: str, workflow: Workflow) -> Workflow:
    """The workflow, which holds its modules, and with whose end they are forgotten; else every load would leave some.

    `sys.modules` gets stand-ins that do not hold them: the script's variables may hold the workflow, however they like.
    """
    modules = {module: sys.modules[module] for module in _modules_of(name)}
    sys.modules.update({module: StandIn(found) for module, found in modules.items()})
    vars(workflow)[MODULES] = modules
    weakref.finalize(workflow, _forget, name).atexit = False
    return workflow


def modules_of_model(workflow: Workflow) -> dict[str, ModuleType]:
    """The modules of the script that set a workflow, and of its helpers, by their own names; the script's is empty."""
    modules: dict[str, ModuleType] = vars(workflow).get(MODULES, {})
    return {name.partition(".")[2]: module for name, module in modules.items()}


def module_of_model(workflow: Workflow) -> str | None:
    """The name of the module that a model's script was run as which set a workflow; None of one that no script set."""
    return min(vars(workflow).get(MODULES, {}), key=len, default=None)


def digest_of(module: str) -> str:
    """The digest in the name of a model's module, whatever number its load got."""
    return module.removeprefix(MODULE_PREFIX)[:DIGEST_CHARS]


def prompts_of(workflow: Workflow) -> dict[str, str | None]:
    """The prompts that a model's code has loaded so far: by URI, as `load_prompt` was given it, the version."""
    return dict(vars(workflow).get(PROMPTS, {}))


def _modules_of(name: str) -> list[str]:
    return [m for m in sys.modules.copy() if m == name or m.startswith(f"{name}.")]  # other threads load, too


def _forget(name: str) -> None:
    finder.importers.pop(name, None)
    for module in _modules_of(name):
        sys.modules.pop(module, None)


def parsed(file: Path) -> ast.Module | None:
    """The code in a file; None if that is no Python, which is nobody's business until it is run."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the latter of a null byte
        return None


def code_of(module: ModuleType) -> ast.Module | None:
    """The code that a module was imported from; None where that is no file of Python's."""
    file = Path(str(getattr(module, "__file__", "")))
    return parsed(file) if file.suffix == ".py" and file.is_file() else None


def imported_modules(tree: ast.AST, package: str = "") -> Iterator[str]:
    """The modules that are imported anywhere in some code; a name from one is called as if it were a module too.

    Those that are imported by relative names are among them if the code's `package` is given.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level and package:
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{alias.name}" for alias in node.names)
