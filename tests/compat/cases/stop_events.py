"""Stop events: the result of a run, their dumps, their subclasses."""

from tests.compat.case import case, error_of
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent


class Report(StopEvent):
    text: str


def flow_ending_with(stop):
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return stop

    return W()


@case(["r", "r", None, None, 0])
def the_result_may_be_given_by_position():
    return (
        StopEvent("r").result,
        StopEvent(result="r").result,
        StopEvent().result,
        StopEvent(None).result,
        StopEvent(0).result,
    )


@case([{"result": "r"}, {}, {"result": 0}])
def a_dump_has_the_result_unless_it_is_none():
    return StopEvent("r").model_dump(), StopEvent().model_dump(), StopEvent(0).model_dump()


@case({"result": "r", "_data": {"k": 1}}, peer_gives={"result": "r"}, because="dump-of-a-stop-event")
def a_dump_has_dynamic_fields_too():
    return StopEvent("r", k=1).model_dump()


@case([3, {"a": 1}])
def a_dump_can_be_validated_back():
    again = StopEvent.model_validate_json(StopEvent({"a": 1}).model_dump_json())
    return StopEvent.model_validate({"result": 3}).result, again.result


@case(["x", "StopEvent(result='x')", "StopEvent()", "None"])
def the_text_of_a_stop_event_is_its_result():
    return str(StopEvent("x")), repr(StopEvent("x")), repr(StopEvent()), str(StopEvent())


@case([True, False, True])
def equality_looks_at_the_result():
    return StopEvent("a") == StopEvent("a"), StopEvent("a") == StopEvent("b"), bool(StopEvent())


@case([1, {"k": 1}])
def a_stop_event_has_dynamic_fields():
    return StopEvent("r", k=1).k, StopEvent("r", k=1).to_dict()


@case([None, "Report(text='t')", {"text": "t"}])
def a_subclass_has_no_result_of_its_own():
    return Report(text="t").result, repr(Report(text="t")), Report(text="t").model_dump()


@case("!AttributeError", peer_gives=None, because="setting-the-result")
def the_result_cannot_be_set():
    stop = StopEvent("a")
    return error_of(lambda: setattr(stop, "result", "b"))


@case(4)
def a_subclass_can_compute_the_result():
    class Doubled(StopEvent):
        x: int

        def _get_result(self):
            return self.x * 2

    return Doubled(x=2).result


@case("t", peer_gives="!ValidationError", because="positional-stop-event")
def a_lone_positional_value_is_the_one_required_field():
    return Report("t").text  # type: ignore[call-arg]


@case("q")
def a_subclass_may_declare_the_result():
    class Typed(StopEvent):
        result: str  # type: ignore[assignment]

    return Typed(result="q").result


@case(["plain", None, [1]])
async def awaiting_gives_the_result_of_a_plain_stop_event():
    return [await flow_ending_with(StopEvent(result=value)).run() for value in ("plain", None, [1])]


@case(["Report", "t"])
async def awaiting_gives_a_subclass_itself():
    result = await flow_ending_with(Report(text="t")).run()
    return type(result).__name__, result.text


@case(["Report", "t"])
async def a_custom_stop_event_can_be_declared():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> Report:
            return Report(text=ev.t)

    result = await W().run(t="t")
    return type(result).__name__, result.text
