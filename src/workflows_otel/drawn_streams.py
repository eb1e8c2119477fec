"""Generators, and what gives them, that do what they did, and end the span of a call with their last item."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import Any, Self, cast
from weakref import finalize

from workflows_otel.calls import Call, harmless
from workflows_otel.stand_ins import stand_in_for

__all__ = ["Start", "async_generator_of", "generator_of", "given_back", "is_old_coroutine"]

Start = Callable[..., tuple[Call, Any]]
"""Begins a call with some arguments: the call, kept open, and the stream that it gives."""

_Future = asyncio.Future[Any] | concurrent.futures.Future[Any]


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
    drawn: Any = None
    with harmless("result"):
        drawn = _drawn(call, result)
    if drawn is None:
        call.output(result)
        return result
    call.keep_open()
    finalize(drawn, call.leave).atexit = False  # it may never be begun
    return drawn


def _drawn(call: Call, result: Any) -> Any:
    if isinstance(result, (asyncio.Future, concurrent.futures.Future)):
        future = cast("_Future", result)
        call.await_end()  # before a thread can end it
        future.add_done_callback(partial(_done, call))
        return future  # itself: others may wait for it, and cancel it
    if inspect.iscoroutine(result) or is_old_coroutine(result):
        drawn: Any = _awaited(call, result)
    elif inspect.isgenerator(result):
        drawn = generator_of(lambda: (call, result))()
    elif inspect.isasyncgen(result):
        drawn = async_generator_of(lambda: (call, result))()
    else:
        return stand_in_for(call, result) if call.is_of_model else None
    drawn.__name__, drawn.__qualname__ = result.__name__, result.__qualname__  # which warnings and tracebacks show
    return drawn


async def _awaited(call: Call, waiting: Coroutine[Any, Any, Any]) -> Any:
    with call:
        with call.current():
            result = await waiting
        return given_back(call, result)


def _done(call: Call, future: _Future) -> None:
    """End a call with what a future got."""
    # To ask it for its exception would keep the event loop from telling that nobody else ever did.
    error: BaseException | None = (
        asyncio.CancelledError() if future.cancelled() else getattr(future, "_exception", None)
    )
    if error is None:
        call.output(future.result())
    call.end(error)


def is_old_coroutine(generator: object) -> bool:
    """Whether it is a generator, or a generator function, that `@types.coroutine` has made good for `await`."""
    code = generator.gi_code if inspect.isgenerator(generator) else None
    if inspect.isfunction(generator) or inspect.ismethod(generator):
        code = generator.__code__
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)
