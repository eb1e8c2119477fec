"""`tool`, `llm_call` and `retriever`: decorators, and context managers, for what happens inside a step."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.marks import MarkedArguments
from workflows_otel.calls import Call, CallKind
from workflows_otel.drawn_streams import Start, async_generator_of, generator_of, given_back, is_old_coroutine
from workflows_otel.errors import TelemetrySetupError

__all__ = ["Wrapping", "llm_call", "retriever", "tool"]

P = ParamSpec("P")
R = TypeVar("R")


class Wrapping:
    """A decorator that makes each call of a function a span, and a context manager around one call.

    One and the same may be entered in several tasks and threads at once.
    """

    def __init__(self, make: Callable[[str], CallKind]) -> None:
        self._make = make
        self._open: list[tuple[object, Call, Any]] = []

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, drawn.

        Of a generator, and of what gives one back, the span ends when its last item was taken, or when it is closed or
        thrown away; of what gives back a coroutine or a future, when that has ended. What a model's client streams is
        such too, and what opens such a stream in a `with` block. Arguments that are marked `Redact()` are masked.
        """
        if isinstance(function, (classmethod, staticmethod)):
            return type(cast("Any", function))(self(cast("Any", function).__func__))
        if not callable(function):
            raise TelemetrySetupError(
                f"{function!r} is no function, and cannot be drawn. Give names by keyword: @tool(name=...), "
                f"@llm_call(model=...), @retriever(name=...)."
            )
        names, marked = _Names.of(function), MarkedArguments(function)
        kind = replace(self._make(_name_of(function)), hides_output=marked.marks_result)

        def begun(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Call, Any]:
            return Call(kind), marked.hide(names.given(args, options))

        if inspect.isasyncgenfunction(function):
            wrapper: Callable[..., Any] = _async_generator(function, begun)
        elif inspect.isgeneratorfunction(function) and not is_old_coroutine(function):
            wrapper = _generator(function, begun)
        elif inspect.iscoroutinefunction(function):
            wrapper = _coroutine(function, begun)
        else:
            wrapper = _plain(function, begun)
        return cast("Callable[P, R]", wraps(function)(wrapper))

    def __enter__(self) -> Call:
        call = Call(self._make("")).__enter__()
        current = call.current()
        current.__enter__()
        self._open.append((_here(), call, current))
        return call

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        here = _here()
        mine = [entered for entered in self._open if entered[0] is here or entered[0] == here]
        entered = (mine or self._open)[-1]  # it may be left elsewhere than it was entered
        self._open.remove(entered)
        _, call, current = entered
        current.__exit__(None, None, None)
        call.__exit__(exc_type, error, traceback)

    async def __aenter__(self) -> Call:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, error, traceback)


def _here() -> object:
    """The current task, or thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        task = None
    return task or threading.get_ident()


@dataclass(frozen=True, slots=True)
class _Names:
    """What the arguments of a function are called; looked up once, since a call must cost little."""

    positional: tuple[str, ...]
    rest: str
    skipped: int

    @staticmethod
    def of(function: Callable[..., Any]) -> _Names:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # one of those that are written in C
            return _Names((), "args", 0)
        skipped = 1 if parameters and parameters[0].name in ("self", "cls") else 0
        by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        positional = tuple(parameter.name for parameter in parameters[skipped:] if parameter.kind in by_place)
        rest = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.VAR_POSITIONAL]
        return _Names(positional, rest[0] if rest else "args", skipped)

    def given(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        found = dict(zip(self.positional, args[self.skipped :], strict=False))
        if rest := args[self.skipped + len(self.positional) :]:
            found[self.rest] = list(rest)
        return {**found, **options}


def _name_of(function: Any) -> str:
    inner = function
    while isinstance(inner, partial):
        inner = cast("Any", inner.func)
    return getattr(inner, "__name__", None) or type(inner).__name__


Begun = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Call, Any]]


def _plain(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    def call_it(*args: Any, **options: Any) -> Any:
        call, given = begun(args, options)
        with call:
            with call.input(given).current():
                result = function(*args, **options)
            return given_back(call, result)

    return call_it


def _coroutine(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    async def call_it(*args: Any, **options: Any) -> Any:
        call, given = begun(args, options)
        with call:
            with call.input(given).current():
                result = await function(*args, **options)
            return given_back(call, result)

    return call_it


def _generator(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    return generator_of(_starting(function, begun))


def _async_generator(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    return async_generator_of(_starting(function, begun))


def _starting(function: Callable[..., Any], begun: Begun) -> Start:
    def start(*args: Any, **options: Any) -> tuple[Call, Any]:
        call, given = begun(args, options)
        with call:
            chunks = function(*args, **options)
            call.input(given).keep_open()
        return call, chunks

    return start


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Wrapping: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, description: str | None = None
) -> Any:
    """Make calls of a tool spans: `@tool`, `@tool(name=...)`, or `with tool(name=...) as call`.

    Arguments and results are captured as the content mode says; in the `with` form by `call.input` and `call.output`.

    Args:
        function: What is decorated.
        name: Default: the function's.
        description: What the model is told that it does.
    """

    def make(found: str) -> CallKind:
        called = name or found or "tool"
        about: dict[str, AttributeValue] = {at.GEN_AI_TOOL_NAME: called, at.TOOL_NAME: called}
        if description:
            about |= {at.GEN_AI_TOOL_DESCRIPTION: description, at.TOOL_DESCRIPTION: description}
        return CallKind("execute_tool", "TOOL", SpanKind.INTERNAL, f"execute_tool {called}", about)

    return _wrapping(make, function)


@overload
def llm_call(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def llm_call(*, model: str | None = None, provider: str | None = None) -> Wrapping: ...
def llm_call(
    function: Callable[..., Any] | None = None, /, *, model: str | None = None, provider: str | None = None
) -> Any:
    """Make calls of a model spans: `@llm_call(model=...)`, or `with llm_call(model=...) as call`.

    Of a stream (a generator, or what a model's client gives) the span ends when its last chunk was taken, and says how
    long the first one took. The tokens are told by `call.usage(input=..., output=...)`; in a decorated function `call`
    is `current_call()`.

    Args:
        function: What is decorated.
        model: The model that is asked.
        provider: Who runs it, by the names of `gen_ai.provider.name`: "openai", "anthropic", ...
    """

    def make(found: str) -> CallKind:
        about: dict[str, AttributeValue] = {}
        if model:
            about |= {at.GEN_AI_REQUEST_MODEL: model, at.LLM_MODEL_NAME: model}
        if provider:
            about |= {at.GEN_AI_PROVIDER_NAME: provider, at.LLM_PROVIDER: provider}
        return CallKind("chat", "LLM", SpanKind.CLIENT, f"chat {model}" if model else "chat", about)

    return _wrapping(make, function)


@overload
def retriever(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def retriever(*, name: str | None = None) -> Wrapping: ...
def retriever(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Make searches spans: `@retriever`, `@retriever(name=...)`, or `with retriever(name=...) as call`.

    Args:
        function: What is decorated; it returns the documents.
        name: What is searched; default: the function's name.
    """

    def make(found: str) -> CallKind:
        about: dict[str, AttributeValue] = {}
        return CallKind("retrieval", "RETRIEVER", SpanKind.CLIENT, f"retrieval {name or found}".strip(), about)

    return _wrapping(make, function)


def _wrapping(make: Callable[[str], CallKind], function: Callable[..., Any] | None) -> Any:
    wrapping = Wrapping(make)
    return wrapping if function is None else wrapping(function)
