"""What a back end needs to be told: an exporter, and how it wants to be fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.sdk.trace.export import SpanExporter

from workflows.instrumentation.content import Mode

__all__ = ["Preset"]


@dataclass(frozen=True, slots=True)
class Preset:
    """One back end, ready to be given to `setup()`.

    Attributes:
        name: What `setup("...")` calls it.
        make_exporter: Builds the exporter; called once, by `setup()`.
        where: The endpoint, for the log line; never a key.
        content: How much of payloads it gets unless told otherwise.
        resource: Attributes for the resource, where `setup()` makes the provider.
        start_marker: Whether a `workflow.started` span helps there.
        roots: It takes name, input and session from a span without parent.
        conversation_id: It reads the session from `gen_ai.conversation.id`.
    """

    name: str
    make_exporter: Callable[[], SpanExporter]
    where: str = ""
    content: Mode = "types"
    resource: Mapping[str, str] = field(default_factory=dict[str, str])
    start_marker: bool = True
    roots: bool = False
    conversation_id: bool = False
