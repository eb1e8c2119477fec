"""What `setup()` and `instrument()` raise."""

from __future__ import annotations

from workflows.errors import WorkflowError

__all__ = ["TelemetrySetupError"]


class TelemetrySetupError(WorkflowError, ValueError):
    """Telemetry cannot be set up as asked: an unknown back end, a missing package, an unusable endpoint or option.

    Raised by `setup()` and `instrument()` only, never once a run has begun.
    """
