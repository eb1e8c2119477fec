"""Questions to people: which of them an event answers, and when an idle run waits for an answer.

Which classes answer which question, no workflow says. So an answer that names a question by its id is for this one; one
that names none is for the oldest that it may be meant for.
"""

from __future__ import annotations

from collections.abc import Collection

from workflows._engine.calls import Call, Wait, equal
from workflows._engine.effects import Effect, EndRunWait, PublishEvent, StartRunWait
from workflows._engine.questions import NO_QUESTIONS, OpenQuestions, RunWait, is_streamed
from workflows._engine.resumed_waits import ended_by
from workflows._engine.state import RunState
from workflows.instrumentation.records import Envelope

__all__ = [
    "asked",
    "asks_itself",
    "begin_run_waits",
    "call_wait_over",
    "came_from_outside",
    "end_run_waits",
    "take_up_questions",
    "will_ask_again",
]


def asked(state: RunState, question: Envelope, effects: list[Effect]) -> None:
    """A step gave a question to the outside: it is open until it is answered."""
    if state.questions is NO_QUESTIONS:
        state.questions = OpenQuestions()
    if is_streamed(question):
        before = next((w for w in state.questions.streamed_by(question.sender) if w in state.questions.stale), None)
        if before is not None and equal(before.question.event, question.event):
            del state.questions.stale[before]
            return
        if before is not None:
            _close(state, before, None, effects)
    state.questions.add(RunWait(question))


def begin_run_waits(state: RunState, effects: list[Effect]) -> None:
    """The run is idle: it waits for an answer to each question that is new since it last was."""
    for wait in list(state.questions.stale):
        if wait.question.sender not in state.calls:
            _close(state, wait, None, effects)
    effects.extend([StartRunWait(wait) for wait in state.questions.begin(state.now_ns)])


def came_from_outside(
    state: RunState, envelope: Envelope, target: str | None, wait_id: str | None, effects: list[Effect]
) -> None:
    """Whatever comes from outside counts as an answer; from now on the run is known to have a sender there."""
    state.open_to_outside = state.open_to_outside or state.arrived > 1
    if state.questions.open:
        answered = state.questions.get(wait_id) if wait_id is not None else _meant(state, envelope, target)
        if answered is not None:
            _close(state, answered, envelope, effects)


def _meant(state: RunState, envelope: Envelope, target: str | None) -> RunWait | None:
    """The question that an event may answer which names none: the oldest that no call waits to hear about by itself."""
    waits = ended_by(state, envelope.event)
    if waits and all(asks_itself(state, wait) for wait in waits):
        takers = state.spec.route(type(envelope.event)).takers if target is None else (state.spec.steps[target],)
        if {step.name for step in takers} <= {wait.call.step.name for wait in waits}:
            return None  # it is for them alone
    return next((wait for wait in state.questions if not _is_of_waiting_call(state, wait)), None)


def _is_of_waiting_call(state: RunState, wait: RunWait) -> bool:
    call = state.calls.get(wait.question.sender or "") if is_streamed(wait.question) else None
    return call is not None and (call.open_waits > 0 or any(w not in call.answers for w in call.waiting_since))


def asks_itself(state: RunState, wait: Wait) -> bool:
    """Whether a call's wait has a question of its own: its `waiter_event`, or what the call streamed before."""
    return wait.asked is not None or bool(state.questions.streamed_by(wait.call.exec_id))


def call_wait_over(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """A wait of a call is over, and with its answer the first question that the call streamed to ask for it.

    What else it streamed stays open for its next waits.
    """
    streamed = state.questions.streamed_by(wait.call.exec_id)
    left = [q for q in streamed if wait.asked is None or equal(wait.asked, q.question.event)]
    if left and wait.answer is not None:
        if wait.answer.sender is None:
            state.open_to_outside = state.open_to_outside or state.arrived > 1
        _close(state, left.pop(0), wait.answer, effects)
    state.questions.stale.update(dict.fromkeys(left))


def will_ask_again(state: RunState, call: Call) -> None:
    """A call runs from the top once more, so what it streamed it will stream again."""
    state.questions.stale.update(dict.fromkeys(state.questions.streamed_by(call.exec_id)))


def take_up_questions(state: RunState, done: Collection[str], effects: list[Effect]) -> None:
    """The run goes on: waits for answers are open since before the snapshot; all calls but the `done` run again."""
    for wait in state.questions:
        if wait.told:
            effects.append(StartRunWait(wait))
        if is_streamed(wait.question) and wait.question.sender in state.calls and wait.question.sender not in done:
            state.questions.stale[wait] = None
        elif wait.unheard:
            effects.append(PublishEvent(wait.question, 1))
        wait.unheard = False


def end_run_waits(state: RunState, effects: list[Effect]) -> None:
    """The run is over: nobody waits any more; one that goes on later asks what is open as if anew."""
    effects.extend([EndRunWait(wait) for wait in state.questions if wait.told])
    left = state.questions.left(state.calls)
    state.questions = OpenQuestions([RunWait(wait.question, unheard=True) for wait in left])


def _close(state: RunState, wait: RunWait, answer: Envelope | None, effects: list[Effect]) -> None:
    wait.answer = answer
    state.questions.remove(wait)
    if wait.told:
        effects.append(EndRunWait(wait))
