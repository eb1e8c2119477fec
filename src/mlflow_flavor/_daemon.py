"""The one event loop on which loaded models run: synchronous callers, however many, share it for the process's life.

A loop per call would leak file descriptors and break every client that is bound to the loop of an earlier call.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from contextvars import Context, copy_context
from typing import Any, TypeVar

from mlflow_flavor._compat import invalid

__all__ = ["call", "call_async"]

T = TypeVar("T")

_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
_owner: int | None = None
_tasks: set[asyncio.Task[Any]] = set()


def call(work: Callable[[], Awaitable[T]], context: Context | None = None) -> T:
    """Run `work` on the shared loop, in a copy of the caller's context (or in `context`), and wait for it.

    Raises:
        MlflowException: If called on the shared loop's own thread, which would wait for itself.
    """
    loop = _running_loop()
    if _is_on(loop):
        raise invalid("predict() was called on the event loop that runs the model: await apredict() there instead.")
    future = _submit(loop, work, context or copy_context())
    try:
        return future.result()
    finally:
        future.cancel()  # does nothing to work that is done; ends it where waiting was interrupted (Ctrl-C)


async def call_async(work: Callable[[], Awaitable[T]], context: Context | None = None) -> T:
    """As `call`, from a running event loop, which is not blocked; without a thread's hop on the shared loop itself."""
    loop = _running_loop()
    if _is_on(loop):
        return await work()
    return await asyncio.wrap_future(_submit(loop, work, context or copy_context()))


def _submit(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[T]], context: Context) -> Future[T]:
    future: Future[T] = Future()

    async def run() -> None:
        try:
            result = await work()
        except asyncio.CancelledError:
            future.cancel()
        except Exception as error:  # noqa: BLE001  # handed to whoever waits, whatever it is
            _settle(future.set_exception, error)
        else:
            _settle(future.set_result, result)

    def start() -> None:
        task = loop.create_task(run(), context=context)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        future.add_done_callback(lambda done: _cancel(loop, task) if done.cancelled() else None)

    loop.call_soon_threadsafe(start)
    return future


def _settle(setter: Callable[[Any], None], value: object) -> None:
    try:
        setter(value)
    except InvalidStateError:
        return  # the caller stopped waiting: nobody wants the answer


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    if not task.done():
        loop.call_soon_threadsafe(task.cancel)


def _is_on(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _owner
    with _lock:
        if _loop is None or _owner != os.getpid():  # after a fork the thread exists in the parent only
            _loop = asyncio.new_event_loop()
            _owner = os.getpid()
            threading.Thread(target=_serve, args=(_loop,), name="workflows-mlflow", daemon=True).start()
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
