"""Where runs live: `Runtime`. Below `types` are older import paths that other packages use."""

from types import ModuleType

from workflows._submodules import submodule
from workflows.runtime.runtime import Runtime

__all__ = ["Runtime"]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
