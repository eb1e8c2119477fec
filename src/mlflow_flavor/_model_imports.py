"""What `import` means in a model's own modules: its helpers are its own, whatever else has their names.

That works by the `__import__` which the modules' own `__builtins__` hold; nothing of Python's or MLflow's is patched.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.resources
import importlib.util
import io
import pickle
import pkgutil
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, cast

import mlflow

__all__ = ["MODULE_PREFIX", "ModelLoader", "ScriptImport", "StandIn", "finder", "prompt_uri", "top_level_names"]

MODULE_PREFIX = "workflows_model_"
PROMPT_SCHEME = "prompts:/"

# Functions that take the name of a module as their first argument.
BY_NAME = {
    importlib: ("import_module",),
    importlib.util: ("find_spec",),
    importlib.resources: (
        *("contents", "files", "is_resource", "open_binary", "open_text"),
        *("path", "read_binary", "read_text"),
    ),
    pkgutil: ("get_data", "resolve_name"),
}
MODULE_ARGUMENTS = ("name", "package", "anchor")


class ScriptImport:
    """`__import__` as a model's script and helpers have it.

    A name that the model's `code/` directory provides is that model's own module, also where `importlib` and `pkgutil`
    are given it as a string, and where `pickle` reads it; `mlflow` is a view of MLflow whose `models.set_model` fills
    this script's slot and whose `load_prompt` says what it loads; `mlflow_flavor` is one of ours whose `config` is this
    model's, also while its steps run; everything else is Python's business.
    """

    def __init__(
        self,
        package: str,
        code: Path | None,
        set_model: Callable[[object], None],
        config: Callable[..., dict[str, Any]],
        note_prompt: Callable[[str, str | None], None],
    ) -> None:
        self._package = package
        self._local = frozenset(top_level_names(code))
        models = ModuleView(importlib.import_module("mlflow.models"), {"set_model": set_model})  # not in mlflow-tracing
        flavor = ModuleView(sys.modules[__name__.partition(".")[0]], {"config": config})
        self._views = {
            "mlflow": PromptView(mlflow, {"models": models}, note_prompt),
            "mlflow.models": models,
            "mlflow_flavor": flavor,
        }
        if self._local:
            self._views |= self._views_of_importlib()

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or (top not in self._views and top not in self._local):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if top in self._local:
            module = builtins.__import__(f"{self._package}.{name}", globals, locals, fromlist or (), 0)
            return module if fromlist else sys.modules[f"{self._package}.{top}"]
        module = builtins.__import__(name, globals, locals, fromlist or (), 0)
        if fromlist and name.startswith("mlflow.genai"):
            return functools.reduce(getattr, name.split(".")[1:], cast("Any", self._views["mlflow"]))
        view: ModuleType | None = self._views.get(name if fromlist else top)
        return view if view is not None else module

    def builtins(self) -> dict[str, Any]:
        """What `__builtins__` is in the model's modules."""
        return {**vars(builtins), "__import__": self}

    def _views_of_importlib(self) -> dict[str, ModuleView]:
        found = {m.__name__: ModuleView(m, self._by_own_name(m, names)) for m, names in BY_NAME.items()}
        vars(found["importlib"]).update(util=found["importlib.util"], resources=found["importlib.resources"])
        return {**found, "pickle": ModuleView(pickle, self._unpickling())}

    def _unpickling(self) -> dict[str, object]:
        """What reads pickles: they name the classes of helpers as these were called where they were written."""
        own_name = self._own_name

        class Unpickler(pickle.Unpickler):
            def find_class(self, module_name: str, global_name: str, /) -> Any:
                return super().find_class(str(own_name(module_name)), global_name)

        def load(file: Any, **options: Any) -> Any:
            return Unpickler(file, **options).load()

        def loads(data: Any, /, **options: Any) -> Any:
            return Unpickler(io.BytesIO(data), **options).load()

        return {"Unpickler": Unpickler, "load": load, "loads": loads}

    def _by_own_name(self, module: ModuleType, names: Sequence[str]) -> dict[str, object]:
        return {name: self._renaming(getattr(module, name)) for name in names if hasattr(module, name)}

    def _renaming(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def by_own_name(*args: Any, **options: Any) -> Any:
            if not args and not options:  # `files()` is about the module that calls it
                args = (sys._getframe(1).f_globals["__name__"],)  # pyright: ignore[reportPrivateUsage]  # as `files()` does
            return function(
                *(self._own_name(a) for a in args[:1]),
                *(self._own_name(a) if str(args[0]).startswith(".") else a for a in args[1:]),
                **{key: self._own_name(v) if key in MODULE_ARGUMENTS else v for key, v in options.items()},
            )

        return by_own_name

    def _own_name(self, name: object) -> object:
        """The name that a module of the model's has in this process; anything else as it is."""
        if isinstance(name, str) and re.split("[.:]", name, maxsplit=1)[0] in self._local:
            return f"{self._package}.{name}"
        return name


def top_level_names(code: Path | None) -> Iterator[str]:
    """Names that a model's `code/` directory provides to `import`."""
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


class PromptView(ModuleView):
    """A view of MLflow, or of a module below it, whose `load_prompt` says which prompt it loads."""

    def __init__(
        self, module: ModuleType, replaced: Mapping[str, object], note: Callable[[str, str | None], None]
    ) -> None:
        super().__init__(module, replaced)
        vars(self)["_note"] = note

    def __getattr__(self, name: str) -> Any:
        found, note = super().__getattr__(name), vars(self)["_note"]
        if name == "load_prompt":

            @functools.wraps(found)
            def load_prompt(name_or_uri: str, version: object = None, *args: Any, **options: Any) -> Any:
                uri = prompt_uri(name_or_uri, version)
                note(uri, None)  # also where there is no such prompt
                prompt = found(name_or_uri, version, *args, **options)
                if prompt is not None:
                    note(uri, f"{PROMPT_SCHEME}{prompt.name}/{prompt.version}")
                return prompt

            return load_prompt
        return PromptView(found, {}, note) if name in ("genai", "prompts") and isinstance(found, ModuleType) else found


def prompt_uri(name: str, version: object = None) -> str:
    """What `load_prompt(name, version)` loads, as one text."""
    if name.startswith(PROMPT_SCHEME):
        return name
    return f"{PROMPT_SCHEME}{name}" + ("@latest" if version is None else f"/{version}")


class StandIn(ModuleType):
    """A module as `sys.modules` has it, which does not keep it: what is read and set there is the module's."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        own: dict[str, object] = object.__getattribute__(vars(ModuleType)["__dict__"], "__get__")(self)
        own.clear()
        own["_module"] = weakref.ref(module)

    @property
    def __dict__(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]  # it is read-only
        return vars(self._found())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._found(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._found(), name)

    def __dir__(self) -> list[str]:
        return dir(self._found())

    def _found(self) -> ModuleType:
        module: ModuleType | None = object.__getattribute__(self, "_module")()
        if module is None:
            raise AttributeError("The workflow that this module belongs to is gone.")
        return module


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
