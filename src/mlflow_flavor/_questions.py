"""Runs that wait for a person: when one does, what it asks, and what an answer makes of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from mlflow_flavor._answers import equal, expected_by, read_answer
from mlflow_flavor._compat import invalid
from mlflow_flavor._model_code import module_of_model
from mlflow_flavor._open_questions import OpenQuestions
from mlflow_flavor._resume import PausedRun, open_token, seal, spend
from mlflow_flavor._rows import plain_event
from mlflow_flavor._serializer import ModelSerializer, of_this_load
from mlflow_flavor.token_store import TokenStore
from workflows import Context, Workflow
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.errors import ContextSerdeError, UnserializableValueError
from workflows.events import DictLikeModel, Event, WorkflowIdleEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import WaitStarted

__all__ = ["AnsweredRun", "Questions"]


@dataclass(frozen=True, slots=True)
class AnsweredRun:
    """A run that waited, read from its token, and what it is told: by the id of the wait that asked."""

    context: Context[Any]
    answers: dict[str, Event]
    session: str | None
    user: str | None


class Questions:
    """What a served workflow asks people, between one call and the next.

    Args:
        workflow: The workflow.
        source: Digest of its source: an answer finds its run in no other.
        store: Where runs that wait are kept; None: in the token itself.
        serving: Whether this process serves, and another one may get the answer.
    """

    def __init__(
        self, workflow: Workflow, source: str, store: TokenStore | None = None, *, serving: bool = False
    ) -> None:
        self.open = OpenQuestions()
        self._store = store
        self._serving = serving
        self._workflow = workflow
        self._source = source

    def waits(self, handler: WorkflowHandler, event: Event) -> bool:
        """Whether this event of its stream says that the run only waits for an answer."""
        return isinstance(event, WorkflowIdleEvent) and bool(self.open.of(handler.run_id))

    async def ask(self, handler: WorkflowHandler, session: str | None, user: str | None) -> dict[str, Any]:
        """Let go of a run that waits; gives what the caller is told: the questions, and the token to go on with.

        Raises:
            UnserializableValueError: If its state holds what no token can keep.
        """
        waits = self.open.of(handler.run_id)
        snapshot = await handler.suspend()
        await _check_is_whole(snapshot, handler, self._workflow.serializer)
        asked = _asked(waits)
        serializer = _plain_serializer(self._workflow)
        answered = {wait_id for wait_id, _ in asked}
        expected = {wait.wait_id: expected_by(wait, serializer) for wait in waits if wait.wait_id in answered}
        paused = PausedRun(self._source, snapshot, expected, session, user)
        return {
            "status": "input_required",
            "waiting": [{"id": i, "event": plain_event(event) if event else None} for i, event in asked],
            "resume": await asyncio.to_thread(seal, paused, self._store, serving=self._serving),
        }

    def open_request(self, resume: str) -> AnsweredRun:
        """The run and the answers in the parameter `resume`; a token of a store is used up, unless it is refused.

        It is used up last of all: what can fail has been read by then, and of two callers one goes on.

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
        found = {wait_id: self._answer(paused, wait_id, answer) for wait_id, answer in answers}
        if not found:
            raise invalid(f"the parameter resume answers nothing: the run waits for {', '.join(paused.waits)}.")
        try:
            context = Context.from_dict(self._workflow, of_this_load(paused.snapshot, self._workflow))
        except ContextSerdeError as error:
            raise invalid(f"this resume token cannot be read: {error}") from error
        spend(str(token), self._store)
        return AnsweredRun(context, found, paused.session, paused.user)

    def go_on(self, run: AnsweredRun) -> WorkflowHandler:
        """Start the run where it stopped, and give each of its questions the answer that names it."""
        handler = self._workflow.run(ctx=run.context)
        for wait_id, answer in run.answers.items():
            handler.ctx.send_event(answer, wait_id=wait_id)
        return handler

    def _answer(self, paused: PausedRun, wait_id: str, answer: Any) -> Event:
        expected = paused.waits.get(wait_id)
        if expected is None:
            raise invalid(f"no question '{wait_id}' is open: the run waits for {', '.join(paused.waits)}.")
        return read_answer(self._workflow, wait_id, expected, answer, _plain_serializer(self._workflow))


def _asked(waits: list[WaitStarted]) -> list[tuple[str, Event | None]]:
    """What people are asked, each with the id of the wait that the answer is for.

    A step may stream its questions and then wait: the engine tells of waits of the run then, and of the step's own. The
    first question belongs to the step's first wait, and so on; one answer is for all that are left to the last wait.
    """
    asked = {wait.wait_id: [wait.asked] for wait in waits}
    for wait in waits:
        if wait.question is None or wait.question.event_id:  # it is of a step; or one that is over returned it
            continue
        own = [call for call in waits if call.kind == "call" and call.exec_id == wait.question.sender]
        silent = [call.wait_id for call in own if call.asked is None]
        if any(equal(call.asked, wait.asked) for call in own):
            del asked[wait.wait_id]
        elif silent:
            taker = next((wait_id for wait_id in silent if asked[wait_id] == [None]), silent[-1])
            asked[taker] = [*filter(None, asked[taker]), *asked.pop(wait.wait_id)]
    return [(wait_id, event) for wait_id, events in asked.items() for event in events]


async def _check_is_whole(snapshot: dict[str, Any], handler: WorkflowHandler, serializer: BaseSerializer) -> None:
    """Refuse a snapshot without a key of the state, which the engine leaves out: the run that goes on would miss it."""
    state = await handler.ctx.store.get_state()
    written = snapshot["state"].get("state_data")
    if not isinstance(state, DictLikeModel) or not isinstance(written, dict) or "_data" not in written:
        return
    for key, value in state.items():
        if key not in written["_data"]:
            try:
                serializer.serialize(value)
            except Exception as error:  # a serializer is the user's code, as are the values
                raise UnserializableValueError(
                    f"The run asks, and ctx.store holds what cannot be kept until it is answered, at {key!r}: {error} "
                    f"Keep there what it can be made of again."
                ) from error


def _plain_serializer(workflow: Workflow) -> ModelSerializer:
    """What writes and reads the parts of a token that are not the run's own."""
    own = workflow.serializer
    if isinstance(own, ModelSerializer):
        return own
    # Of a workflow of this process, what is loaded may be read, as in its snapshots.
    return ModelSerializer(workflow, JsonSerializer(), closed=module_of_model(workflow) is not None)
