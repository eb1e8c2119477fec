"""What is marked `Redact()` never leaves, wherever in its type the mark stands."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, Union

import pytest
from pydantic import BaseModel, Field, create_model
from typing_extensions import TypeAliasType, TypedDict

from workflows.events import Event
from workflows.instrumentation import redaction
from workflows.instrumentation.content import ContentPolicy, capture_event, capture_value, to_jsonable
from workflows.instrumentation.marks import MarkedArguments, is_marked
from workflows.instrumentation.redaction import Redact

FULL = ContentPolicy(mode="full")
MASK = "**********"

Pin = Annotated[str, Redact()]
Alias = TypeAliasType("Alias", Pin)
Nested = TypeAliasType("Nested", "list[Nested] | Pin")
Number = NewType("Number", Pin)  # pyright: ignore[reportGeneralTypeIssues]  # which Python takes


class Login(TypedDict):
    user: str
    pin: Pin


MARKED: list[Any] = [
    Pin,
    Annotated[str, Redact],
    Annotated[str | None, Redact()],
    Pin | None,  # pyright: ignore[reportOperatorIssue]  # in a list, and no annotation
    Optional[Pin],  # noqa: UP045  # as it is written as well
    Union[int, Pin],  # noqa: UP007
    list[Pin],
    dict[str, Pin],
    tuple[int, Pin],
    dict[str, list[Pin | None]],
    Callable[[Pin], int],
    Alias,
    Number,
    Login,
    list[Login],
]
UNMARKED: list[Any] = [str, str | None, list[str], Literal["Redact"], Annotated[str, "Redact"], BaseModel, None, Any]


@pytest.mark.parametrize("annotation", MARKED)
def test_a_field_of_a_model_is_hidden_wherever_the_mark_stands(annotation: Any) -> None:
    model = create_model("M", __base__=Event, secret=(annotation, None), open=(str, "shown"))
    captured = capture_event(model.model_construct(secret="LEAK", open="shown"), FULL)
    assert captured is not None
    assert captured.value == {"secret": MASK, "open": "shown"}


@pytest.mark.parametrize("annotation", MARKED)
def test_a_field_of_a_dataclass_or_a_named_tuple_is_hidden_wherever_the_mark_stands(annotation: Any) -> None:
    a_dataclass = make_dataclass("D", [("secret", annotation), ("open", str)])
    a_tuple = NamedTuple("a_tuple", [("secret", annotation), ("open", str)])  # noqa: UP014  # of any annotation
    for made in (a_dataclass("LEAK", "shown"), a_tuple("LEAK", "shown")):
        assert to_jsonable(made, FULL).value == {"secret": MASK, "open": "shown"}


@pytest.mark.parametrize("annotation", UNMARKED)
def test_a_type_without_the_mark_hides_nothing(annotation: Any) -> None:
    assert not is_marked(annotation)


@pytest.mark.parametrize(
    ("annotation", "marked"),
    [
        ("Annotated[str, Redact()] | None", True),
        ("Pin | None", True),
        ("list[redaction.Redact()]", True),
        ("Missing | Pin", True),
        ("list['Pin']", True),
        ("Nested", True),
        ("str | Missing", False),
        ("list[int]", False),
    ],
)
def test_a_mark_is_found_in_the_text_of_a_type(annotation: str, marked: bool) -> None:
    names = {"Pin": Pin, "Redact": Redact, "redaction": redaction, "Nested": Nested}
    assert is_marked(annotation, names) is marked


def test_a_mark_that_is_known_by_its_name_alone_hides() -> None:
    assert is_marked("Annotated[str, Redact()]")


class Account(NamedTuple):
    name: str
    pin: Pin | None  # text, in this file


@dataclass
class Card:
    number: Pin | None = "LEAK"
    others: list[Pin] = field(default_factory=lambda: ["LEAK"])


@dataclass
class Gold(Card):
    colour: str = "gold"


def test_annotations_that_are_text_are_read() -> None:
    shown = to_jsonable([Account("ann", "LEAK"), Gold()], FULL).text
    assert shown == f'[{{"name":"ann","pin":"{MASK}"}},{{"number":"{MASK}","others":"{MASK}","colour":"gold"}}]'


def test_a_tuple_whose_names_have_no_types_is_shown() -> None:
    point = collections.namedtuple("point", "x y")  # without types, on purpose
    assert to_jsonable(point(1, 2), FULL).text == '{"x":1,"y":2}'


def test_types_mode_tells_not_even_the_size_of_what_is_marked() -> None:
    captured = capture_value(create_model("M", pin=(Pin | None, None)).model_construct(pin="1234"), ContentPolicy())
    assert captured is not None
    assert captured.value["fields"] == {"pin": MASK}


def test_the_callback_is_not_asked_about_what_is_marked() -> None:
    asked: list[Any] = []
    model = create_model("M", __base__=BaseModel, pin=(Pin | None, Field(default="LEAK")))
    to_jsonable(model(), ContentPolicy(mode="full", redact=lambda path, value: asked.append(path) or value))
    assert asked == [""]


class Unbuildable:
    """As an alias that names what is nowhere: who looks at it fails."""

    @property
    def __metadata__(self) -> Any:
        raise NameError("Missing")


def test_a_type_that_cannot_be_looked_at_is_taken_for_marked(caplog: pytest.LogCaptureFixture) -> None:
    assert is_marked(Unbuildable())
    assert "cannot be looked at" in caplog.text


# --- functions --------------------------------------------------------------------------------------------------------


def login(pin: Pin | None, *keys: Pin, user: str = "", **others: Pin) -> Iterator[Pin]:
    yield from ()


def test_arguments_and_results_of_a_function_are_marked() -> None:
    marked = MarkedArguments(login)
    given = {"pin": "LEAK", "keys": ["LEAK"], "user": "ann", "token": "LEAK"}
    hidden: Mapping[str, Any] = to_jsonable(marked.hide(given), FULL).value
    assert hidden == {"pin": MASK, "keys": MASK, "user": "ann", "token": MASK}
    assert marked.marks_result


def test_what_has_no_signature_has_no_marks() -> None:
    given = {"args": [1]}
    assert MarkedArguments(dict).hide(given) is given
