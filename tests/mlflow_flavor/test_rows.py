"""Rows of every shape and type reach the start event as they were, through MLflow's `pyfunc` and over REST."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from pydantic import BaseModel, ConfigDict, PlainSerializer, computed_field

import mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

Load = Callable[..., PyFuncModel]
Drawn = Callable[[str], PyFuncModel]

SCRIPT = """
import mlflow_flavor, numpy as np
from base64 import b64decode
from datetime import date, datetime
from typing import Annotated, Any, NewType, Optional
from pydantic import AliasChoices, Base64Bytes, BaseModel, BeforeValidator, Field, PositiveInt, RootModel
from pydantic.dataclasses import dataclass
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

UserId = NewType("UserId", int)

class Part(BaseModel):
    data: bytes

class Said(BaseModel):
    text: str

class Open(BaseModel, extra="allow"):
    text: str

class Texts(RootModel[list[str]]):
    pass

@dataclass
class Place:
    row: int

class Fields(StartEvent):
    {fields}

class Show(Workflow):
    @step
    async def show(self, {context}ev: Fields) -> StopEvent:
        return StopEvent(result=repr([getattr(ev, name) for name in type(ev).model_fields]))

mlflow_flavor.set_model(Show())
"""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Saves and loads a model that tells what its start event's fields hold; one model for the same fields."""
    saved: dict[str, Path] = {}

    def loaded(*fields: str, context: bool = False) -> PyFuncModel:
        text = SCRIPT.format(fields="\n    ".join(fields), context="ctx: Context, " if context else "")
        if text not in saved:
            saved[text] = tmp_path_factory.mktemp("rows")
            (saved[text] / "agent.py").write_text(text)
            mlflow_flavor.save_model(saved[text] / "agent.py", saved[text] / "model", pip_requirements=["mlflow"])
        return mlflow.pyfunc.load_model(str(saved[text] / "model"))

    return loaded


@pytest.fixture(autouse=True)
def serving_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's server sets it and leaves it; other tests do not serve."""
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "false")


def columns(model: PyFuncModel) -> list[dict[str, Any]] | None:
    """The inputs that the model's signature tells."""
    signature = model.metadata.signature
    assert signature is not None
    return signature.inputs.to_dict() if signature.inputs is not None else None


VALUES = [
    ("list[int]", [1, 2]),
    ("list", [1, 2]),
    ("tuple[int, str]", [1, "a"]),
    ("dict", {"a": 1}),
    ("dict[str, Any]", {"a": {"b": 1}}),
    ("Any", {"a": [1]}),
    ("Any", [1, 2]),
    ("Any", None),
    ("datetime", "2024-01-02T03:04:05"),
    ("date", "2024-01-02"),
    ("Optional[int]", None),
    ("Optional[str]", None),
    ("str | None", "None"),
    ("list[dict[str, Any]]", [{"a": 1, "b": "x"}]),
    ("list[str | None]", ["alpha", None]),
    ("list[bool | None]", [True, None]),
    ("list[list[float | None]]", [[1.5, None], [2.5, 3.5]]),
    ("list[dict[str, str | None]]", [{"name": "alpha", "city": None}]),
    ("str | Said", {"text": "hi"}),
    ("Said | Place | None", {"row": 1}),
    ("list[Said | None]", [{"text": "hi"}, None]),
    ("str | list[Said]", [{"text": "hi"}]),
    ("Open", {"text": "hi", "more": 1}),
    ("Texts", ["a", "b"]),
    ("Place", {"row": 1}),
]
SHOWN = {
    "tuple[int, str]": "(1, 'a')",
    "datetime": repr(datetime(2024, 1, 2, 3, 4, 5)),
    "date": repr(date(2024, 1, 2)),
    "str | Said": "Said(text='hi')",
    "Said | Place | None": "Place(row=1)",
    "list[Said | None]": "[Said(text='hi'), None]",
    "str | list[Said]": "[Said(text='hi')]",
    "Open": "Open(text='hi', more=1)",
    "Texts": "Texts(root=['a', 'b'])",
    "Place": "Place(row=1)",
}
by_type = pytest.mark.parametrize(("kind", "value"), VALUES, ids=[f"{kind} {value}" for kind, value in VALUES])


@by_type
def test_a_value_reaches_the_workflow_as_it_is(load: Load, kind: str, value: object):
    model, shown = load(f"x: {kind}"), f"[{SHOWN.get(kind, repr(value))}]"
    assert model.predict({"x": value}) == shown
    assert model.predict([{"x": value}]) == shown
    assert model.predict(pd.DataFrame({"x": [value]})) == shown


@by_type
async def test_a_value_reaches_a_served_workflow_as_it_is(load: Load, kind: str, value: object):
    app, shown = scoring_server.init(load(f"x: {kind}")), f"[{SHOWN.get(kind, repr(value))}]"
    bodies: list[dict[str, Any]] = [
        {"inputs": {"x": value}},
        {"inputs": [{"x": value}]},
        {"dataframe_split": {"columns": ["x"], "data": [[value]]}},
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        replies = [(await client.post("/invocations", json=body)).text for body in bodies]
    assert replies == [json.dumps({"predictions": shown})] * len(bodies)


async def test_dynamic_fields_reach_a_served_workflow_as_plain_values(tmp_path: Path):
    script = SCRIPT.format(fields="pass", context="").replace("ev: Fields", "ev: StartEvent")
    script = script.replace("[getattr(ev, name) for name in type(ev).model_fields]", "dict(ev)")
    (tmp_path / "agent.py").write_text(script)
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    app = scoring_server.init(mlflow.pyfunc.load_model(str(tmp_path / "model")))
    fields = {"q": "hi", "k": 3, "tags": ["a"], "more": {"b": [1]}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        reply = await client.post("/invocations", json={"inputs": fields})
    assert reply.json() == {"predictions": repr(fields)}


def test_arrays_and_timestamps_become_plain_values(load: Load):
    frame = pd.DataFrame({"x": [np.array([1, 2])], "at": [pd.Timestamp("2024-01-02")]})
    assert load("x: list[int]", "at: datetime").predict(frame) == repr([[1, 2], datetime(2024, 1, 2)])


def test_an_array_reaches_a_field_of_arrays_as_it_is(load: Load):
    model = load("model_config = {'arbitrary_types_allowed': True}", "x: np.ndarray", "y: list[np.ndarray] = []")
    array = np.array([1, 2])
    shown = repr([array, [array]])
    rows = {"x": array, "y": [array]}
    assert model.predict(rows) == shown
    assert model.predict(pd.DataFrame([rows])) == shown


@pytest.mark.parametrize("data", [{}, [{}], None], ids=str)
def test_an_empty_row_takes_the_defaults(load: Load, data: object):
    assert load("n: int = 7", "k: int = 8").predict(data) == "[7, 8]"


def test_two_empty_rows_are_two_rows(load: Load):
    assert load("n: int = 7").predict([{}, {}]) == ["[7]", "[7]"]


def test_a_stream_of_an_empty_row_takes_the_defaults(load: Load):
    assert list(load("n: int = 7").predict_stream({})) == [{"type": "StopEvent", "data": {"result": "[7]"}}]


async def test_an_empty_row_over_rest_takes_the_defaults(load: Load):
    app = scoring_server.init(load("n: int = 7"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        reply = await client.post("/invocations", json={"inputs": {}})
    assert reply.json() == {"predictions": "[7]"}


def test_a_misspelt_field_is_named_where_every_field_has_a_default(load: Load):
    with pytest.raises(MlflowException, match=r"row 1: unknown field 'nn' for StartEvent 'Fields' \(fields: n\)"):
        load("n: int = 7").predict({"nn": 3})


def test_a_misspelt_field_is_not_taken_for_an_empty_row(load: Load):
    with pytest.raises(MlflowException, match=r"no row to predict.*\(q\); MLflow leaves out what the signature"):
        load("q: str", context=True).predict({"qq": "a"})


def test_rows_may_leave_out_different_fields(load: Load):
    assert load("n: int = 7", "k: int = 8").predict([{"n": 1}, {"k": 2}]) == ["[1, 8]", "[7, 2]"]


@pytest.mark.parametrize(
    ("kind", "default", "value"),
    [("int", 3, 4), ("bool", True, False), ("float", 1.5, 2.5), ("str", "a", "b")],
)
def test_a_row_may_leave_out_a_field_that_others_have(load: Load, kind: str, default: object, value: object):
    model, shown = load("q: str", f"x: {kind} = {default!r}"), [repr(["a", default]), repr(["b", value])]
    rows = [{"q": "a"}, {"q": "b", "x": value}]
    assert model.predict(rows) == shown
    assert model.predict(pd.DataFrame(rows)) == shown


@pytest.mark.parametrize(
    "kind", ["int = 7", "int | None = None", "int | None", "PositiveInt | None = None", "Annotated[UserId | None, 'x']"]
)
def test_an_integer_of_which_mlflow_has_made_another_one_is_refused(load: Load, kind: str):
    rows = [{"q": "a", "x": 2**60 + 1}, {"q": "b", "x": 5}]
    model = load("q: str", f"x: {kind}")
    assert model.predict(rows) == [repr(["a", 2**60 + 1]), repr(["b", 5])]
    rows[1]["x"] = None
    with pytest.raises(MlflowException, match="row 1: 'x' has lost digits on the way: MLflow puts rows in a DataFrame"):
        model.predict(rows)
    rows[0]["x"] = 4
    assert model.predict(rows)[0] == repr(["a", 4])


FIRST, SECOND = {"q": "a", "x": None}, {"q": "b", "x": ["c"]}


@pytest.mark.parametrize("data", [[FIRST, SECOND], pd.DataFrame([FIRST, SECOND])], ids=["list", "frame"])
def test_a_row_without_a_list_that_others_have_says_none(load: Load, data: object):
    assert load("q: str", "x: list[str] = ['d']").predict(data) == ["['a', ['d']]", "['b', ['c']]"]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [FIRST, SECOND]},
        {"dataframe_split": {"columns": ["q", "x"], "data": [["a", None], ["b", ["c"]]]}},
    ],
    ids=lambda body: next(iter(body)),
)
async def test_a_row_without_a_list_that_others_have_says_null_over_rest(load: Load, body: dict[str, Any]):
    app = scoring_server.init(load("q: str", "x: list[str] = ['d']"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        reply = await client.post("/invocations", json=body)
    assert reply.json() == {"predictions": ["['a', ['d']]", "['b', ['c']]"]}


def test_a_batch_without_rows_runs_nothing(load: Load):
    with pytest.raises(MlflowException, match="There is no row to predict"):
        load("n: int = 7").predict(pd.DataFrame({"n": []}))


def test_a_signature_names_the_types_that_mlflow_can_hand_on(load: Load):
    assert columns(load("q: str", "k: int = 3", "tags: list[str] = []", "who: str | None = None")) == [
        {"type": "string", "name": "q", "required": True},
        {"type": "any", "name": "k", "required": False},
        {"type": "array", "items": {"type": "string"}, "name": "tags", "required": False},
        {"type": "any", "name": "who", "required": False},
    ]


@pytest.mark.parametrize(
    "fields",
    [("q: str", "more: dict[str, Any]"), ("q: str", "more: str | Said"), ("q: str", "at: date"), ("n: int = 7",)],
    ids=str,
)
def test_inputs_that_mlflow_would_change_are_not_in_the_signature(load: Load, fields: tuple[str, ...]):
    assert columns(load(*fields)) is None


def test_a_model_may_always_be_resumed_and_needs_no_input_then(load: Load):
    model = load("q: str", context=True)
    assert columns(model) == [{"type": "string", "name": "q", "required": False}]
    with pytest.raises(MlflowException, match="this is no resume token"):
        model.predict({}, params={"resume": json.dumps({"token": "x", "answers": {}})})


TEXT = b64encode(b"\xff\xd8>").decode()
READ = repr(b"\xff\xd8>")
COMES_AS_BYTES = [
    ("it: bytes = Field(max_length=3)", TEXT, READ),
    ("it: bytes = b''", TEXT.replace("/", "_").replace("+", "-"), READ),
    ("it: list[bytes] = []", [TEXT, TEXT], f"[{READ}, {READ}]"),
    ("it: tuple[int, bytes] = (1, b'')", [1, TEXT], f"(1, {READ})"),
    ("it: dict[str, bytes] = {}", {"a": TEXT}, f"{{'a': {READ}}}"),
    ("it: Part | None = None", {"data": TEXT}, f"Part(data={READ})"),
    ("it: list[Part] = []", [{"data": TEXT}], f"[Part(data={READ})]"),
    ("it: bytes | list[bytes] = b''", [TEXT], f"[{READ}]"),
    ("it: Base64Bytes = b''", TEXT, READ),
    ("it: Annotated[bytes, BeforeValidator(b64decode)] = b''", TEXT, READ),
    ("it: str | bytes = ''", TEXT, repr(TEXT)),
]


@pytest.mark.parametrize(("field", "sent", "held"), COMES_AS_BYTES, ids=[field for field, *_ in COMES_AS_BYTES])
def test_a_text_is_base64_wherever_a_field_takes_bytes(load: Load, field: str, sent: Any, held: str):
    assert load(field).predict({"it": sent}) == f"[{held}]"


@pytest.mark.parametrize("fields", [("it: list[bytes] = []",), ("it: list[bytes]",), ("it: bytes",)], ids=str)
async def test_a_text_that_is_sent_for_bytes_is_base64_over_rest(load: Load, fields: tuple[str, ...]):
    app = scoring_server.init(load(*fields))
    is_list = "list" in fields[0]
    row = {"it": [TEXT] if is_list else TEXT}
    rest = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    async with rest as client:
        replies = [
            (await client.post("/invocations", json=body)).json()
            for body in ({"dataframe_records": [row]}, {"inputs": row}, {"inputs": [row]})
        ]
    assert replies == [{"predictions": f"[[{READ}]]" if is_list else f"[{READ}]"}] * 3


@pytest.mark.parametrize(
    "field",
    [
        "n: int = Field(alias='most')",
        "n: int = Field(validation_alias='most')",
        "n: int = Field(validation_alias=AliasChoices('top', 'most'))",
        "model_config = {'populate_by_name': True}; n: int = Field(alias='top')",
    ],
)
def test_a_field_may_come_by_each_of_its_names(load: Load, field: str):
    name = "n" if "populate" in field else "most"
    assert load(field, "q: str").predict({name: 3, "q": "a"}) == "[3, 'a']"


@pytest.mark.parametrize(
    ("field", "sent"), [("it: list[bytes] = []", ["no!"]), ("it: Part | None = None", {"data": "no!"})]
)
def test_a_text_that_is_no_base64_is_refused_at_any_depth(load: Load, field: str, sent: Any):
    with pytest.raises(MlflowException, match=r"row 1: 'it\.(0|data)' takes bytes, and its text is no base64"):
        load(field).predict({"it": sent})


class Price(BaseModel):
    """Says of its JSON what it likes."""

    model_config = ConfigDict(ser_json_bytes="hex", ser_json_timedelta="float")
    euros: Annotated[Decimal, PlainSerializer(float, when_used="json")] = Decimal("1.5")
    key: bytes = b"\xff"
    lasts: timedelta = timedelta(seconds=90)


class Sheet(BaseModel):
    """Says nothing of its bytes, but what it does with them."""

    pages: list[bytes] = [b"\xff\xd8>"]
    own: Annotated[bytes, PlainSerializer(lambda page: page.decode(), when_used="json")] = b"abc"
    more: Any = b"\xff\xd8>"

    @computed_field
    @property
    def size(self) -> int:
        return len(self.pages[0])


class Sold(StopEvent):
    """Its own JSON, and that of what it holds."""

    at: Annotated[date, PlainSerializer(lambda day: day.year, when_used="json")] = date(2020, 1, 2)
    price: Price = Price()
    sheet: Sheet = Sheet()


class Sell(Workflow):
    @step
    async def sell(self, ev: StartEvent) -> Sold:
        return Sold(extra=b"\xff\xd8>")  # pyright: ignore[reportCallIssue]  # a dynamic field


class Offer(Workflow):
    @step
    async def offer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[Price(), {"sheet": Sheet()}])


PRICE = {"euros": 1.5, "key": "ff", "lasts": 90.0}
SHEET = {"pages": ["/9g+"], "own": "abc", "more": "/9g+", "size": 3}


def test_models_of_a_result_say_their_own_json():
    assert mlflow_flavor.WorkflowPyfunc(Offer()).predict({}) == [PRICE, {"sheet": SHEET}]


def test_an_event_says_its_own_json():
    answer = {"at": 2020, "price": PRICE, "sheet": SHEET, "extra": "/9g+"}
    assert mlflow_flavor.predict_fn(Sell())() == answer


PICTURE = """
import mlflow_flavor
from pydantic import BaseModel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Scan(StartEvent):
    page: bytes

class Picture(StopEvent):
    png: bytes

class Pictures(BaseModel):
    first: bytes

class Draw(Workflow):
    @step
    async def draw(self, ev: Scan) -> Picture:
        return Picture(png=ev.page)

class Group(Workflow):
    @step
    async def draw(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[Pictures(first=bytes([0xFF, 0xD8, 0x3E]))])

mlflow_flavor.set_model(%s())
"""
PAGE = b"\xff\xd8>"


@pytest.fixture
def drawn(tmp_path: Path) -> Drawn:
    """Logs one of the workflows that draw."""

    def log(name: str) -> PyFuncModel:
        (tmp_path / "agent.py").write_text(PICTURE % name)
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
        return mlflow.pyfunc.load_model(str(tmp_path / "model"))

    return log


def test_bytes_of_a_result_are_base64(drawn: Drawn):
    model = drawn("Draw")
    found = [model.predict({"page": PAGE}), mlflow_flavor.predict_fn(model.get_raw_model())(page=PAGE)]
    assert [b64decode(answer["png"], validate=True) for answer in found] == [PAGE] * 2


def test_bytes_of_a_model_in_a_result_are_base64(drawn: Drawn):
    assert drawn("Group").predict({}) == [{"first": "/9g+"}]


def test_a_field_of_bytes_takes_base64(drawn: Drawn):
    text = b64encode(PAGE).decode()
    assert drawn("Draw").predict({"page": text}) == {"png": text}


def test_a_text_that_is_no_base64_is_refused_where_bytes_are_taken(drawn: Drawn):
    with pytest.raises(MlflowException, match=r"row 1: 'page' takes bytes, and its text is no base64"):
        drawn("Draw").predict({"page": "words"})
