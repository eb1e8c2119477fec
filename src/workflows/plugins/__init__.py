"""Where runs live: in this process's memory (`basic`); durable runtimes come with their extras."""

from workflows.plugins.basic import BasicRuntime, basic_runtime, get_current_runtime

__all__ = ["BasicRuntime", "basic_runtime", "get_current_runtime"]
