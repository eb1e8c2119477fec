"""Older import path of the class of runtimes."""

from __future__ import annotations

from workflows.plugins.basic import get_current_runtime
from workflows.runtime.runtime import Runtime

__all__ = ["Runtime", "get_current_runtime"]
