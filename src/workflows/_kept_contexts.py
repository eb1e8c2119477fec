"""Keeps context managers open: each in a task of its own, since many must be left in the task that entered them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from contextvars import copy_context
from typing import Any

from workflows.instrumentation.scope import current_attempt

__all__ = ["KeptContext", "as_async_context", "is_context"]

GRACE_SECONDS = 10.0

logger = logging.getLogger("workflows.resource")
_open: set[KeptContext] = set()  # the loop itself holds its tasks weakly


def is_context(value: Any) -> bool:
    """Whether a value is there to be entered and left; a lock is one too, but entering it would take it."""
    kind: type[Any] = value.__class__
    asynchronous = hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__")
    either = asynchronous or (hasattr(kind, "__enter__") and hasattr(kind, "__exit__"))
    return either and not (hasattr(value, "acquire") and hasattr(value, "release"))


def as_async_context(value: Any) -> AbstractAsyncContextManager[Any]:
    """A context manager of either kind as an asynchronous one."""
    return value if hasattr(value.__class__, "__aenter__") else _wrapped(value)


class KeptContext:
    """A context manager that was entered, and is left by `leave()` or when its event loop ends."""

    def __init__(self, context: AbstractAsyncContextManager[Any], name: str) -> None:
        loop = asyncio.get_running_loop()
        self._name = name
        self._entered: asyncio.Future[Any] = loop.create_future()
        self._leave = asyncio.Event()
        variables = copy_context()
        variables.run(current_attempt.set, None)  # what is cached outlives the attempt that asked for it first
        self._task = loop.create_task(self._keep(context), name=f"resource {name}", context=variables)
        _open.add(self)
        self._task.add_done_callback(lambda _: _open.discard(self), context=variables)

    async def value(self) -> Any:
        """What entering gave; raises what entering raised."""
        try:
            return await asyncio.shield(self._entered)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    @property
    def is_over(self) -> bool:
        """Whether it was left already, as it is when its event loop is gone."""
        return self._task.done()

    def leave_soon(self) -> None:
        """Leave the context without waiting for it; from any thread."""
        loop = self._task.get_loop()
        if not self._task.done() and not loop.is_closed():
            loop.call_soon_threadsafe(self._leave.set)

    async def leave(self) -> None:
        """Leave the context; after 10 seconds cancel what it does. An error in it is logged, not raised."""
        self.leave_soon()
        if self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
            return
        _, late = await asyncio.wait([self._task], timeout=GRACE_SECONDS)
        if late:
            logger.warning("resource %s was not left within %s s; cancelling it", self._name, GRACE_SECONDS)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=GRACE_SECONDS)

    async def _keep(self, context: AbstractAsyncContextManager[Any]) -> None:
        try:
            async with context as value:
                self._entered.set_result(value)
                await self._leave.wait()
        except Exception as error:  # a resource is the user's code
            if self._entered.done():
                logger.exception("resource %s failed while it was left", self._name)
            else:
                self._entered.set_exception(error)
        finally:
            self._entered.cancel()


@asynccontextmanager
async def _wrapped(context: AbstractContextManager[Any]) -> AsyncGenerator[Any]:
    with context as value:
        yield value
