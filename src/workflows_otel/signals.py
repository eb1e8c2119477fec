"""Metrics and logs begin when the process has a provider that takes them, and cost nothing before."""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry import metrics
from opentelemetry._logs import LoggerProvider, get_logger_provider
from opentelemetry.metrics import MeterProvider

from workflows.instrumentation import add_handler
from workflows.instrumentation.content import ContentPolicy
from workflows.instrumentation.records import Record
from workflows_otel.instruments import CallInstruments
from workflows_otel.logs import LogsHandler
from workflows_otel.metrics import MetricsHandler
from workflows_otel.own_scope import SCHEMA_URL, SCOPE, VERSION

__all__ = ["Signals"]


class Signals:
    """The handlers of metrics and logs: one each for the process, whatever the number of tracer providers.

    Attributes:
        awake: Both have begun; there is nothing left to look for.
        calls: Instruments for what helpers measure inside steps.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._metrics: tuple[MetricsHandler, Callable[[], None]] | None = None
        self._logs: tuple[LogsHandler, Callable[[], None]] | None = None
        self._meter_provider: MeterProvider | None = None
        self._logger_provider: LoggerProvider | None = None
        self._content = ContentPolicy()
        self._stream_logs = False
        self.awake = False
        self.calls = _call_instruments(None)

    def begin(
        self,
        content: ContentPolicy,
        *,
        stream_logs: bool = False,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        """Use these providers from now on; without them the process's own, also where it is set later."""
        self._content, self._stream_logs = content, stream_logs
        self._move(meter_provider, logger_provider)
        if meter_provider is not None:
            self.calls = _call_instruments(meter_provider)
        if self._logs is not None:
            self._logs[0].configure(content, streams=stream_logs)
        self._add(meter_provider, logger_provider)

    def look(self, record: Record) -> None:
        """Begin what has a provider by now; called when a run starts, with the record that says so."""
        before = self._metrics, self._logs
        self._add(None, None)
        for had, has in zip(before, (self._metrics, self._logs), strict=True):
            if had is None and has is not None:  # it is told of every later record by the dispatcher
                has[0].handle(record)

    def forget(self) -> None:
        """Let go of runs that are open: in a forked child, whose parent tells of them."""
        self._lock = threading.RLock()
        if self._metrics is not None:
            self._metrics[0].forget()

    def end(self) -> None:
        """Stop both."""
        with self._lock:
            for made in (self._metrics, self._logs):
                if made is not None:
                    made[1]()
            if self._metrics is not None:
                self._metrics[0].close()
            self._metrics = self._logs = None
            self.awake = False
            self.calls = _call_instruments(None)

    def _move(self, meter_provider: MeterProvider | None, logger_provider: LoggerProvider | None) -> None:
        """End what goes to other providers than these, where they are named."""
        with self._lock:
            if self._metrics is not None and meter_provider not in (None, self._meter_provider):
                self._metrics[1]()
                self._metrics[0].close()
                self._metrics = None
            if self._logs is not None and logger_provider not in (None, self._logger_provider):
                self._logs[1]()
                self._logs = None

    def _add(self, meter_provider: MeterProvider | None, logger_provider: LoggerProvider | None) -> None:
        with self._lock:
            if self._metrics is None and (meter_provider is not None or _is_set(metrics.get_meter_provider())):
                handler = MetricsHandler(meter_provider)
                self._metrics, self._meter_provider = (handler, add_handler(handler)), meter_provider
            if self._logs is None and (logger_provider is not None or _is_set(get_logger_provider())):
                handler = LogsHandler(logger_provider, content=self._content, streams=self._stream_logs)
                self._logs, self._logger_provider = (handler, add_handler(handler)), logger_provider
            self.awake = self._metrics is not None and self._logs is not None


def _call_instruments(meter_provider: MeterProvider | None) -> CallInstruments:
    provider = meter_provider or metrics.get_meter_provider()  # the API's own passes on to what is set later
    return CallInstruments(provider.get_meter(SCOPE, VERSION, SCHEMA_URL))


def _is_set(provider: MeterProvider | LoggerProvider) -> bool:
    """Whether somebody takes what a provider is given: it is not the API's own."""
    return not type(provider).__module__.startswith(("opentelemetry.metrics", "opentelemetry._logs"))
