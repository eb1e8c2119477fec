"""What a back end needs to be told: an exporter, and how it wants to be fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import Request

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation.content import Mode

__all__ = ["Judgement", "Preset", "shown_url"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody says about a run.

    Attributes:
        id: The same for the same name, judge and trace, so that saying it again replaces it.
        value: A number, a yes or no, or a word.
        judge: `HUMAN`, `LLM` or `CODE`.
    """

    id: str
    trace_id: str
    span_id: str
    name: str
    value: float | bool | str
    comment: str | None = None
    judge: Literal["HUMAN", "LLM", "CODE"] = "HUMAN"


@dataclass(frozen=True, slots=True)
class Preset:
    """One back end, ready to be given to `setup()`.

    Attributes:
        name: What `setup("...")` calls it.
        make_exporter: Builds the exporter; called once, by `setup()`.
        where: The endpoint, for the log line; never a key.
        url: Where spans are sent; with `headers` it tells whether somebody else sends them there as well. It may have a
            key in it, and is not shown.
        headers: What is sent with each request, keys included: never shown.
        trace_url: The page of a trace, by its id.
        judge: The request that attaches a judgement to a run.
        content: How much of payloads it gets unless told otherwise.
        resource: Attributes for the resource, where `setup()` makes the provider.
        start_marker: Whether a `workflow.started` span helps there.
        roots: It takes name, input and session from a span without parent.
        conversation_id: It reads the session from `gen_ai.conversation.id`.
        names_traces: It reads the name and the tags of a trace from each span (`langfuse.trace.*`).
        about: Attributes that it needs besides, made of an ended span.
        span_attributes: How many attributes a span may have, where `setup()` makes the provider; default: the SDK's.
        sample_rate: The part of the traces that are drawn which it gets, from 0 to 1, chosen by their ids.
        enabled: False: switched off by its own environment variable; `setup()` leaves it out.
    """

    name: str
    make_exporter: Callable[[], SpanExporter]
    where: str = ""
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    trace_url: Callable[[str], str] | None = None
    judge: Callable[[Judgement], Request] | None = field(default=None, repr=False)
    content: Mode = "types"
    resource: Mapping[str, str] = field(default_factory=dict[str, str])
    start_marker: bool = True
    roots: bool = False
    conversation_id: bool = False
    names_traces: bool = False
    about: Callable[[ReadableSpan], Mapping[str, AttributeValue]] | None = None
    span_attributes: int | None = None
    sample_rate: float | None = None
    enabled: bool = True


def shown_url(url: str) -> str:
    """A URL without what may be a key: user and password, and the query."""
    if "://" not in url:
        return url  # `host:port`
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
