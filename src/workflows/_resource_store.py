"""Where the values of resources are: each made once, however many ask at the same time, and let go with its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from workflows._kept_contexts import KeptContext, as_async_context
from workflows._slotted import FieldsShown, slotted

__all__ = ["Made", "ResourceStore"]


@slotted
class Made(FieldsShown):
    """A value, what keeps it open, and what must stay alive as long as the value is known by its id."""

    name: str
    value: Any
    context: KeptContext | None
    source: object


class ResourceStore:
    """The values that live as long as one owner: a workflow, a run, or one step's resolution."""

    def __init__(self) -> None:
        self.values: dict[Hashable, Made] = {}
        self._contexts: list[KeptContext] = []
        self._making: dict[Hashable, asyncio.Future[None]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Made]]) -> Any:
        """The value of a key; `make` is called if there is none, by one caller at a time on an event loop.

        Raises:
            Exception: What `make` raises, to the one who called it; the next one in the queue calls it again.
        """
        loop = asyncio.get_running_loop()
        while (known := self._known(key)) is None:
            flight = self._making.get((id(loop), key))
            if flight is not None:
                await asyncio.wait([flight])
                continue
            self._making[id(loop), key] = flight = loop.create_future()
            try:
                self.values[key] = await make()
            finally:
                del self._making[id(loop), key]
                flight.set_result(None)
        return known.value

    async def enter(self, context: Any, name: str) -> tuple[Any, KeptContext]:
        """Enter a context manager and keep it open until `aclose()`; what entering gave."""
        kept = KeptContext(as_async_context(context), name)
        self._contexts.append(kept)
        return await kept.value(), kept

    async def aclose(self) -> None:
        """Leave every context, the last one first, and forget every value."""
        self.values.clear()
        while self._contexts:
            await self._contexts.pop().leave()

    def let_go(self) -> None:
        """Leave every context without waiting for it; for an owner that is gone."""
        while self._contexts:
            self._contexts.pop().leave_soon()

    def _known(self, key: Hashable) -> Made | None:
        found = self.values.get(key)
        if found is not None and found.context is not None and found.context.is_over:
            return None  # it was left when its event loop ended
        return found
