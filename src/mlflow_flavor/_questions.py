"""Runs that wait for a person: when one does, what it asks, and what an answer makes of it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from mlflow_flavor._compat import invalid
from mlflow_flavor._model_code import DIGEST_CHARS, MODULE_PREFIX
from mlflow_flavor._resume import PausedRun, open_token, seal, spend
from mlflow_flavor._rows import plain_event
from mlflow_flavor.token_store import TokenStore
from workflows import Context, Workflow
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.errors import ContextSerdeError
from workflows.events import Event, HumanResponseEvent, InternalDispatchEvent, StopEvent, WorkflowIdleEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import (
    Record,
    RunEnded,
    RunSuspended,
    WaitCancelled,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)

__all__ = ["ModelSerializer", "OpenQuestions", "Questions", "model_serializer"]

_MODEL_MODULE = re.compile(rf"{MODULE_PREFIX}(?P<digest>[0-9a-f]{{{DIGEST_CHARS}}})(?:_\d+)?(?P<rest>\..*)?")


class OpenQuestions:
    """A record handler of one workflow instance that knows which waits of which runs are open."""

    name = "mlflow_questions"
    destination = None

    def __init__(self) -> None:
        self._open: dict[str, dict[str, WaitStarted]] = {}

    def handle(self, record: Record) -> None:
        """Take one record; only those about waits and ends matter."""
        match record:
            case WaitStarted():
                self._open.setdefault(record.run_id, {})[record.wait_id] = record
            case WaitResolved() | WaitTimedOut() | WaitCancelled():
                self._open.get(record.run_id, {}).pop(record.wait_id, None)
            case RunEnded() | RunSuspended():
                self._open.pop(record.run_id, None)
            case _:
                pass

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing to carry."""
        return None

    def of(self, run_id: str) -> list[WaitStarted]:
        """The open waits of a run, oldest first."""
        return list(self._open.get(run_id, {}).values())


class Questions:
    """What a served workflow asks people, between one call and the next.

    Args:
        workflow: The workflow.
        source: Digest of its source: an answer finds its run in no other.
        store: Where runs that wait are kept; None: in the token itself.
    """

    def __init__(self, workflow: Workflow, source: str, store: TokenStore | None = None) -> None:
        self.open = OpenQuestions()
        self._store = store
        self._workflow = workflow
        self._source = source

    def waits(self, handler: WorkflowHandler, event: Event) -> bool:
        """Whether this event of its stream says that the run only waits for an answer."""
        return isinstance(event, WorkflowIdleEvent) and bool(self.open.of(handler.run_id))

    async def ask(self, handler: WorkflowHandler, session: str | None, user: str | None) -> dict[str, Any]:
        """Let go of a run that waits; gives what the caller is told: the questions, and the token to go on with."""
        waits = self.open.of(handler.run_id)
        snapshot = await handler.suspend()
        asked = [{"id": w.wait_id, "event": plain_event(w.asked) if w.asked is not None else None} for w in waits]
        paused = PausedRun(self._source, snapshot, [wait.wait_id for wait in waits], session, user)
        return {
            "status": "input_required",
            "waiting": asked,
            "resume": await asyncio.to_thread(seal, paused, self._store),
        }

    def open_request(self, resume: str) -> tuple[PausedRun, list[Event]]:
        """The run and the answers in the parameter `resume`; a token of a store is used up, unless it is refused.

        Raises:
            MlflowException: If it is malformed, or the token is not for this model, or an answer fits no question.
        """
        try:
            request = json.loads(resume)
            token, answers = request["token"], request["answers"].items()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise invalid(
                'the parameter resume needs JSON: {"token": "<resume>", "answers": {"<id>": {"type": "<event class>", '
                '"data": {...}}}}.'
            ) from error
        paused = open_token(str(token), self._source, self._store)
        found = [self._answer(paused, wait_id, answer) for wait_id, answer in answers]
        spend(str(token), self._store)
        return paused, found

    def go_on(self, paused: PausedRun, answers: list[Event]) -> WorkflowHandler:
        """Start the run where it stopped, and give it the answers."""
        try:
            context = Context.from_dict(self._workflow, paused.snapshot, model_serializer(self._workflow))
        except ContextSerdeError as error:
            raise invalid(f"this resume token cannot be read: {error}") from error
        handler = self._workflow.run(ctx=context)
        for answer in answers:
            handler.ctx.send_event(answer)
        return handler

    def _answer(self, paused: PausedRun, wait_id: str, answer: Any) -> Event:
        if wait_id not in paused.waits:
            raise invalid(f"no question '{wait_id}' is open: the run waits for {', '.join(paused.waits)}.")
        classes = self._answer_classes()
        given = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
        found = classes.get(str(given.get("type")))
        if found is None:
            raise invalid(f"answer '{wait_id}' names no event class of this workflow: {', '.join(sorted(classes))}.")
        try:
            return found(**given.get("data", {}))
        except (ValidationError, TypeError) as error:
            raise invalid(f"answer '{wait_id}' does not fit {found.__name__}: {error}") from error

    def _answer_classes(self) -> dict[str, type[Event]]:
        """The event classes that a caller may send: those of the steps, and what the model's own modules define.

        A wait inside a step names its class in the body only, where nobody can look.
        """
        package = type(self._workflow).__module__.partition(".")[0]
        home = package if _MODEL_MODULE.fullmatch(package) else type(self._workflow).__module__
        modules = [m for name, m in sys.modules.items() if name == home or name.startswith(f"{home}.")]
        defined = [item for m in modules for item in vars(m).values() if isinstance(item, type)]
        known = [c for c in (HumanResponseEvent, *defined, *self._workflow.events) if issubclass(c, Event)]
        return {c.__name__: c for c in known if not issubclass(c, InternalDispatchEvent | StopEvent)}


def model_serializer(workflow: Workflow) -> BaseSerializer:
    """What reads a snapshot into this workflow; a serializer of another kind, which its author chose, stays."""
    own = workflow.serializer
    return ModelSerializer(workflow, own) if type(own) is JsonSerializer else own


class ModelSerializer(JsonSerializer):
    """JSON that rebuilds the workflow's own classes only, whatever number its model's module got in this process.

    Where it is not closed, it rebuilds every pydantic model that is loaded.
    """

    def __init__(self, workflow: Workflow, like: JsonSerializer, *, closed: bool = True) -> None:
        super().__init__()
        vars(self).update(vars(like), _closed=closed)
        self._module = type(workflow).__module__.partition(".")[0]

    def resolve_class(self, name: str) -> type:
        """The class of that name, in this model's module where it was in that of the model that wrote it.

        Raises:
            ValueError: If it is a class of another model, or of no model and not the workflow's.
        """
        theirs = _MODEL_MODULE.fullmatch(name)
        if theirs is None:
            return super().resolve_class(name)
        ours = _MODEL_MODULE.fullmatch(self._module)
        if ours is None or theirs["digest"] != ours["digest"]:
            raise ValueError(f"Class {name} belongs to another model than {self._module}: load that version.")
        found = _attribute(f"{self._module}{theirs['rest'] or ''}")
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            raise ValueError(f"Class {name} may not be rebuilt: it is no pydantic model of this model's script.")
        return found


def _attribute(name: str) -> object:
    """What a dotted name of a loaded module stands for."""
    module, _, path = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, head = module.rpartition(".")
        path = f"{head}.{path}"
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
