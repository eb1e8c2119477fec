"""Where runs live: `Runtime`. Below `types` are older import paths that other packages use."""

from workflows.runtime.runtime import Runtime

__all__ = ["Runtime"]
