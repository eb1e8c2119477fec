"""Older import path of the class of runtimes."""

from __future__ import annotations

from workflows.plugins.basic import BasicRuntime as Runtime

__all__ = ["Runtime"]
