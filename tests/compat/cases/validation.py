"""Validation: what is wrong with the graph of a workflow is said before it runs."""

from typing import Annotated, Any

from tests.compat.case import case, error_of
from tests.compat.flows import A, Answer, Ask, B, Echo
from workflows import Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Closed(Workflow):
    """Two steps that only feed each other, beside one that ends the run."""

    @step
    async def s(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=1)

    @step
    async def t(self, ev: A) -> B:
        return B()

    @step
    async def u(self, ev: B) -> A:
        return A()


class Unread(Workflow):
    @step
    async def s(self, ev: StartEvent) -> StopEvent | A:
        return StopEvent(result=1)


def validated(cls, **options):
    return error_of(lambda: cls(**options).validate())


@case([False, True, True])
def validate_says_whether_a_person_is_asked():
    class Asks(Workflow):
        @step
        async def s(self, ev: StartEvent) -> Ask:
            return Ask()

        @step
        async def t(self, ev: Answer) -> StopEvent:
            return StopEvent()

    class Listens(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent | None:
            return None

        @step
        async def t(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent()

    return validated(Echo), validated(Asks), validated(Listens)


@case(["!WorkflowConfigurationError", None])
async def a_workflow_without_steps_is_refused():
    class W(Workflow):
        pass

    return error_of(lambda: W().run() and None), None


@case("!WorkflowConfigurationError")
def a_workflow_needs_a_start():
    class W(Workflow):
        @step
        async def s(self, ev: A) -> StopEvent:
            return StopEvent()

    W().validate()


@case("!WorkflowConfigurationError")
def a_workflow_needs_an_end():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> None:
            return None

    W().validate()


class OtherStart(StartEvent):
    pass


class OtherStop(StopEvent):
    pass


@case("!WorkflowConfigurationError")
def two_classes_of_start_event_are_refused():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def t(self, ev: OtherStart) -> StopEvent:
            return StopEvent()

    W()


@case(["!WorkflowConfigurationError", "!WorkflowConfigurationError"])
def two_classes_of_stop_event_are_refused_even_without_validation():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent | OtherStop:
            return StopEvent()

    return error_of(W), error_of(lambda: W(disable_validation=True))


@case("!WorkflowValidationError")
def an_event_that_nobody_produces_is_refused():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    W().validate()


@case(["!WorkflowValidationError", True])
def an_event_that_nobody_consumes_is_refused_and_named():
    try:
        Unread().validate()
    except Exception as error:
        return f"!{type(error).__name__}", "A" in str(error)


@case("!WorkflowValidationError")
def a_step_that_accepts_the_end_is_refused():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def t(self, ev: StopEvent) -> None:
            return None

    W().validate()


@case(["!WorkflowValidationError", False])
def a_circle_that_nothing_reaches_is_refused_unless_skipped():
    return validated(Closed), validated(Closed, skip_graph_checks={"reachability", "dead_end"})


@case([True, True])
def all_graph_errors_are_told_at_once():
    try:
        Closed().validate()
    except Exception as error:
        return "reachab" in str(error), "dead" in str(error)


@case(False)
def one_step_can_skip_a_check():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step(skip_graph_checks=["reachability", "dead_end"])
        async def t(self, ev: A) -> B:
            return B()

        @step(skip_graph_checks=["reachability", "dead_end"])
        async def u(self, ev: B) -> A:
            return A()

    return W().validate()


@case(["!WorkflowValidationError", "!WorkflowValidationError"])
def a_check_of_an_unknown_name_is_refused():
    def define():
        @step(skip_graph_checks=["no such check"])  # type: ignore[list-item]
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    return error_of(lambda: Echo(skip_graph_checks={"no such check"})), error_of(define)


class DeadEnd(Workflow):
    @step
    async def s(self, ev: StartEvent) -> StopEvent | A:
        return StopEvent(result=1)

    @step
    async def t(self, ev: A) -> A:
        return A()


@case(["!WorkflowValidationError", False])
def a_step_that_leads_nowhere_is_refused_unless_skipped():
    return validated(DeadEnd), validated(DeadEnd, skip_graph_checks={"dead_end"})


@case(False, peer_gives="!WorkflowValidationError", because="terminal-event-check")
def the_check_for_unread_events_can_be_skipped():
    return validated(Unread, skip_graph_checks={"terminal_event"})


class Unheard(Workflow):
    """Gives an answer that no step takes."""

    @step
    async def s(self, ev: StartEvent) -> StopEvent | Answer:
        return StopEvent(result=1)


@case(["!WorkflowValidationError", False])
def an_answer_that_no_step_takes_is_refused_unless_skipped():
    return validated(Unheard), validated(Unheard, skip_graph_checks={"terminal_event"})


@case(["!WorkflowValidationError", "!WorkflowValidationError", False])
def a_list_is_not_joined_with_what_comes_from_none():
    class Late(A):
        pass

    class Joins(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return [A()]

        @step
        async def b(self, ev: StartEvent) -> B:
            return B()

        @step
        async def t(self, events: list[A | B]) -> StopEvent:
            return StopEvent()

    class Asks(Joins):
        @step
        async def t(self, events: list[A | Answer]) -> StopEvent:
            return StopEvent()

        @step
        async def u(self, ev: B) -> None:
            return None

    class Subclasses(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[Late]:
            return [Late()]

        @step(accept_event_subclasses=True)
        async def t(self, events: list[A]) -> StopEvent:
            return StopEvent()

    return validated(Joins), validated(Asks), validated(Subclasses)


@case([1, "!WorkflowValidationError"])
async def run_validates_unless_told_not_to():
    return await Unread(disable_validation=True).run(), error_of(lambda: Unread().run())


@case("!WorkflowValidationError")
def validate_always_checks():
    return validated(Unread, disable_validation=True)


@case([False, "!WorkflowValidationError"])
def a_subclass_is_another_event_unless_asked_for():
    class A2(A):
        pass

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A2:
            return A2()

        @step(accept_event_subclasses=True)
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    class V(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A2:
            return A2()

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    return validated(W), validated(V)


@case("!WorkflowValidationError")
def a_return_type_that_says_only_event_is_refused():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> Event:
            return A()

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    W().validate()


@case([False, True])
def questions_need_no_reader_and_answers_no_sender():
    class Asks(Workflow):
        @step
        async def s(self, ev: StartEvent) -> InputRequiredEvent:
            return InputRequiredEvent()

        @step
        async def t(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent()

    return validated(Echo), validated(Asks)


@case([["A", "B", "StartEvent", "StopEvent"], "StartEvent", "StopEvent"])
def a_workflow_knows_its_events():
    flow = Closed()
    return sorted(e.__name__ for e in flow.events), flow.start_event_class.__name__, flow.stop_event_class.__name__


@case(["StartEvent", "StopEvent"])
def hosts_read_the_classes_of_a_workflow_by_their_private_names():
    flow = Closed()
    return flow._start_event_class.__name__, flow._stop_event_class.__name__


@case([["s", "t", "u"], ["s", "t", "u"]])
def a_workflow_knows_its_steps():
    return sorted(Closed()._get_steps()), sorted(Closed._get_steps_from_class())


@case(["!WorkflowValidationError", "!WorkflowValidationError", "!WorkflowValidationError"])
def the_number_of_concurrent_runs_is_a_positive_integer():
    return [error_of(lambda n=n: Echo(num_concurrent_runs=n)) for n in (0, -1, "2")]


@case(["tests.compat.flows.Echo", "mine", "!TypeError"])
def a_workflow_has_a_name():
    return Echo().workflow_name, Echo(workflow_name="mine").workflow_name, error_of(lambda: Echo(unknown=1))


@case([["never", "produced"], ["A", "B"]], peer_gives=[["never", "produced"], ["A"]], because="all-errors-at-once")
def every_kind_of_error_is_told_at_once():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent | B:
            return StopEvent()

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    try:
        W().validate()
    except Exception as error:
        text = str(error)
        return [word for word in ("never", "produced") if word in text], [n for n in "AB" if f" {n}" in text]


def _returning(annotation: object) -> object:
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A: ...

        async def t(self, ev: StartEvent): ...

        t.__annotations__["return"] = annotation
        t = step(t)

        @step
        async def u(self, ev: A) -> StopEvent: ...

    return error_of(lambda: W().validate())


@case(["!WorkflowValidationError"] * 8)
def an_annotation_that_is_no_event_is_refused_where_a_step_returns():
    return [_returning(a) for a in (str, dict, Any, A | str, tuple[A, A], set[A], list[str], list[A | str])]


@case([False] * 5)
def a_step_returns_events_lists_of_them_or_none():
    return [_returning(a) for a in (A, A | None, list[A], list[A | None], Annotated[A | None, "what it is"])]


@case("!WorkflowValidationError", peer_gives=False, because="lists-of-lists")
def a_list_of_lists_is_refused():
    return _returning(list[list[A]])
