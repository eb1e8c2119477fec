"""What logs a workflow is no part of the model, also where one block of a program makes it, logs it and runs on."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter

pytestmark = pytest.mark.slow

HEAD = """
import sys, mlflow, mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Agent(Workflow):
    def __init__(self, word="one", **options):
        super().__init__(**options)
        self.word = word

    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=self.word)

def save(workflow, number=0):
    print("saving", flush=True)
    mlflow_flavor.save_model(workflow, str(number), pip_requirements=["mlflow"])
"""

WITH = """
from contextlib import nullcontext
with nullcontext(7) as seven:
    agent = Agent(timeout=3)
    agent.word = "two"
    save(agent)
"""

LOOP = """
for number, agent in enumerate(agents):
    save(agent, number)
"""

TWICE = """
with mlflow.start_run() as active:
    mlflow.log_param("word", "two")
    agent = Agent('two')
    info = mlflow_flavor.log_model(agent, name="first", pip_requirements=["mlflow"])
save(agent)
"""

OF_RUN = """
with mlflow.start_run() as active:
    agent = Agent(active.info.run_id)
save(agent)
"""

# The second class has a comment, a docstring and an expression in several lines, by which Python compiles it.
INDENTED = """
if __name__ == "__main__":
    class Other(Agent):
        # Says more.
        def more(self, a, b):
            for c in a:
                if (c and
                        b):
                    return c
            return (a or
                    b)

    agent = Other('two')
    save(agent)
"""

ENVIRONMENT = """
import os, tempfile
os.environ["STORE"] = store = tempfile.mkdtemp()

class Storing(Agent):
    def place(self):
        return os.environ["STORE"]

agent = Storing('two')
save(agent)
assert os.environ["STORE"] == store
"""

COMMAND_LINE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--word", default="two")
if __name__ == "__main__":
    args = parser.parse_args()
    agent = Agent(args.word)
    save(agent)
"""

IN_A_FUNCTION = """
import argparse

def words():
    parser = argparse.ArgumentParser()
    parser.add_argument("--word", default="two")
    return parser.parse_args().word

agent = Agent(words())
save(agent)
"""


def run(interpreter: Interpreter, directory: Path, text: str) -> CompletedProcess[str]:
    return interpreter.run(HEAD + text, directory)


@pytest.mark.parametrize(
    "text",
    [
        WITH,
        'if __name__ == "__main__":\n' + WITH.replace("\n", "\n    "),
        "try:\n    agent = Agent('two')\n    save(agent)\nexcept ImportError:\n    agent = None\n",
        "if len(sys.path) < 1:\n    agent = None\nelif sys.path:\n    agent = Agent('two')\n    save(agent)\n",
        "agent = Agent(); agent.word = 'two'; save(agent)\n",
        "agent = Agent('two')\nagent.uri = save(agent)\n",
        "agents = {'a': Agent('two'), 'b': Agent()}" + LOOP.replace("agents", "agents.values()"),
        "agents = [Agent('two'), Agent()]" + LOOP,
        INDENTED,
        ENVIRONMENT,
    ],
    ids=["with", "main guard", "try", "elif", "one line", "result", "dict", "list", "class in it", "environment"],
)
async def test_a_block_that_makes_an_instance_may_log_it(interpreter: Interpreter, tmp_path: Path, text: str):
    done = run(interpreter, tmp_path, text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["saving"] * (1 + ("number, agent" in text))
    assert "save" not in (tmp_path / "0" / "workflow.py").read_text()
    assert await mlflow_flavor.load_model(str(tmp_path / "0")).run() == "two"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("for word in ('two',):\n    agent = Agent(word)\n    save(agent)\n", "the block in line 18, which is still"),
        (WITH.replace("Agent(timeout=3)", "Agent(seven)"), "is set by the block in line 20, which is still"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    agent = Agent()\n    save(agent)\n", "block in line 18"),
        (
            "log_model = print\nagent = Agent()\nagent.word = log_model(3)\nsave(agent)\n",
            "it needs what log_model() gave",
        ),
        ("agent = Agent()\nagent.word = save(agent)\nsave(agent, 1)\n", "workflow.py logs or saves a model when"),
        (OF_RUN, "it needs what mlflow.start_run() gave, and each load would call that again"),
        (COMMAND_LINE, "it reads the command line by `parser.parse_args()`, and where it is loaded there is another"),
        (IN_A_FUNCTION, "it reads the command line by `parser.parse_args()`"),
        ("agent = Agent(sys.argv[0])\nsave(agent)\n", "it reads the command line by `sys.argv`"),
        ("from sys import argv\nagent = Agent(argv[0])\nsave(agent)\n", "command line by `from sys import argv`"),
        (
            "words = []\nwords.append('two')\nagent = Agent(words[0])\nsave(agent)\n",
            "(run again, its source raised IndexError: list index out of range at `agent = Agent(words[0])`; of lines",
        ),
        ("ends = []\nends.append(1)\nagent = Agent('a' if ends else exit(3))\nsave(agent)\n", "SystemExit(3)"),
    ],
    ids=[
        "loop",
        "name of the head",
        "handler",
        "call that logs",
        "function that logs",
        "name of a finished head",
        "command line",
        "command line in a function",
        "sys.argv",
        "argv",
        "error",
        "end of the program",
    ],
)
def test_an_instance_that_its_source_cannot_make_without_logging_is_refused(
    interpreter: Interpreter, tmp_path: Path, text: str, reason: str
):
    done = run(interpreter, tmp_path, text)
    assert reason in done.stderr
    assert not (tmp_path / "1").exists()


async def test_an_instance_of_a_finished_run_may_be_logged_again(interpreter: Interpreter, tmp_path: Path):
    done = interpreter.run(HEAD + TWICE, tmp_path, environment={"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()})
    assert done.returncode == 0, done.stderr
    script = (tmp_path / "0" / "workflow.py").read_text()
    assert [word for word in ("start_run", "log_param", "log_model") if word in script] == []
    assert await mlflow_flavor.load_model(str(tmp_path / "0")).run() == "two"


SWALLOWS = """
try:
    save(Agent())
except Exception:
    pass
mlflow_flavor.set_model(Agent())
"""


def test_a_script_that_logs_is_refused_also_if_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent.py").write_text(HEAD + SWALLOWS)
    with pytest.raises(MlflowException, match=r"agent.py logs or saves a model when it is run"):
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])


def test_a_script_that_ends_the_program_is_refused(tmp_path: Path):
    (tmp_path / "agent.py").write_text(HEAD + "sys.exit(2)\n")
    with pytest.raises(MlflowException, match=r"agent.py raised SystemExit\(2\) when it was run as a model"):
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])


AGENTS = """
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Agent(Workflow):
    word = "zero"

    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=self.word)
"""
MAKES = """
from agents import Agent
agent = Agent()
agent.word = "one"
AGENTS = {"a": agent}
"""
LOGS = """
import mlflow_flavor
{line}
mlflow_flavor.save_model({logged}, "0", code_paths={files}, pip_requirements=["mlflow"])
"""


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        ("from makes import agent", "agent"),
        ("from makes import agent as made", "made"),
        ("import makes", "makes.agent"),
        ("from passes import agent", "agent"),
        ("from makes import agent\nmine = agent", "mine"),
        ("from makes import agent\nmine = {'a': agent}", "mine['a']"),
        ("from makes import AGENTS", "AGENTS['a']"),
        ("try:\n    from makes import agent\nexcept ImportError:\n    agent = None", "agent"),
    ],
)
async def test_an_instance_that_a_program_imports_is_written_from_the_module_that_makes_it(
    interpreter: Interpreter, tmp_path: Path, line: str, logged: str, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "agents.py").write_text(AGENTS)
    (tmp_path / "makes.py").write_text(MAKES)
    (tmp_path / "passes.py").write_text("from makes import agent")
    files = [str(tmp_path / "agents.py")]
    done = interpreter.run(LOGS.format(line=line, logged=logged, files=files), tmp_path)
    assert done.returncode == 0, done.stderr
    for file in ("agents.py", "makes.py", "passes.py"):
        (tmp_path / file).unlink()
    assert mlflow.pyfunc.load_model(str(tmp_path / "0")).predict({}) == "one"
