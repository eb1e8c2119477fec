"""What a run tells (`records`), to whom (`add_handler`), and on whose behalf it runs (`context`)."""

from types import ModuleType

from workflows._submodules import submodule
from workflows.instrumentation.dispatcher import Dispatcher, RecordHandler, add_handler
from workflows.instrumentation.recorder import RunRecorder
from workflows.instrumentation.scope import Identity, context, current_attempt, current_identity
from workflows.instrumentation.watchdog import watch_loop

__all__ = [
    "Dispatcher",
    "Identity",
    "RecordHandler",
    "RunRecorder",
    "add_handler",
    "context",
    "current_attempt",
    "current_identity",
    "watch_loop",
]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
