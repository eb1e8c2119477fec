"""Runs of workflows as OpenTelemetry spans: `setup()` for everything at once, `instrument()` for your own provider.

import workflows_otel

telemetry = workflows_otel.setup("otlp")
...
telemetry.flush()
"""

from workflows_otel._ownership import explain_imports

with explain_imports():
    from workflows_otel.batching import FlushResult
    from workflows_otel.blobs import kept_in
    from workflows_otel.calls import Call, current_call
    from workflows_otel.decorating import llm_call, retriever, tool
    from workflows_otel.errors import TelemetrySetupError
    from workflows_otel.exporting import redacting
    from workflows_otel.feedback import feedback
    from workflows_otel.handler import OtelHandler
    from workflows_otel.identity import context
    from workflows_otel.instrumenting import instrument, uninstrument
    from workflows_otel.logs import RunIdFilter, add_run_ids
    from workflows_otel.presets import Preset, console, jaeger, langfuse, otlp, phoenix
    from workflows_otel.sampling import keep_errors_and_slow
    from workflows_otel.setting_up import Setup, setup
    from workflows_otel.traces import TraceRef, trace_of

__all__ = [
    "Call",
    "FlushResult",
    "OtelHandler",
    "Preset",
    "RunIdFilter",
    "Setup",
    "TelemetrySetupError",
    "TraceRef",
    "add_run_ids",
    "console",
    "context",
    "current_call",
    "feedback",
    "instrument",
    "jaeger",
    "keep_errors_and_slow",
    "kept_in",
    "langfuse",
    "llm_call",
    "otlp",
    "phoenix",
    "redacting",
    "retriever",
    "setup",
    "tool",
    "trace_of",
    "uninstrument",
]
