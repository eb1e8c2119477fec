"""The stream of a run: what its steps publish, kept bounded, read by any number of cursors."""

from __future__ import annotations

import asyncio
from weakref import WeakSet

from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, InternalDispatchEvent

__all__ = ["EventStream", "StreamCursor"]


class EventStream:
    """Keeps the last `limit` events, and whatever an attached cursor has not read yet.

    Attributes:
        internal: Somebody reads internal events; nobody builds them before.
        closed: The terminal event is in; what comes later is dropped.
    """

    __slots__ = (
        "_cursors",
        "_events",
        "_first",
        "_limit",
        "_read",
        "_resume_at",
        "_waiters",
        "closed",
        "count",
        "internal",
    )

    def __init__(self, limit: int) -> None:
        self.internal = False
        self.closed = False
        self._limit = limit
        self._events: list[Event] = []
        self._first = 0
        self._resume_at: int | None = None
        self._read = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._cursors: WeakSet[StreamCursor] = WeakSet()

    def put(self, event: Event) -> None:
        """Append an event, and wake the readers that wait."""
        if self.closed:
            return
        self._events.append(event)
        if len(self._events) > 2 * self._limit:
            self._trim()
        if self._waiters:
            self._wake()

    def close(self, last: Event | None) -> None:
        """Append the terminal event and end every reader after it."""
        if not self.closed:
            if last is not None:
                self.put(last)
            self.closed = True
            self._wake()

    def cursor(self, *, internal: bool = False) -> StreamCursor:
        """A new reader: from where the last one was dropped half-way, else from the first event that is kept."""
        self.internal = self.internal or internal
        start, self._resume_at = self._resume_at or 0, None
        cursor = StreamCursor(self, start, internal)
        self._cursors.add(cursor)
        return cursor

    @property
    def has_readers(self) -> bool:
        """Whether a reader that has not ended is attached."""
        return any(not cursor.ended for cursor in self._cursors)

    def backlog(self, cursor: StreamCursor) -> int:
        """How many events a cursor has not read."""
        return self._first + len(self._events) - cursor.position

    def unread(self) -> list[Event]:
        """What no reader has got yet; all that is kept, if nobody ever read."""
        self._read = max([self._read, *(c.position for c in self._cursors)])
        return self._events[max(0, self._read - self._first) :]

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _trim(self) -> None:
        unread = min((c.position for c in self._cursors), default=self._first + len(self._events))
        gone = min(len(self._events) - self._limit, unread - self._first)
        if gone > 0:
            del self._events[:gone]
            self._first += gone


class StreamCursor:
    """One reader of a stream: an async iterator that ends after the run's terminal event."""

    __slots__ = ("__weakref__", "_finished", "_internal", "_stream", "position")

    def __init__(self, stream: EventStream, position: int, internal: bool) -> None:
        self._stream = stream
        self._internal = internal
        self._finished = False
        self.position = position

    @property
    def ended(self) -> bool:
        """It has given its last event, or was closed."""
        return self._finished

    def __aiter__(self) -> StreamCursor:
        return self

    async def __anext__(self) -> Event:
        stream = self._stream
        while not self._finished:
            index = self.position - stream._first  # pyright: ignore[reportPrivateUsage]  # one class in two halves
            if index < 0:
                self._finished = True
                raise WorkflowRuntimeError(
                    f"{-index} streamed events are gone: the stream keeps the last ones only. Attach the reader "
                    f"earlier, or keep more with Workflow(stream_buffer=...)."
                )
            if index < len(stream._events):  # pyright: ignore[reportPrivateUsage]
                self.position += 1
                event = stream._events[index]  # pyright: ignore[reportPrivateUsage]
                if self._internal or not isinstance(event, InternalDispatchEvent):
                    return event
            elif stream.closed:
                self._finished = True
            else:
                await stream._changed()  # pyright: ignore[reportPrivateUsage]
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop reading; the next `stream_events()` goes on from here."""
        self._drop()

    def _drop(self) -> None:
        stream = self._stream
        stream._read = max(stream._read, self.position)  # pyright: ignore[reportPrivateUsage]
        if not self._finished:
            self._finished = True
            stream._cursors.discard(self)  # pyright: ignore[reportPrivateUsage]
            if self.position > 0:
                stream._resume_at = self.position  # pyright: ignore[reportPrivateUsage]

    def __del__(self) -> None:
        self._drop()
