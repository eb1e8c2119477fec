"""Generators and other streams that do what they did, and end the span of a call with their last item."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import lru_cache
from io import IOBase
from types import TracebackType
from typing import Any, Self
from weakref import finalize

from workflows_otel.calls import Call

__all__ = ["Start", "async_generator_of", "generator_of", "given_back"]

Start = Callable[..., tuple[Call, Any]]
"""Begins a call with some arguments: the call, kept open, and the stream that it gives."""


class _Reply:
    """What the reader of a generator answers to an item: a value that it sends, or an error that it throws in."""

    sent: Any = None
    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        return not isinstance(error, GeneratorExit)  # all others are for the generator to handle


def generator_of(start: Start) -> Callable[..., Generator[Any, Any, Any]]:
    """A generator function with the items of another: what is sent and thrown in goes there, what is returned comes."""

    def call_it(*args: Any, **options: Any) -> Generator[Any, Any, Any]:
        call, chunks = start(*args, **options)
        reply = _Reply()
        with call:
            try:
                while True:
                    with call.resumed():
                        try:
                            error = reply.error
                            chunk = chunks.send(reply.sent) if error is None else chunks.throw(error)
                        except StopIteration as stop:
                            return stop.value
                    call.chunk(chunk)
                    with _Reply() as reply:
                        reply.sent = yield chunk
            finally:
                with call.resumed():  # it may have something open that it makes current again
                    chunks.close()

    return call_it


def async_generator_of(start: Start) -> Callable[..., AsyncGenerator[Any, Any]]:
    """As `generator_of`, for async generators."""

    async def call_it(*args: Any, **options: Any) -> AsyncGenerator[Any, Any]:
        call, chunks = start(*args, **options)
        reply = _Reply()
        with call:
            try:
                while True:
                    with call.resumed():
                        try:
                            error = reply.error
                            chunk = await (chunks.asend(reply.sent) if error is None else chunks.athrow(error))
                        except StopAsyncIteration:
                            return
                    call.chunk(chunk)
                    with _Reply() as reply:
                        reply.sent = yield chunk
            finally:
                with call.resumed():
                    await chunks.aclose()

    return call_it


def given_back(call: Call, result: object) -> Any:
    """What a function gave, noted; where it is still to be read, or awaited, what to give instead, drawn to its end."""
    if inspect.isgenerator(result):
        drawn: Any = generator_of(lambda: (call, result))()
    elif inspect.isasyncgen(result):
        drawn = async_generator_of(lambda: (call, result))()
    elif inspect.iscoroutine(result):
        drawn = _awaited(call, result)
    elif call.is_of_model and _is_stream(result):
        drawn = _drawn_class(result.__class__)(call, result)
    else:
        call.output(result)
        return result
    call.keep_open()
    finalize(drawn, call.leave).atexit = False  # it may never be begun
    return drawn


def _is_stream(result: object) -> bool:
    return isinstance(result, (Iterator, AsyncIterator)) and not isinstance(result, IOBase)


async def _awaited(call: Call, waiting: Coroutine[Any, Any, Any]) -> Any:
    with call:
        with call.current():
            result = await waiting
        return given_back(call, result)


class _Drawn:
    """Stands for the stream of a client of a model, with all that it has: `isinstance` sees no difference."""

    __slots__ = ("__weakref__", "_call", "_stream")

    def __init__(self, call: Call, stream: Any) -> None:
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_stream", stream)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody sets it
        return getattr(self._stream, "__class__")  # noqa: B009  # whose type nobody knows

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._stream, name)
        return _closing(self._call, value) if name in ("close", "aclose") else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stream, name, value)

    def __repr__(self) -> str:
        return repr(self._stream)


@lru_cache(maxsize=64)
def _drawn_class(kind: type[Any]) -> Callable[[Call, Any], Any]:
    """What stands for streams of that class; it is an iterator, or good for `with`, only where they are."""
    return type(kind.__name__, (_Drawn,), {name: done for name, done in _DONE.items() if hasattr(kind, name)})


def _closing(call: Call, close: Callable[..., Any]) -> Callable[..., Any]:
    def close_it(*args: Any, **options: Any) -> Any:
        result = close(*args, **options)
        if inspect.iscoroutine(result):
            return _closed(call, result)
        call.leave()
        return result

    return close_it


async def _closed(call: Call, closing: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await closing
    finally:
        call.leave()


_END: Any = object()


def _next(self: Any) -> Any:
    with self._call as call:
        with call.resumed():
            chunk = next(self._stream, _END)
        _note(call, chunk)
    if chunk is _END:
        raise StopIteration
    return chunk


async def _anext(self: Any) -> Any:
    with self._call as call:
        with call.resumed():
            chunk = await anext(self._stream, _END)
        _note(call, chunk)
    if chunk is _END:
        raise StopAsyncIteration
    return chunk


def _note(call: Call, chunk: Any) -> None:
    if chunk is not _END:
        call.chunk(chunk)
        call.keep_open()


def _iter(self: Any) -> Any:
    items = iter(self._stream)
    return generator_of(lambda: (self._call, items))() if inspect.isgenerator(items) else self


def _aiter(self: Any) -> Any:
    items = aiter(self._stream)
    return async_generator_of(lambda: (self._call, items))() if inspect.isasyncgen(items) else self


def _enter(self: Any) -> Any:
    entered = self._stream.__enter__()
    return self if entered is self._stream else entered


def _exit(self: Any, *error: Any) -> Any:
    try:
        return self._stream.__exit__(*error)
    finally:
        self._call.leave()


async def _aenter(self: Any) -> Any:
    entered = await self._stream.__aenter__()
    return self if entered is self._stream else entered


async def _aexit(self: Any, *error: Any) -> Any:
    try:
        return await self._stream.__aexit__(*error)
    finally:
        self._call.leave()


_DONE: dict[str, Callable[..., Any]] = {
    "__iter__": _iter,
    "__next__": _next,
    "__aiter__": _aiter,
    "__anext__": _anext,
    "__enter__": _enter,
    "__exit__": _exit,
    "__aenter__": _aenter,
    "__aexit__": _aexit,
}
