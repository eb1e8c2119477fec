"""What an agent's own file sets or fills in modules of its author's is set in the model; other calls are not made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import mlflow
import pytest

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.test_fidelity import HEAD

CONF = """
LIMIT, LIMITS, OPTIONS, WORDS = 1, [], {}, {"a"}

class Settings:
    model = "small"

settings = Settings()
"""
LLM = """
import conf_

def ask():
    return [conf_.LIMIT, conf_.LIMITS, conf_.OPTIONS, sorted(conf_.WORDS), conf_.settings.model]
"""
AGENT = """
class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ask())
"""
UNTOUCHED = [1, [], {}, ["a"], "small"]

Import = Callable[[str], ModuleType]


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What the names of modules beside the agent's end with: of settings, and of a helper that reads them."""
    name = tmp_path.name
    (tmp_path / f"conf_{name}.py").write_text(CONF)
    (tmp_path / f"llm_{name}.py").write_text(LLM.replace("conf_", f"conf_{name}"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield name
    for module in ("conf_", "llm_"):
        sys.modules.pop(f"{module}{name}", None)


def save(module: Import, conf: str, lines: str, after: str = "", more: Sequence[str] = ()) -> None:
    """Saves an agent that knows of the settings by a helper alone, and sets some."""
    text = f"{HEAD}from llm_ import ask\n{lines}\n{AGENT}\n{after}\n".replace("conf_", f"conf_{conf}")
    agent = module(text.replace("llm_", f"llm_{conf}")).Agent
    helpers = [f"conf_{conf}.py", f"llm_{conf}.py", *more]
    mlflow_flavor.save_model(agent, "model", code_paths=helpers, pip_requirements=["mlflow"])


def answer(interpreter: Interpreter, tmp_path: Path) -> object:
    """What the model says in a fresh process, as the agent's own process would."""
    (tmp_path / "elsewhere").mkdir()
    program = (
        f"import json, mlflow; print(json.dumps(mlflow.pyfunc.load_model({str(tmp_path / 'model')!r}).predict({{}})))"
    )
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    done = interpreter.run(program, tmp_path / "elsewhere", environment=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("import conf_\nconf_.LIMIT = 9", [9, [], {}, ["a"], "small"]),
        ("import conf_ as c\nc.settings.model = 'big'", [1, [], {}, ["a"], "big"]),
        ("from conf_ import settings as s\ns.model = 'big'", [1, [], {}, ["a"], "big"]),
        ("import conf_\nsetattr(conf_, 'LIMIT', 9)", [9, [], {}, ["a"], "small"]),
        ("from conf_ import LIMITS\nLIMITS.append(5)", [1, [5], {}, ["a"], "small"]),
        ("import conf_\nconf_.LIMITS.extend([5, 6])\nconf_.LIMIT += 1", [2, [5, 6], {}, ["a"], "small"]),
        (
            "from conf_ import OPTIONS\nfor _n in 'bc':\n    OPTIONS[_n] = len(_n)",
            [1, [], {"b": 1, "c": 1}, ["a"], "small"],
        ),
        ("from conf_ import OPTIONS, WORDS\nOPTIONS.update(b=2)\nWORDS.clear()", [1, [], {"b": 2}, [], "small"]),
    ],
)
def test_what_it_sets_or_fills_is_in_the_model(
    module: Import, conf: str, interpreter: Interpreter, tmp_path: Path, lines: str, said: object
):
    save(module, conf, lines)
    assert answer(interpreter, tmp_path) == said


RESULTS = """
import asyncio
from conf_ import LIMITS, OPTIONS

async def run():
    return await Agent().run()

def judge():
    loop = asyncio.new_event_loop()
    LIMITS.append(loop.run_until_complete(run()))
    loop.close()
    return len(LIMITS)

OPTIONS["judged"] = judge()
LIMITS.append(Agent())
"""


def test_what_comes_of_the_agent_itself_is_not(
    module: Import, conf: str, interpreter: Interpreter, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    save(module, conf, "", after=RESULTS)
    assert answer(interpreter, tmp_path) == UNTOUCHED
    assert caplog.text == ""


EVALUATION = """
import results_

results_.ROWS = [1, 2]
results_.SEEN.append(1)
results_.SCORE = sum(results_.ROWS)
"""


def test_what_is_set_in_a_module_that_the_agent_does_not_use_is_not(
    module: Import, conf: str, interpreter: Interpreter, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / f"results_{conf}.py").write_text("ROWS, SEEN = [], []\n")
    text = EVALUATION.replace("results_", f"results_{conf}")
    save(module, conf, "import conf_\nconf_.LIMIT = 9", text, more=[f"results_{conf}.py"])
    assert "results_" not in (tmp_path / "model" / "workflow.py").read_text()
    assert answer(interpreter, tmp_path) == [9, [], {}, ["a"], "small"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("conf_.HERE = __file__", "(it reads `__file__`, which a script"),
        ("import time\nT = time.time()\nconf_.T = T", "(T is another one each time its source is run"),
        ("conf_.KEY = __import__('os').environ.pop('KEY_OF_CONF')", "(run again, its source raised KeyError: 'KEY_OF_"),
    ],
    ids=["in writing", "as it was", "when it is run"],
)
def test_what_no_script_can_set_is_told_and_the_rest_is_set(
    module: Import,
    conf: str,
    interpreter: Interpreter,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    reason: str,
):
    monkeypatch.setenv("KEY_OF_CONF", "1")
    save(module, conf, f"import conf_\nfrom conf_ import LIMITS\nLIMITS.append(5)\n{line}")
    (record,) = caplog.records
    assert f"sets something by `conf_{conf}`, and the model will not: " in record.getMessage()
    assert reason in record.getMessage()
    assert answer(interpreter, tmp_path) == [1, [5], {}, ["a"], "small"]


def test_ordinary_lines_that_act_on_the_process_are_not_in_the_model_and_not_told(
    module: Import, conf: str, interpreter: Interpreter, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ordinary = """
import logging, os, warnings, mlflow
logging.getLogger("of.conf").setLevel(logging.INFO)
os.environ.setdefault("OF_CONF", "1")
warnings.filterwarnings("ignore", message="of conf")
mlflow.get_tracking_uri()
"""
    save(module, conf, ordinary)
    assert caplog.text == ""
    assert answer(interpreter, tmp_path) == UNTOUCHED
    script = (tmp_path / "model" / "workflow.py").read_text()
    assert [word for word in ("logging", "environ", "warnings", "mlflow.") if word in script] == []
