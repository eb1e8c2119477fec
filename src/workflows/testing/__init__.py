"""Test kit: virtual time, a record log that reads well, and a runner that collects what a run streams."""

from workflows.testing.record_log import RecordLog, recording
from workflows.testing.runner import WorkflowTestResult, WorkflowTestRunner
from workflows.testing.virtual_clock import VirtualClockLoop

__all__ = ["RecordLog", "VirtualClockLoop", "WorkflowTestResult", "WorkflowTestRunner", "recording"]
