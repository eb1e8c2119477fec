"""Spans that a back end refuses in a request that it takes: OTLP's partial success, which the SDK does not look at."""

from __future__ import annotations

import logging
import time
from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter

from workflows.instrumentation.content import redact_text

__all__ = ["Rejections", "left_out_by", "rejected_by"]

LOG_SECONDS = 60.0
REASON_CHARS = 512

logger = logging.getLogger("workflows.otel")

_NOTED = "_spanflow_rejections"


class Rejections:
    """What a back end says of spans that it refused, in its answers to one exporter.

    Attributes:
        count: How many spans so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._log_after = 0.0

    def heard(self, answer: Any) -> None:
        """Take note of an answer, an `ExportTraceServiceResponse`."""
        refused: int = answer.partial_success.rejected_spans
        if refused <= 0:
            return
        self.count += refused
        if time.monotonic() >= self._log_after:
            self._log_after = time.monotonic() + LOG_SECONDS
            why = redact_text(answer.partial_success.error_message, max_chars=REASON_CHARS)
            logger.error("the back end took a request and refused %d spans in it: %s", refused, why or "it says no why")

    def of(self, exporter: SpanExporter) -> SpanExporter:
        """The exporter, whose answers these are: `rejected_by` knows."""
        setattr(exporter, _NOTED, self)  # on it: somebody else's may be neither hashable nor weakly referable
        return exporter


def rejected_by(exporter: SpanExporter) -> int:
    """How many spans the back end of an exporter refused so far, where that is told."""
    found: Rejections | None = getattr(exporter, _NOTED, None)
    return found.count if found is not None else int(getattr(exporter, "rejected", 0))


def left_out_by(exporter: SpanExporter) -> int:
    """How many spans an exporter was given so far that are none of its back end's, where that is told."""
    return int(getattr(exporter, "left_out", 0))
