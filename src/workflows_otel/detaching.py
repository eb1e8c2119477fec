"""The end of a block in which an OpenTelemetry context was the current one, wherever that end comes."""

from __future__ import annotations

from contextlib import suppress
from contextvars import Token

from opentelemetry.context import Context

__all__ = ["detach"]


def detach(token: Token[Context]) -> None:
    """Make current what was so before `attach`, in silence where this is another context.

    A block in a generator is left elsewhere where somebody else closes that (a client hangs up, the event loop shuts
    down). There is nothing to detach there, and the block's own context is gone with its task; OpenTelemetry's `detach`
    would log an error with a traceback.
    """
    with suppress(ValueError):
        token.var.reset(token)
