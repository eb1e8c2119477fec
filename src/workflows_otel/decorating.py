"""`tool`, `llm_call` and `retriever`: decorators, and context managers, for what happens inside a step."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows_otel.calls import Call, CallKind

__all__ = ["Wrapping", "llm_call", "retriever", "tool"]

P = ParamSpec("P")
R = TypeVar("R")


class Wrapping:
    """A decorator that makes each call of a function a span, and a context manager around one call."""

    def __init__(self, make: Callable[[str], CallKind]) -> None:
        self._make = make
        self._open: list[tuple[Call, Any]] = []

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, drawn. A generator's span ends when its last item was taken, or when it is closed."""
        kind = self._make(function.__name__)
        names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
        skipped = 1 if next(iter(inspect.signature(function).parameters), "") in ("self", "cls") else 0

        def begun(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Call, Any]:
            # `*args` beyond the names are left out: they have none.
            return Call(kind), {**dict(zip(names, args[skipped:], strict=False)), **options}

        if inspect.isasyncgenfunction(function):
            wrapper: Callable[..., Any] = _async_generator(function, begun)
        elif inspect.isgeneratorfunction(function):
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
        self._open.append((call, current))
        return call

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call, current = self._open.pop()
        current.__exit__(None, None, None)
        call.__exit__(exc_type, error, traceback)


Begun = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Call, Any]]


def _plain(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    def call_it(*args: Any, **options: Any) -> Any:
        call, given = begun(args, options)
        with call:
            with call.input(given).current():
                result = function(*args, **options)
            call.output(result)
            return result

    return call_it


def _coroutine(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    async def call_it(*args: Any, **options: Any) -> Any:
        call, given = begun(args, options)
        with call:
            with call.input(given).current():
                result = await function(*args, **options)
            call.output(result)
            return result

    return call_it


def _generator(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    def call_it(*args: Any, **options: Any) -> Generator[Any, None, None]:
        call, given = begun(args, options)
        with call, closing(function(*args, **options)) as chunks:
            call.input(given)
            while True:
                with call.current():
                    try:
                        chunk = next(chunks)
                    except StopIteration:
                        return
                call.chunk(chunk)
                yield chunk

    return call_it


def _async_generator(function: Callable[..., Any], begun: Begun) -> Callable[..., Any]:
    async def call_it(*args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        call, given = begun(args, options)
        with call:
            async with aclosing(function(*args, **options)) as chunks:
                call.input(given)
                while True:
                    with call.current():
                        try:
                            chunk = await anext(chunks)
                        except StopAsyncIteration:
                            return
                    call.chunk(chunk)
                    yield chunk

    return call_it


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

    Of a generator the span ends when its last chunk was taken, and says how long the first one took. The tokens are
    told by `call.usage(input=..., output=...)`, in the `with` form.

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
