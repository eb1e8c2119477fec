"""What a back end can say of runs: a reader that knows nothing but the spans that came over the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.workflows_otel.otlp_sink import ReceivedSpan
from tests.workflows_otel.truth_ticks import CallTruth, RunTruth, WaitTruth

__all__ = ["Reading", "read"]

CAUSES = ("trigger", "collect_member", "external_sender")
ID = "workflow.step.execution.id"
RUN = "workflow.run.id"


@dataclass
class Reading:
    """Runs as the spans tell them, and what is wrong with the spans.

    Attributes:
        orphans: Spans whose parent did not come.
        wrong_parents: Spans that hang below something else than they should.
        unfound: Events of whose cause no link, or a wrong one, tells.
        lost: Calls, by run and exec_id, whose span did not come though a link leads to it.
        hops: Events from one step to another whose cause was found.
        never_started: Calls that were let go and stopped before their first instruction.
        by_kind: How many spans there are of each kind.
    """

    runs: dict[str, RunTruth] = field(default_factory=dict[str, RunTruth])
    orphans: list[str] = field(default_factory=list[str])
    wrong_parents: list[str] = field(default_factory=list[str])
    unfound: list[str] = field(default_factory=list[str])
    lost: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    hops: int = 0
    never_started: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    by_kind: Counter[str] = field(default_factory=Counter[str])


def read(spans: Iterable[ReceivedSpan]) -> Reading:
    """Rebuild the runs from their spans."""
    return _Reader(spans).reading


class _Reader:
    def __init__(self, spans: Iterable[ReceivedSpan]) -> None:
        self._by_id = {span.span_id: span for span in spans}
        self.reading = Reading()
        kinds = {
            "invoke_workflow": self._run,
            "run_step": self._step,
            "attempt": self._attempt,
            "wait": self._wait,
            "workflow.started": self._marker,
        }
        ours = [span for span in self._by_id.values() if span.scope == "workflows"]
        for kind, take in kinds.items():  # runs first, then steps, then attempts: each finds what it belongs to
            for span in ours:
                if span.name.split(" ")[0] == kind:
                    self.reading.by_kind[kind] += 1
                    take(span)
        for span in self._by_id.values():
            if span.parent_id and span.parent_id not in self._by_id:
                self.reading.orphans.append(span.name)

    def _run(self, span: ReceivedSpan) -> None:
        about = span.attributes
        run = self._run_of(span)
        run.streamed = about.get("workflow.stream.count", 0)
        run.outcome = about["workflow.run.outcome"]
        run.unhandled = about["workflow.run.unhandled"]
        parent = self._by_id.get(span.parent_id)
        if "workflow.parent_run.id" in about:
            self._expect(parent, ("run_step", "attempt"), RUN, about["workflow.parent_run.id"], span)
            run.parent = (about["workflow.parent_run.id"], parent.attributes[ID] if parent else "")
        else:
            self._expect(parent, ("start",), "", None, span)

    def _step(self, span: ReceivedSpan) -> None:
        about = span.attributes
        self._expect(self._by_id.get(span.parent_id), ("invoke_workflow",), RUN, about[RUN], span)
        call = self._call_of(span)
        call.outcome = about["workflow.step.outcome"]
        if "workflow.step.attempt" in about:
            call.attempts.append(call.outcome)
        call.emitted = list(about.get("workflow.emitted", ()))
        call.streamed = about.get("workflow.stream.count", 0)
        call.causes = self._causes(span)
        if "workflow.step.attempt" in about:
            self._begun(span)

    def _attempt(self, span: ReceivedSpan) -> None:
        about = span.attributes
        self._expect(self._by_id.get(span.parent_id), ("run_step",), ID, about[ID], span)
        attempts = self._call_of(span).attempts
        attempts.append(about["workflow.step.outcome"])
        if not self._begun(span):
            return
        before = self._links(span, ("retry_of",))
        if (about["workflow.step.attempt"] > 1) != bool(before) or len(attempts) != about["workflow.step.attempt"]:
            self.reading.unfound.append(f"{span.name} {about['workflow.step.attempt']}")

    def _begun(self, span: ReceivedSpan) -> bool:
        """Whether an attempt got as far as a worker."""
        about = span.attributes
        if "workflow.step.worker" not in about:
            self.reading.never_started.add((about[RUN], about[ID]))
        return "workflow.step.worker" in about

    def _wait(self, span: ReceivedSpan) -> None:
        about = span.attributes
        parent = self._by_id.get(span.parent_id)
        self._expect(parent, ("run_step", "attempt", "invoke_workflow"), RUN, about[RUN], span)
        answer = about.get("workflow.event.id")
        if answer is not None and [sender.name for sender in self._links(span, ("wait_resolved_by",))] != ["reply"]:
            self.reading.unfound.append(span.name)
        told = WaitTruth(
            parent.attributes.get(ID) if parent else None,
            about["workflow.wait.outcome"],
            answer,
            about["workflow.wait.duration_s"],
        )
        self._run_of(span).waits.setdefault(about["workflow.wait.id"], []).append(told)

    def _run_of(self, span: ReceivedSpan) -> RunTruth:
        about = span.attributes
        return self.reading.runs.setdefault(about[RUN], RunTruth(about["gen_ai.workflow.name"], None))

    def _call_of(self, span: ReceivedSpan) -> CallTruth:
        about = span.attributes
        return self._run_of(span).calls.setdefault(about[ID], CallTruth(about["workflow.step.name"]))

    def _marker(self, span: ReceivedSpan) -> None:
        self._run_of(span)
        self._expect(self._by_id.get(span.parent_id), ("invoke_workflow",), RUN, span.attributes[RUN], span)

    def _expect(
        self, parent: ReceivedSpan | None, kinds: tuple[str, ...], key: str, value: str | None, span: ReceivedSpan
    ) -> None:
        if parent is None:
            return  # counted as an orphan
        if parent.name.split(" ")[0] not in kinds or parent.attributes.get(key) != value:
            self.reading.wrong_parents.append(f"{span.name} below {parent.name}")

    def _links(self, span: ReceivedSpan, types: tuple[str, ...]) -> list[ReceivedSpan]:
        found = [self._by_id.get(to) for to, about in span.links if about["workflow.link.type"] in types]
        return [sender for sender in found if sender is not None]

    def _causes(self, span: ReceivedSpan) -> frozenset[str]:
        """The ids of the events that a call ran for; each is looked for at the span that its link leads to."""
        first = span.attributes.get("workflow.event.id")
        causes = {first} if first is not None else set[str]()
        linked: list[str] = []
        for to, about in span.links:
            if about["workflow.link.type"] in CAUSES:
                causes.add(about["workflow.event.id"])
                linked.append(to)
                self._follow(span, about["workflow.event.id"], about["workflow.event.type"], self._by_id.get(to))
        told = span.attributes.get("workflow.cause.span_ids", [])
        if set(told) != set(linked[: len(told)]) and not set(told) <= set(linked):
            self.reading.unfound.append(f"{span.name}: attributes and links differ")
        senders = {cause.rpartition(".")[0] for cause in causes} - {""}
        if senders and not linked:
            self.reading.unfound.append(f"{span.name}: {sorted(causes)}")
        return frozenset(causes)

    def _follow(self, span: ReceivedSpan, event_id: str, event_type: str, sender: ReceivedSpan | None) -> None:
        """Count the hop if the span at the other end is the sender's, and says that it sent just this event."""
        of = event_id.rpartition(".")[0]
        if sender is None and of:
            self.reading.lost.add((span.attributes[RUN], of))
            return
        if sender is None or sender.attributes.get(ID, "") != of:
            self.reading.unfound.append(f"{span.name}: {event_id}")
            return
        if not of:
            return  # from outside
        step = self._by_id.get(sender.parent_id) if sender.name.startswith("attempt ") else sender
        # A step's own span may be missing where the process was killed; then nothing can be said of what it emitted.
        emitted = step.attributes.get("workflow.emitted", ()) if step is not None else (f"{event_type}:{event_id}",)
        if sender.attributes[RUN] == span.attributes[RUN] and f"{event_type}:{event_id}" in emitted:
            self.reading.hops += 1
        else:
            self.reading.unfound.append(f"{span.name}: {event_id} is not among what {sender.name} emitted")
