"""Logging what a module of a package defines: by import, where the model has the package whole."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter

FILES = {
    "src/{shop}/__init__.py": "",
    "src/{shop}/prices.py": "PRICES = {'cat': 12}\n",
    "src/{shop}/agents/__init__.py": "from .seller import Seller\n",
    "src/{shop}/agents/base.py": """
from workflows import Workflow

class Base(Workflow):
    def price(self, name):
        from ..prices import PRICES
        return PRICES[name]
""",
    "src/{shop}/agents/seller.py": """
from pathlib import Path
from workflows import step
from workflows.events import StartEvent, StopEvent
from .. import prices
from .base import Base

GREETING = "That is"
FILE = Path(__file__).name

class Seller(Base):
    def __init__(self, greeting=None):
        super().__init__()
        self.greeting = greeting or GREETING

    @step
    async def sell(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=f"{self.greeting} {self.price('cat')} {prices.PRICES['cat']} {FILE}")

seller = Seller("Only")
""",
    "src/{shop}/ready.py": "from .agents.seller import Seller\n\nready = Seller('At once')\n",
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `agents.seller` of a package that lies in `src` of the working directory."""
    name = f"shop_{tmp_path.name}"
    for path, text in FILES.items():
        file = tmp_path / path.format(shop=name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "src")
    monkeypatch.chdir(tmp_path)
    yield __import__(f"{name}.agents.seller", fromlist=["Seller"])
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def save(workflow: object, shop: ModuleType, target: Path) -> str:
    """Saves a workflow with its package."""
    package = Path("src") / shop.__name__.partition(".")[0]
    mlflow_flavor.save_model(workflow, target, code_paths=[package], pip_requirements=["mlflow"])  # pyright: ignore[reportArgumentType]  # of a module that only the test knows
    return str(target)


@pytest.mark.parametrize(
    ("take", "answer"),
    [("Seller", "That is 12 12 seller.py"), ("seller", "Only 12 12 seller.py")],
    ids=["class", "instance"],
)
def test_what_needs_its_package_is_imported_where_the_model_has_that(
    shop: ModuleType, interpreter: Interpreter, tmp_path: Path, take: str, answer: str
):
    model = save(vars(shop)[take], shop, tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    program = f"import mlflow; print(mlflow.pyfunc.load_model({model!r}).predict({{}}))"
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    done = interpreter.run(program, tmp_path / "elsewhere", environment=environment)
    assert done.stdout.strip() == answer, done.stderr


async def test_an_instance_of_another_module_of_the_package_is_logged_from_there(shop: ModuleType, tmp_path: Path):
    ready = __import__(f"{shop.__name__.partition('.')[0]}.ready", fromlist=["ready"]).ready
    loaded = mlflow_flavor.load_model(save(ready, shop, tmp_path / "model"))
    assert await loaded.run() == "At once 12 12 seller.py"


def test_what_a_package_makes_otherwise_than_its_source_is_refused(shop: ModuleType, tmp_path: Path):
    vars(shop)["GREETING"] = "It costs"
    with pytest.raises(MlflowException, match=r"\(GREETING is not what its source makes\)"):
        save(shop.Seller, shop, tmp_path / "model")


def test_an_instance_that_was_changed_is_refused_also_in_a_package(shop: ModuleType, tmp_path: Path):
    shop.seller.greeting = "Just"
    with pytest.raises(MlflowException, match=r"\(its greeting is not what its source makes\)"):
        save(shop.seller, shop, tmp_path / "model")


def test_what_needs_its_package_is_refused_without_it_with_what_to_pass(shop: ModuleType, tmp_path: Path):
    package = shop.__name__.partition(".")[0]
    with pytest.raises(MlflowException) as caught:
        mlflow_flavor.save_model(shop.Seller, tmp_path / "model", pip_requirements=["mlflow"])
    assert "(it needs `from .. import prices` of its own package): pass the path" in str(caught.value)
    assert str(caught.value).endswith(f"Or pass code_paths=['src/{package}'].")


def test_a_module_of_a_package_that_logs_itself_is_refused_with_what_to_do(
    shop: ModuleType, interpreter: Interpreter, tmp_path: Path
):
    package = shop.__name__.partition(".")[0]
    file = Path(str(shop.__file__))
    file.write_text(f"{file.read_text()}\nimport mlflow_flavor\nmlflow_flavor.save_model(seller, 'model')\n")
    done = interpreter.run(f"import sys; sys.path.insert(0, 'src'); import {package}.agents", tmp_path)
    assert f"Or log it in a file that imports it, with code_paths=['src/{package}']." in done.stderr
