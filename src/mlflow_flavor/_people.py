"""What a model asks people and takes as their answers, also where only the body of a step says so."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_flavor._kinds import is_a
from mlflow_flavor._serializer import home_of, modules_of
from workflows import Workflow
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent
from workflows.representation import WorkflowEventNode, WorkflowExternalNode, WorkflowGraph, WorkflowGraphEdge

__all__ = ["add_waits", "people_events"]

PEOPLE = (InputRequiredEvent, HumanResponseEvent)
EXTERNAL = "external_step"


@dataclass(frozen=True, slots=True)
class Wait:
    """A call of `wait_for_event`: the function that it is in, what it waits for, and the events that it names else."""

    function: str
    takes: list[type[Event]]
    asks: list[type[Event]]


def people_events(workflow: Workflow) -> list[type[Event]]:
    """The event classes that cross to people and back, sorted by name.

    They are those of the steps' signatures and of their waits, and all that the model's modules define as questions or
    answers: a step may give them to a function of another package, or run a child that asks.
    """
    modules = modules_of(home_of(workflow))
    named = [item for module in modules for item in list(vars(module).values())]
    defined = [c for c in (*workflow.events, *named) if is_a(c, type) and issubclass(c, PEOPLE)]
    own = {c for c in defined if c not in PEOPLE or c in workflow.events}
    waited = {c for wait in _waits(workflow) for c in (*wait.takes, *wait.asks)}
    return sorted(own | waited, key=lambda c: (c.__name__, c.__module__))


def add_waits(graph: WorkflowGraph, workflow: Workflow) -> None:
    """Draw what steps wait for in their bodies: their questions to the outside, and the answers from there."""
    steps = workflow.__definition__.spec.steps.items()
    for wait in _waits(workflow):
        for step in (name for name, spec in steps if spec.function.__name__ == wait.function):
            for event in wait.asks:
                _add(graph, event, [(step, event.__name__), (event.__name__, EXTERNAL)])
            for event in wait.takes:
                _add(graph, event, [(EXTERNAL, event.__name__), (event.__name__, step)])


def _add(graph: WorkflowGraph, event: type[Event], edges: Iterable[tuple[str, str]]) -> None:
    known = {node.id for node in graph.nodes}
    if event.__name__ not in known:
        chain = [c.__name__ for c in event.__mro__ if issubclass(c, Event) and c is not Event] or [event.__name__]
        name = event.__name__
        graph.nodes.append(WorkflowEventNode(id=name, label=name, event_type=name, event_types=chain))
    if EXTERNAL not in known:
        graph.nodes.append(WorkflowExternalNode(id=EXTERNAL, label=EXTERNAL))
    found = [WorkflowGraphEdge(source=source, target=target) for source, target in edges]
    graph.edges += [edge for edge in found if edge not in graph.edges]


def _waits(workflow: Workflow) -> Iterator[Wait]:
    """The calls of `wait_for_event` in the model's modules, as far as their classes are named where they stand."""
    for module in modules_of(home_of(workflow)):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).suffix == ".py":
            variables = vars(module)
            yield from _waits_in(ast.parse(Path(file).read_bytes()), "", variables)


def _waits_in(node: ast.AST, function: str, variables: Mapping[str, Any]) -> Iterator[Wait]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from _waits_in(child, function or name, variables)
                continue
            case ast.Call(func=ast.Attribute(attr="wait_for_event"), args=args, keywords=keywords):
                given = {"event_type": args[:1], "waiter_event": args[1:2]}
                given |= {k.arg: [k.value] for k in keywords if k.arg is not None}
                takes, asks = (_classes(given[name], variables) for name in ("event_type", "waiter_event"))
                yield Wait(function, takes, asks)
            case _:
                pass
        yield from _waits_in(child, function, variables)


def _classes(expressions: list[ast.expr], variables: Mapping[str, Any]) -> list[type[Event]]:
    """The event class that an expression names or makes an instance of."""
    named = [each.func if isinstance(each, ast.Call) else each for each in expressions]
    found = [_value(each, variables) for each in named]
    return [c for c in found if is_a(c, type) and issubclass(c, Event)]


def _value(node: ast.expr, variables: Mapping[str, Any]) -> object:
    match node:
        case ast.Name(id=name):
            return variables.get(name)
        case ast.Attribute(value=value, attr=name):
            return getattr(_value(value, variables), name, None)
        case _:
            return None
