"""Resources: what a step needs beside its event, made by a factory or read from a file.

async def step(self, ev: StartEvent, db: Annotated[Database, Resource(open_database)]) -> StopEvent: ...
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from inspect import isasyncgen, isawaitable, isgenerator
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

from pydantic import BaseModel, ConfigDict

from workflows._kept_contexts import is_context
from workflows._resource_needs import Need, check_needs, needs_of, resource_key
from workflows._resource_store import Made, ResourceStore
from workflows.errors import ResourceError

__all__ = [
    "Resource",
    "ResourceConfig",
    "ResourceDefinition",
    "ResourceDescriptor",
    "ResourceError",
    "ResourceManager",
]

Scope = Literal["workflow", "run"]


@runtime_checkable
class ResourceDescriptor(Protocol):
    """What may stand in `Annotated[T, ...]` of a step's parameter."""

    @property
    def name(self) -> str:
        """Under which `ResourceManager.set` can replace it."""
        ...

    @property
    def cache(self) -> bool:
        """Whether one value serves every step that asks."""
        ...

    async def resolve(self, manager: ResourceManager) -> Any:
        """A new value; `await manager.get(...)` gives what it needs in turn."""
        ...

    def set_type_annotation(self, type_annotation: Any) -> None:
        """Told the `T` of `Annotated[T, ...]`."""
        ...

    def set_localns(self, localns: dict[str, Any] | None) -> None:
        """Told the local names where the step is defined."""
        ...

    def get_dependencies(self) -> list[tuple[str, ResourceDescriptor, Any]]:
        """What it needs in turn: parameter, descriptor, annotated type."""
        ...


class ResourceDefinition(BaseModel):
    """A step's parameter that is filled from a resource."""

    model_config = ConfigDict(arbitrary_types_allowed=True, defer_build=True)  # for a quick `import workflows`

    name: str
    resource: ResourceDescriptor
    type_annotation: Any = None


class Resource:
    """A step's parameter that a factory makes: `Annotated[T, Resource(factory)]`.

    The factory may be a function, a coroutine function or a class; its own parameters may be resources. A value that
    is a context manager is entered, and left when its time is over: at the end of the run, or of the workflow
    (`Workflow.aclose()`, or the end of the event loop) where it is cached. So is what a generator function yields.

    Args:
        factory: Makes the value; called without arguments, but for parameters that are resources themselves.
        cache: One value for all steps that ask; False makes a new one for each attempt of a step.
        scope: How far a cached value reaches: all runs of a workflow instance, or each run its own.
        enter: False leaves a context manager as it is; locks are never entered.

    Raises:
        ResourceError: If the factory cannot be called.
    """

    is_workflow_resource = True

    def __init__(
        self,
        factory: Callable[..., Any],
        cache: bool = True,
        *,
        scope: Scope = "workflow",
        enter: bool = True,
    ) -> None:
        if not callable(factory):
            raise ResourceError(f"Resource needs a function that makes the value, got {factory!r}.")
        if scope not in ("workflow", "run"):
            raise ResourceError(f"Resource scope must be 'workflow' or 'run', got {scope!r}.")
        self.factory = factory
        self.cache = cache
        self.scope: Scope = scope
        self.enter = enter
        self._localns: dict[str, Any] = {}
        self._needs: tuple[Need, ...] | None = None

    @property
    def name(self) -> str:
        """The factory's qualified name; `ResourceManager.set(name, value)` replaces the value."""
        return getattr(self.factory, "__qualname__", None) or type(self.factory).__qualname__

    @property
    def needs(self) -> tuple[Need, ...]:
        """The factory's parameters that are resources.

        Raises:
            ResourceError: If an annotation names something that cannot be found.
        """
        if self._needs is None:
            try:
                found = needs_of(self.factory, self._localns)
            except NameError as error:
                raise ResourceError(
                    f"Resource {self.name}: the factory's annotations name {error.name!r}, which is not defined where "
                    f"the factory is. Define or import it above."
                ) from error
            for need in found:
                need.resource.set_localns(self._localns)
            self._needs, self._localns = found, {}
        return self._needs

    def set_type_annotation(self, type_annotation: Any) -> None:
        """Ignored: the factory decides the type."""

    def set_localns(self, localns: dict[str, Any] | None) -> None:
        """Local names that the factory's annotations may mention; kept until those are read, before the first run."""
        if self._needs is None:
            self._localns = localns or {}

    def get_dependencies(self) -> list[tuple[str, ResourceDescriptor, Any]]:
        """What the factory needs in turn: parameter, descriptor, annotated type."""
        return [(need.parameter, need.resource, need.type_annotation) for need in self.needs]

    async def resolve(self, manager: Resolves) -> Any:
        """What the factory makes; a context manager is not entered yet."""
        arguments = {need.parameter: await manager.get(need.resource, need.type_annotation) for need in self.needs}
        made = self.factory(**arguments)
        if isawaitable(made):
            made = await made
        if self.enter and isasyncgen(made):
            return asynccontextmanager(lambda: cast("AsyncGenerator[Any]", made))()
        if self.enter and isgenerator(made):
            return contextmanager(lambda: cast("Generator[Any]", made))()
        return made


class ResourceConfig:
    """A step's parameter that is read from a JSON file into a pydantic model: `Annotated[Model, ResourceConfig(file)]`.

    Args:
        config_file: Path of the file, relative to the working directory.
        path_selector: Dot path to the object in the file; None is the whole file.
        label: Name in drawings.
        description: Text in drawings.

    Raises:
        ResourceError: If the file's name does not end in `.json`.
    """

    is_workflow_resource = True
    cache = True
    enter = False

    def __init__(
        self,
        config_file: str,
        path_selector: str | None = None,
        label: str | None = None,
        description: str | None = None,
    ) -> None:
        if Path(config_file).suffix != ".json":
            raise ResourceError(f"ResourceConfig reads JSON files: {config_file!r} does not end in '.json'.")
        self.config_file = str(config_file)
        self.path_selector = path_selector
        self.label = label
        self.description = description
        self._type_annotation: Any = None

    @property
    def name(self) -> str:
        """File and selector, joined by a dot."""
        return ".".join(part for part in (self.config_file, self.path_selector) if part)

    def set_type_annotation(self, type_annotation: Any) -> None:
        """The model to read into, where the parameter's annotation does not say it."""
        self._type_annotation = type_annotation

    def set_localns(self, localns: dict[str, Any] | None) -> None:
        """Ignored: a file mentions no names."""

    def get_dependencies(self) -> list[tuple[str, ResourceDescriptor, Any]]:
        """Nothing."""
        return []

    async def resolve(self, manager: Resolves) -> Any:
        """The model, read anew."""
        return await asyncio.to_thread(self.read, self._type_annotation)

    def read(self, type_annotation: Any = None) -> Any:
        """The model, read anew; without a model class the plain dictionary.

        Raises:
            FileNotFoundError: If there is no such file.
            ResourceError: If it is no JSON, or the selector does not lead to an object.
            pydantic.ValidationError: If the object does not fit the model.
        """
        model = type_annotation or self._type_annotation
        found = self._selected()
        if isinstance(model, type) and issubclass(model, BaseModel):
            return model.model_validate(found)
        return found

    def _selected(self) -> dict[str, Any]:
        import json  # few workflows read files

        where = f"ResourceConfig {self.config_file!r}"
        try:
            found: Any = json.loads(Path(self.config_file).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                error.errno, f"{where}: no such file, seen from {Path.cwd()}", self.config_file
            ) from error
        except ValueError as error:
            raise ResourceError(f"{where} is no JSON: {error}.") from error
        for part in self.path_selector.split(".") if self.path_selector is not None else ():
            found = cast("dict[str, Any]", found).get(part) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            at = f" at path {self.path_selector!r}" if self.path_selector is not None else ""
            raise ResourceError(f"{where}: an object is expected{at}, found {type(found).__name__}.")
        return cast("dict[str, Any]", found)


class Resolves(Protocol):
    """What a descriptor's `resolve` is given."""

    async def get(self, resource: Any, type_annotation: Any = None) -> Any:
        """The value of another resource."""
        ...


class ResourceManager:
    """The cached resources of a workflow instance; give one to several workflows to share them.

    Values are known by their factory itself, not by its name: two closures of one function are two resources.
    """

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}
        self._store = ResourceStore()
        weakref.finalize(self, self._store.let_go).atexit = False

    async def set(self, name: str, val: Any) -> None:
        """Use this value for every resource of that name, instead of what its factory would make."""
        self._given[name] = val

    async def get(self, resource: ResourceDescriptor, type_annotation: Any = None) -> Any:
        """The value of a resource; made if need be.

        Raises:
            ResourceError: If it needs itself, or its annotations cannot be read.
            Exception: What its factory raises.
        """
        check_needs(resource)
        scope = _open_scope.get()
        if scope is None or scope.manager is not self:
            scope = _Resolution(self, None, self._store)
        return await scope.get(resource, type_annotation)

    def get_all(self) -> dict[str, Any]:
        """Every cached and every given value by name."""
        return {**{made.name: made.value for made in self._store.values.values()}, **self._given}

    @contextmanager
    def resolution_scope(self) -> Generator[None]:
        """Within it, a resource without cache is made once and shared."""
        token = _open_scope.set(_Resolution(self, None, self._store))
        try:
            yield
        finally:
            _open_scope.reset(token)

    async def aclose(self) -> None:
        """Leave every context manager that is still open and forget every cached value; they are made anew then."""
        await self._store.aclose()

    def without_cached(self) -> ResourceManager:
        """A manager with the same given values, and nothing cached yet."""
        made = ResourceManager()
        made._given.update(self._given)
        return made

    def resolution(self, run: ResourceStore) -> Resolves:
        """What resolves the parameters of one attempt of a step."""
        return _Resolution(self, run, run)


class _Resolution:
    """Resolves for one attempt of a step, or for one cached resource: what it makes lives as long as `owner`."""

    def __init__(self, manager: ResourceManager, run: ResourceStore | None, owner: ResourceStore) -> None:
        self.manager, self._run, self._owner = manager, run, owner
        self._shared = ResourceStore()

    async def get(self, resource: Any, type_annotation: Any = None) -> Any:
        given = self.manager._given  # pyright: ignore[reportPrivateUsage]  # one class in two halves
        if resource.name in given:
            return given[resource.name]
        inner, store = self, self._shared
        if resource.cache:
            workflow = self.manager._store  # pyright: ignore[reportPrivateUsage]
            per_run = getattr(resource, "scope", "workflow") == "run" and self._run is not None
            owner = cast(ResourceStore, self._run) if per_run else workflow
            inner, store = _Resolution(self.manager, self._run if per_run else None, owner), owner
        return await store.get(resource_key(resource, type_annotation), lambda: inner._made(resource, type_annotation))

    async def _made(self, resource: Any, type_annotation: Any) -> Made:
        if isinstance(resource, ResourceConfig):
            return Made(resource.name, await asyncio.to_thread(resource.read, type_annotation), None, resource)
        value = await resource.resolve(self)
        if not getattr(resource, "enter", True) or not is_context(value):
            return Made(resource.name, value, None, resource)
        entered, context = await self._owner.enter(value, resource.name)
        # A TemporaryDirectory gives its path when it is entered, but who asks for the directory gets the directory.
        itself = _is_a(value, type_annotation) and not _is_a(entered, type_annotation)
        return Made(resource.name, value if itself else entered, context, resource)


# Our fifth ContextVar: `resolution_scope()` is public API and reaches `get` without an argument.
_open_scope: ContextVar[_Resolution | None] = ContextVar("workflows_resource_scope", default=None)


def _is_a(value: Any, kind: Any) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # no class, or one that cannot be asked
        return False
