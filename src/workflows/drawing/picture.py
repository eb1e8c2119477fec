"""What is drawn: boxes and arrows, of a workflow's graph or of one run of it; no geometry yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, assert_never

from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.instrumentation.history import EventRef, HistoryEntry, RunHistory
from workflows.representation.graph import (
    WorkflowEventNode,
    WorkflowExternalNode,
    WorkflowGenericNode,
    WorkflowGraph,
    WorkflowGraphNode,
    WorkflowResourceConfigNode,
    WorkflowResourceNode,
    WorkflowStepNode,
)

__all__ = ["Arrow", "Box", "BoxKind", "Picture", "picture_of_graph", "picture_of_run"]

BoxKind = Literal["step", "failed", "waited", "event", "start", "stop", "human", "external", "resource"]
OUTSIDE = "external_step"


@dataclass(frozen=True, slots=True)
class Box:
    """A node as drawn; `note` is what a reader sees on pointing at it."""

    id: str
    label: str
    kind: BoxKind
    note: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From box to box."""

    source: str
    target: str
    label: str | None = None


@dataclass(slots=True)
class Picture:
    """Boxes by id and the arrows between them, in the order in which they are to be placed."""

    title: str
    caption: str = ""
    boxes: dict[str, Box] = field(default_factory=dict[str, Box])
    arrows: list[Arrow] = field(default_factory=list[Arrow])

    def add(self, box: Box) -> str:
        """Add a box, unless its id is there already; gives the id."""
        self.boxes.setdefault(box.id, box)
        return box.id

    def link(self, source: str, target: str, label: str | None = None) -> None:
        """Add an arrow."""
        self.arrows.append(Arrow(source, target, label))


def picture_of_graph(graph: WorkflowGraph, max_label_length: int | None = None) -> Picture:
    """Everything that may happen in a workflow."""
    picture = Picture(graph.name, graph.description.partition("\n")[0] if graph.description else "")
    for node in graph.nodes:
        label = node.truncated_label(max_label_length) if max_label_length else node.label
        picture.add(Box(node.id, label, _kind_of_node(node), _note(node)))
    for edge in graph.edges:
        picture.link(edge.source, edge.target, edge.label)
    return picture


def picture_of_run(history: RunHistory, max_label_length: int | None = None) -> Picture:
    """What happened in one run: a box for every attempt and every event, `#n` counts the boxes of a step."""
    lost = f", the first {history.lost} of them not kept" if history.lost else ""
    caption = f"run {history.run_id}, {history.outcome or 'going on'}: {history.ended} attempts{lost}"
    picture = Picture(history.workflow, caption)
    entries = sorted(history.entries, key=lambda e: e.started_ns)
    origin = entries[0].started_ns if entries else 0
    numbers: dict[str, int] = {}
    previous: dict[str, str] = {}
    for entry in entries:
        numbers[entry.step] = number = numbers.get(entry.step, 0) + 1
        label = _cut(f"{entry.step}#{number}", max_label_length)
        step = picture.add(Box(f"step:{entry.step}#{number}", label, _kind_of_attempt(entry), _times(entry, origin)))
        for ref in entry.causes:
            picture.link(_event(picture, ref, max_label_length), step)
        for ref in entry.answers:
            picture.link(_event(picture, ref, max_label_length), step, "answers")
        for ref in entry.emitted:
            picture.link(step, _event(picture, ref, max_label_length))
        if entry.exec_id in previous:
            picture.link(previous[entry.exec_id], step, f"attempt {entry.attempt}")
        previous[entry.exec_id] = step
    return picture


def _event(picture: Picture, ref: EventRef, max_label_length: int | None) -> str:
    event_id, event = ref
    box_id = f"event:{event_id}"
    if box_id not in picture.boxes:
        note = f"{event.__module__}.{event.__qualname__}, id {event_id}"
        picture.add(Box(box_id, _cut(event.__name__, max_label_length), _kind_of_event(event), note))
        if event_id.startswith("x"):
            picture.link(picture.add(Box(OUTSIDE, OUTSIDE, "external", "whoever sent from outside the steps")), box_id)
    return box_id


def _kind_of_node(node: WorkflowGraphNode) -> BoxKind:
    match node:
        case WorkflowStepNode():
            return "step"
        case WorkflowEventNode():
            return _kind_of_names(node.event_types)
        case WorkflowExternalNode():
            return "external"
        case WorkflowResourceNode() | WorkflowResourceConfigNode():
            return "resource"
        case WorkflowGenericNode():
            return _kind_of_names(node.event_types or ())
        case _:
            assert_never(node)


def _kind_of_event(event: type[Event]) -> BoxKind:
    return _kind_of_names([c.__name__ for c in event.__mro__])


def _kind_of_names(names: Iterable[str]) -> BoxKind:
    kinds: dict[str, BoxKind] = {
        StartEvent.__name__: "start",
        StopEvent.__name__: "stop",
        InputRequiredEvent.__name__: "human",
        HumanResponseEvent.__name__: "human",
    }
    for name in names:
        if name in kinds:
            return kinds[name]
    return "event"


def _kind_of_attempt(entry: HistoryEntry) -> BoxKind:
    if entry.outcome == "completed":
        return "step"
    return "waited" if entry.outcome in ("waiting", "suspended") else "failed"


def _note(node: WorkflowGraphNode) -> str:
    match node:
        case WorkflowEventNode():
            fields = (node.event_schema or {}).get("properties", {})
            return f"{', '.join(node.event_types)}; fields: {', '.join(fields) or 'none declared'}"
        case WorkflowResourceNode():
            return node.description or f"made by {node.getter_name}"
        case WorkflowResourceConfigNode():
            return node.description or f"read from {node.config_file}"
        case WorkflowStepNode():
            return node.description or ""
        case _:
            return ""


def _times(entry: HistoryEntry, origin: int) -> str:
    start, took = (entry.started_ns - origin) / 1e9, (entry.ended_ns - entry.started_ns) / 1e9
    return f"attempt {entry.attempt} {entry.outcome}, began at {start:.3f} s, took {took:.3f} s"


def _cut(label: str, max_length: int | None) -> str:
    return f"{label[: max_length - 1]}*" if max_length and len(label) > max_length else label
