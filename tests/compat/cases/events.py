"""Events: declared and dynamic fields, mapping access, equality, dumps, copies."""

import copy
import json
import pickle
from datetime import datetime
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, computed_field, field_validator

from tests.compat.case import case, error_of
from tests.compat.flows import A
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

T = TypeVar("T")


class Ev(Event):
    a: int
    b: str = "x"


class Point(BaseModel):
    x: int = 0


@case([1, "x", 3])
def declared_and_dynamic_fields_are_attributes():
    ev = Ev(a=1, c=3)
    return ev.a, ev.b, ev.c


@case(["!AttributeError", False, 5])
def a_missing_attribute_is_an_attribute_error():
    ev = Ev(a=1)
    return error_of(lambda: ev.zz), hasattr(ev, "zz"), getattr(ev, "zz", 5)


@case([{"c": 3}, ["c"], [3], [["c", 3]], 1, ["c"], True])
def mapping_methods_see_dynamic_fields():
    ev = Ev(a=1, c=3)
    return ev.to_dict(), list(ev.keys()), list(ev.values()), list(ev.items()), len(ev), list(ev), "c" in ev


@case([[1, 1], [], False], peer_gives=[[None, "!KeyError"], [], False], because="declared-fields-by-name")
def get_and_index_reach_declared_fields():
    ev = Ev(a=1)
    return [ev.get("a"), error_of(lambda: ev["a"])], list(ev), "a" in ev


@case([7, 7], peer_gives=[1, 7], because="declared-fields-by-name")
def setting_by_index_sets_a_declared_field():
    ev = Ev(a=1)
    ev["a"] = 7
    return ev.a, ev["a"]


@case([None, 4, None])
def get_has_a_default():
    ev = Event(x=None)
    return ev.get("x", 4), ev.get("y", 4), ev.get("y")


@case([{"new": 5, "n2": 6}, 9, 6])
def fields_can_be_set_later():
    ev = Ev(a=1)
    ev.new = 5
    ev["n2"] = 6
    ev.a = 9
    return ev.to_dict(), ev.a, ev.n2


@case("!KeyError")
def a_missing_key_is_a_key_error():
    return Event(x=1)["y"]


@case([True, True])
def an_event_is_always_true():
    return bool(Event()), bool(Event(x=0))


@case(["!TypeError", "!TypeError"])
def an_event_takes_no_positional_value():
    return error_of(lambda: Event(1)), error_of(lambda: StartEvent("x"))  # type: ignore[call-arg]


@case("!ValidationError")
def a_required_field_that_is_missing_is_refused():
    return Ev()  # type: ignore[call-arg]


@case([True, False, False, True])
def equality_looks_at_all_fields_and_the_class():
    same = Ev(a=1, c=1) == Ev(a=1, c=1)
    return same, Ev(a=1, c=1) == Ev(a=1, c=2), Event(x=1) == StartEvent(x=1), Event(x=1) == Event(x=1)


@case("!TypeError")
def an_event_has_no_hash():
    return hash(Ev(a=1))


@case([{"a": 1, "b": "x", "_data": {"c": 3}}, {"a": 1, "b": "x"}, {"_data": {"x": 1}}, {}])
def a_dump_keeps_dynamic_fields_apart():
    return Ev(a=1, c=3).model_dump(), Ev(a=1).model_dump(), Event(x=1).model_dump(), Event().model_dump()


@case({"a": 1, "b": "x", "_data": {"c": [1]}})
def a_json_dump_keeps_dynamic_fields_apart():
    return json.loads(Ev(a=1, c=[1]).model_dump_json())


@case([2, {"z": 2}, True])
def a_dump_can_be_validated_back():
    ev = Ev.model_validate({"a": 1, "_data": {"z": 2}})
    return ev.z, ev.to_dict(), ev == Ev(a=1, z=2)


@case([[1], 1])
def a_json_dump_can_be_validated_back():
    ev = Ev.model_validate_json(Ev(a=1, c=[1]).model_dump_json())
    return ev.c, ev.a


@case([2, {"q": 2}])
def unknown_keys_become_dynamic_when_validated():
    ev = Ev.model_validate({"a": 1, "q": 2})
    return ev.q, ev.to_dict()


@case([{"a": 1, "b": "x"}, {"b": "x", "_data": {"c": 2}}])
def a_dump_can_leave_declared_fields_out():
    return Ev(a=1).model_dump(exclude={"c"}), Ev(a=1, c=2).model_dump(exclude={"a"})


@case([{"a": 1}], peer_gives=[{"a": 1, "_data": {"c": 2}}], because="dynamic-fields-are-extra-fields")
def a_dump_that_names_fields_gives_only_those():
    return [Ev(a=1, c=2).model_dump(include={"a"})]


@case([{"c": 3}, True], peer_gives=[None, False], because="dynamic-fields-are-extra-fields")
def pydantic_knows_of_dynamic_fields():
    return Ev(a=1, c=3).model_extra, Ev.model_json_schema().get("additionalProperties", False)


@case([1, {"_foo": 1}])
def an_underscore_attribute_set_later_is_a_dynamic_field():
    ev = Event()
    ev._foo = 1
    return ev._foo, ev.to_dict()


@case([2, [1], [1], [1, 2]])
def copies_keep_dynamic_fields():
    ev = Ev(a=1, c=[1])
    changed, deep = ev.model_copy(update={"a": 2}), copy.deepcopy(ev)
    deep.c.append(2)
    return changed.a, changed.c, ev.c, deep.c


@case([3, 1, "r"])
def events_can_be_pickled():
    ev = pickle.loads(pickle.dumps(Ev(a=1, c=3)))
    return ev.c, ev.a, pickle.loads(pickle.dumps(StopEvent(result="r"))).result


class Private(Event):
    a: int = 0
    _secret: str = PrivateAttr(default="s")


@case(["t", "s", {}])
def a_private_attribute_can_be_given():
    ev = Private(_secret="t")
    return ev._secret, Private()._secret, ev.to_dict()


@case([{"x": 1}, {"data": 1, "context": 2}, {"_x": 1}])
def any_name_can_be_a_dynamic_field():
    return Event(x=1)._data, Event(data=1, context=2).to_dict(), Event(_x=1).to_dict()


@case({"self": 1}, peer_gives="!TypeError", because="any-name-can-be-a-field")
def even_self_can_be_a_dynamic_field():
    return Event(self=1).to_dict()


@case([[1], True, True])
def a_field_may_be_called_as_a_mapping_method():
    ev = Event(items=[1], keys=2)
    return ev["items"], callable(ev.items), callable(ev.keys)


@case([[1], {"items": [], "keys": 2}])
def a_declared_field_may_be_called_as_a_mapping_method():
    class N(Event):
        items: list = Field(default_factory=list)  # type: ignore[assignment]
        keys: int = 0  # type: ignore[assignment]

    return N(items=[1]).items, N(keys=2).model_dump()


@case([2, 3, {"a": 1}])
def a_custom_constructor_works():
    class N(Event):
        a: int

        def __init__(self, a, **fields):
            super().__init__(a=a, **fields)

    return N(2).a, N(1, q=3).q, {"a": N.model_validate({"a": 1}).a}


@case([3, 9])
def a_post_init_hook_runs():
    class N(Event):
        a: int
        _next: int = PrivateAttr(default=0)

        def model_post_init(self, context):
            self._next = self.a + 1

    return N(a=2)._next, N(a=2, z=9).z


@case(["!ValidationError", 4])
def validators_run():
    class N(Event):
        a: int

        @field_validator("a")
        @classmethod
        def double(cls, value):
            return value * 2

    return error_of(lambda: N(a="no")), N(a="2").a  # type: ignore[arg-type]


@case([4, {"a": 2, "double": 4, "_data": {"z": 1}}])
def computed_fields_are_dumped():
    class N(Event):
        a: int

        @computed_field
        @property
        def double(self) -> int:
            return self.a * 2

    return N(a=2).double, N(a=2, z=1).model_dump()


@case([3, 3], peer_gives=["!ValidationError", 3], because="fields-with-an-alias")
def a_field_can_be_given_by_its_alias():
    class N(Event):
        mine: int = Field(alias="myAlias")

    class P(Event):
        model_config = ConfigDict(populate_by_name=True)
        mine: int = Field(alias="myAlias")

    return error_of(lambda: N(myAlias=3).mine), P(mine=3).mine


@case(["!ValidationError", 1])
def a_frozen_event_is_frozen():
    class N(Event):
        model_config = ConfigDict(frozen=True)
        a: int

    ev = N(a=1)
    return error_of(lambda: setattr(ev, "a", 2)), ev.a


@case([2, {"b": 2}])
def forbidding_extra_fields_does_not_forbid_dynamic_ones():
    class N(Event):
        model_config = ConfigDict(extra="forbid")
        a: int

    return N(a=1, b=2).b, N(a=1, b=2).to_dict()


@case([1, "!ValidationError"])
def a_generic_event_works():
    class G(Event, Generic[T]):
        v: T

    return G[int](v=1).v, error_of(lambda: G[int](v="x"))  # type: ignore[arg-type]


@case([3, 1])
def a_model_can_be_mixed_in():
    class Mixin(BaseModel):
        q: int = 1

    class N(Event, Mixin):
        pass

    return N(q=3, z=1).q, N(z=1).z


@case([3, {"a": 1}])
def class_variables_are_no_fields():
    class N(Event):
        K: ClassVar[int] = 3
        a: int = 1

    return N.K, N().model_dump()


@case([True, "Point", True])
def values_of_any_type_are_kept_as_they_are():
    marker = object()
    ev = Event(marker=marker, point=Point(x=1), call=len)
    return ev.marker is marker, type(ev.point).__name__, ev.call is len


@case(["Point", 1])
def a_model_in_a_declared_field_is_validated():
    class N(Event):
        point: Point

    ev = N(point={"x": 1})  # type: ignore[arg-type]
    return type(ev.point).__name__, ev.point.x


@case([4, {"ev": {"a": 1, "b": "x", "_data": {"z": 4}}}])
def an_event_in_a_field_keeps_its_dynamic_fields():
    class N(Event):
        ev: Ev

    outer = N(ev=Ev(a=1, z=4))
    return outer.ev.z, outer.model_dump()


@case(
    ["Ev(a=1, b='x')", "A(n=2)", "Ev(a=1, b='x', c=3)", "Event(x=1)"],
    peer_gives=["Ev(a=1, b='x')", "A(n=2)", "Ev(a=1, b='x')", "Event()"],
    because="repr-shows-dynamic-fields",
)
def the_text_of_an_event_shows_its_fields():
    return repr(Ev(a=1)), repr(A(n=2)), repr(Ev(a=1, c=3)), repr(Event(x=1))


@case(["yes", "Lisa", "?"])
def questions_and_answers_have_any_fields():
    answer = HumanResponseEvent(response="yes", user_name="Lisa")
    return answer.response, answer.user_name, InputRequiredEvent(prefix="?").prefix


@case(["datetime", "Point"], peer_gives=["str", "dict"], because="types-survive-in-dynamic-fields")
async def values_in_a_snapshot_of_an_event_keep_their_type():
    from workflows.context import JsonSerializer

    serializer = JsonSerializer()
    ev = serializer.deserialize(serializer.serialize(Ev(a=1, at=datetime(2020, 1, 1), point=Point(x=1))))
    return type(ev.at).__name__, type(ev.point).__name__
