"""How spans are to be drawn: the options that `setup()` and `instrument()` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import Any, Literal, get_args

from workflows.instrumentation.content import ContentPolicy, Mode
from workflows_otel.errors import TelemetrySetupError

__all__ = ["ResumeTrace", "RunParent", "Said", "Settings", "Streams"]

RunParent = Literal["auto", "child", "link", "root"]
ResumeTrace = Literal["auto", "continue", "link"]
Streams = Literal["summary", "log", "off"]

SMALLEST_ATTRIBUTE = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """What `OtelHandler` reads of the options.

    Attributes:
        content: What of payloads, messages and stack traces may leave the process.
        run_parent: What the span current at `run()` is to the run's span: its parent (`child`), linked (`link`), or
            nothing (`root`). `auto` is `child`, but `link` where `roots` says so.
        resume_trace: Whether a resumed run goes on in the first segment's trace (`continue`), or begins one with a
            link (`link`). `auto` continues what is less than a day old.
        start_marker: Export a `workflow.started` span at once, so that a run which is killed leaves a trace.
        streams: A summary of streamed events on the span that streamed them (`log`: and a log event for each), or
            nothing.
        roots: A back end takes name, input and session from a span without parent, so a remote or foreign parent
            becomes a link.
        conversation_id: Repeat the session as `gen_ai.conversation.id`.
        names_traces: Say the name and the tags of the trace on every span (`langfuse.trace.*`).
        llama_index: Draw calls of llama-index's models, embeddings, retrievers and tools as well.
    """

    content: ContentPolicy = field(default_factory=ContentPolicy)
    run_parent: RunParent = "auto"
    resume_trace: ResumeTrace = "auto"
    start_marker: bool = True
    streams: Streams = "summary"
    roots: bool = False
    conversation_id: bool = False
    names_traces: bool = False
    llama_index: bool = False

    def __post_init__(self) -> None:
        _check("run_parent", self.run_parent, get_args(RunParent))
        _check("resume_trace", self.resume_trace, get_args(ResumeTrace))
        _check("streams", self.streams, get_args(Streams))

    def within(self, longest: int | None) -> Settings:
        """The same where no attribute may be longer; of what is shorter than 64 characters, JSON cannot be made."""
        longest = self.content.within(longest)
        if longest is None:
            return self
        return replace(self, content=replace(self.content, max_attribute_chars=max(longest, SMALLEST_ATTRIBUTE)))


@dataclass(frozen=True, slots=True)
class Said:
    """What a caller said of how runs are drawn, by the names of its options; None where it said nothing.

    Attributes:
        at: Which call it was: later ones have higher numbers.
    """

    content: Mode | ContentPolicy | None = None
    redact: Callable[[str, Any], Any] | None = None
    blob: Callable[[str, str], str | None] | None = None
    run_parent: RunParent | None = None
    resume_trace: ResumeTrace | None = None
    start_marker: bool | None = None
    streams: Streams | None = None
    llama_index: bool | None = None
    at: int = field(default_factory=count(1).__next__)

    @property
    def policy(self) -> ContentPolicy | None:
        """How much of payloads was asked for; None where nothing was said of that."""
        return None if self.content is None else self.policy_over("types")

    @property
    def callback(self) -> Callable[[str, Any], Any] | None:
        """Who is to be asked about what is captured."""
        return self.redact or (self.content.redact if isinstance(self.content, ContentPolicy) else None)

    @property
    def blob_of(self) -> Callable[[str, str], str | None] | None:
        """Who keeps the whole of what is too long."""
        return self.blob or (self.content.blob if isinstance(self.content, ContentPolicy) else None)

    def policy_over(self, default: Mode | ContentPolicy) -> ContentPolicy:
        """What may be shown, where the default is this: what is not said is as there."""
        known = default if isinstance(default, ContentPolicy) else ContentPolicy.from_environment(default)
        if isinstance(self.content, ContentPolicy):
            policy = self.content
        elif self.content is not None:
            policy = replace(known, mode=ContentPolicy.from_environment(self.content).mode)
        else:
            policy = known
        return replace(policy, redact=self.callback or known.redact, blob=self.blob_of or known.blob)

    def over(self, settings: Settings) -> Settings:
        """The settings, with what was said in place of what they have.

        Raises:
            TelemetrySetupError: If one of the options is unknown.
        """
        options = {name: value for name, value in self._said().items() if name not in ("content", "blob")}
        return replace(settings, content=self.policy_over(settings.content), **options)

    def after(self, earlier: Said | None) -> Said:
        """This, and what an earlier call said that this one says nothing of."""
        if earlier is None:
            return self
        return replace(earlier, **self._said(), redact=self.callback or earlier.callback, at=self.at)

    def _said(self) -> dict[str, Any]:
        said = {option.name: getattr(self, option.name) for option in fields(self)}
        return {name: value for name, value in said.items() if value is not None and name not in ("at", "redact")}


def _check(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TelemetrySetupError(f"{option}={value!r} is unknown. Use one of {', '.join(map(repr, known))}.")
