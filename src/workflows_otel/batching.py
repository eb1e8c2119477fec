"""Export in the background: a bounded queue, one worker thread, honest counts, and a flush that keeps its time.

The SDK's own batch processor loses spans at a workflow's pace (its queue holds 2,048), says that a flush went well when
every export failed, and ignores the flush's timeout.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # pyright: ignore[reportPrivateUsage]  # no public name
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from workflows_otel.own_scope import SCOPE
from workflows_otel.rejections import left_out_by, rejected_by
from workflows_otel.turns import catch_up

__all__ = ["BatchProcessor", "DirectProcessor", "FlushResult", "shut_down"]

QUEUE_SIZE = 16_384
BATCH_SIZE = 512
SCHEDULE_DELAY = 1.0
SHUTDOWN_TIMEOUT = 5.0
LOG_SECONDS = 60.0

logger = logging.getLogger("workflows.otel")


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What became of the spans so far.

    Attributes:
        sent: Spans that the back end took.
        failed: Spans whose export failed, and those that an OTLP back end refused in a request that it took.
        dropped: Spans that never reached the exporter: the queue was full, or already shut down. None where the
            processor is the application's own, which does not tell.
        pending: Spans that are still to be sent: the flush ran out of time, or `keep_errors_and_slow` has not decided.
    """

    sent: int
    failed: int
    dropped: int | None
    pending: int = 0

    @property
    def ok(self) -> bool:
        """Everything so far was sent, as far as can be known."""
        return not (self.failed or self.dropped or self.pending)


class BatchProcessor(SpanProcessor):
    """Queues ended spans and exports them from its own thread, never from the thread that ended them.

    A full queue drops its oldest span. About 3 kB a queued span: 50 MB at worst by default.

    Args:
        exporter: Where spans go. It is called from one thread at a time.
        queue_size: How many spans may wait; `OTEL_BSP_MAX_QUEUE_SIZE`, else 16,384.
        batch_size: How many go in one export; `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, else 512.
        delay: Seconds between two exports while the queue is short; `OTEL_BSP_SCHEDULE_DELAY` (in ms), else 1.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        queue_size: int | None = None,
        batch_size: int | None = None,
        delay: float | None = None,
    ) -> None:
        self.exporter = exporter
        self._queue_size = queue_size or _from_environment("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZE)
        self._batch_size = min(
            batch_size or _from_environment("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE), self._queue_size
        )
        default_delay = _from_environment("OTEL_BSP_SCHEDULE_DELAY", int(SCHEDULE_DELAY * 1000)) / 1000
        self._delay = default_delay if delay is None else delay
        self._queue: deque[ReadableSpan] = deque()
        self._closed = False
        self._abandoned = False
        self._forked_ns = 0
        self._start()
        after_fork = weakref.WeakMethod(self._start)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (start := after_fork()) and start(time.time_ns()))

    def _start(self, forked_ns: int = 0) -> None:
        """Begin with nothing queued and a new thread: at first, and in a forked child.

        Spans that began before the fork are the parent's, which ends and sends them itself.
        """
        self._forked_ns = forked_ns
        self._sent = self._failed = self._dropped = self._exporting = 0
        self._queue.clear()
        self._log_after = 0.0
        self._asked = self._answered = 0
        # Of kinds that do no harm where the garbage collector, in the middle of them, closes what ends a span.
        self._queue_lock = threading.RLock()
        self._flushed = threading.Condition()
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._is_called = False
        self._thread = threading.Thread(target=self._work, name="workflows-otel-export", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; never blocks."""
        context = span.context
        if context is not None and not context.trace_flags.sampled:
            return
        if self._forked_ns and began_before(span, self._forked_ns):
            return
        if self._closed:
            self._dropped += 1
            return
        full = False
        with self._queue_lock:
            self._queue.append(span)
            while len(self._queue) > self._queue_size:
                self._queue.popleft()
                self._dropped += 1
                full = True
        if full:
            self._tell_full()
        if len(self._queue) >= self._batch_size and not self._is_called:
            self._call()

    def counts(self) -> FlushResult:
        """What became of the spans so far, without waiting."""
        return FlushResult(self._sent, self._failed, self._dropped, len(self._queue) + self._exporting)

    def flush(self, timeout: float = 5.0) -> FlushResult:
        """Export what is queued now, in at most `timeout` seconds, and tell what became of all spans so far."""
        deadline = time.monotonic() + timeout
        catch_up()
        with self._flushed:
            self._asked += 1
            mine = self._asked
            self._call()
            while self._answered < mine and self._thread.is_alive():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._flushed.wait(left)
        return self.counts()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether everything ended so far was exported within the time."""
        before = self._failed
        result = self.flush(timeout_millis / 1000)
        return result.pending == 0 and result.failed == before

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        """Export what is queued in at most `timeout` seconds; spans that end later are dropped."""
        self.begin_shutdown()
        self.finish_shutdown(timeout)

    def begin_shutdown(self) -> None:
        """Take no more spans, and have the worker send what is queued."""
        catch_up()
        self._closed = True
        self._call()

    def finish_shutdown(self, timeout: float) -> None:
        """Wait for the worker until `timeout` seconds have passed, then give up what is left."""
        if self._abandoned:
            return
        deadline = time.monotonic() + timeout
        self._thread.join(timeout)
        self._abandoned = True
        shut_down(self.exporter, max(deadline - time.monotonic(), 0.0))
        with self._queue_lock:
            left = len(self._queue)
            self._queue.clear()
            self._dropped += left
        if left:
            logger.error("%d spans were not sent: the back end did not take them in %.0f s", left, timeout)

    def _call(self) -> None:
        """Have the worker look at once."""
        self._is_called = True
        self._calls.put(None)

    def _work(self) -> None:
        while not self._closed:
            with suppress(Empty):
                self._calls.get(timeout=self._delay)
            self._is_called = False
            catch_up()
            with self._flushed:
                asked = self._asked
            self._drain()
            with self._flushed:
                self._answered = max(self._answered, asked)
                self._flushed.notify_all()
        self._drain()

    def _drain(self) -> None:
        for _ in range(len(self._queue) // self._batch_size + 1):
            batch = self._next_batch()
            if not batch or self._abandoned:
                return
            sent, failed = self._export(batch)
            self._exporting = 0
            self._sent += sent
            self._failed += failed

    def _next_batch(self) -> list[ReadableSpan]:
        with self._queue_lock:
            self._exporting = min(len(self._queue), self._batch_size)
            return [self._queue.popleft() for _ in range(self._exporting)]

    def _export(self, batch: list[ReadableSpan]) -> tuple[int, int]:
        """How many spans of a batch the back end took, and how many not; those that are none of its are left out."""
        rejected, left_out = rejected_by(self.exporter), left_out_by(self.exporter)
        token = otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            taken = self.exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # the guard around an exporter that is not ours: the thread must live on
            logger.debug("the exporter %s raised", type(self.exporter).__name__, exc_info=True)
            taken = False
        finally:
            otel_context.detach(token)
        if not taken and time.monotonic() >= self._log_after:
            self._log_after = time.monotonic() + LOG_SECONDS
            logger.error("%d spans could not be sent and are lost; check that the back end is up", len(batch))
        meant = len(batch) - (left_out_by(self.exporter) - left_out)
        failed = rejected_by(self.exporter) - rejected if taken else meant
        return meant - failed, failed

    def _tell_full(self) -> None:
        if time.monotonic() >= self._log_after:
            self._log_after = time.monotonic() + LOG_SECONDS
            logger.error("the queue of %d spans is full; the oldest are dropped", self._queue_size)


class DirectProcessor(SpanProcessor):
    """Exports each span at once, in the thread that ends it: for debugging."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.exporter = exporter
        self._sent = self._failed = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Export a span; returns when that is done."""
        context = span.context
        if context is not None and not context.trace_flags.sampled:
            return
        rejected, left_out = rejected_by(self.exporter), left_out_by(self.exporter)
        result = self.exporter.export([span])
        if left_out_by(self.exporter) != left_out:
            return
        if result is SpanExportResult.SUCCESS and rejected_by(self.exporter) == rejected:
            self._sent += 1
        else:
            self._failed += 1

    def counts(self) -> FlushResult:
        """What became of the spans so far."""
        return FlushResult(self._sent, self._failed, 0)

    def flush(self, timeout: float = 5.0) -> FlushResult:
        """Nothing is queued: the same as `counts`, once all has ended."""
        catch_up()
        return self.counts()

    def begin_shutdown(self) -> None:
        """Take what is still to end."""
        catch_up()

    def finish_shutdown(self, timeout: float) -> None:
        """Shut the exporter down."""
        shut_down(self.exporter, timeout)

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self.finish_shutdown(SHUTDOWN_TIMEOUT)


def began_before(span: ReadableSpan, at_ns: int) -> bool:
    """Whether a span was open at a time; one of a wait that is over is made afterwards, with the time when it began."""
    if (span.start_time or 0) >= at_ns:
        return False
    scope = span.instrumentation_scope
    return not (scope is not None and scope.name == SCOPE and span.name.startswith("wait "))


def shut_down(exporter: SpanExporter, timeout: float) -> None:
    """Shut an exporter down, in at most `timeout` seconds where it knows of a timeout."""
    # The gRPC exporter takes a timeout, and waits 30 s without one; the base class and others take none.
    parameters = inspect.signature(exporter.shutdown).parameters
    if "timeout_millis" in parameters:
        exporter.shutdown(timeout_millis=timeout * 1000)  # pyright: ignore[reportCallIssue]  # looked up above
    else:
        exporter.shutdown()


def _from_environment(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text.isdecimal() or int(text) == 0:
        if text:
            logger.warning(
                "%s=%r is no positive number; %d is used. Set a whole number above 0", variable, text, default
            )
        return default
    return int(text)
