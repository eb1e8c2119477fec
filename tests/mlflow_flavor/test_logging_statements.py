"""What logs a workflow is no part of the model, also where one block of a program makes it, logs it and runs on."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter

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
    mlflow_flavor.save_model(workflow, f"{sys.argv[1]}/{number}", pip_requirements=["mlflow"])
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


def run(interpreter: Interpreter, directory: Path, text: str) -> CompletedProcess[str]:
    return interpreter.run(HEAD + text, directory, str(directory))


@pytest.mark.parametrize(
    "text",
    [
        WITH,
        'if __name__ == "__main__":\n' + WITH.replace("\n", "\n    "),
        "try:\n    agent = Agent('two')\n    save(agent)\nexcept ImportError:\n    agent = None\n",
        "if len(sys.argv) < 2:\n    agent = None\nelif sys.argv:\n    agent = Agent('two')\n    save(agent)\n",
        "agent = Agent(); agent.word = 'two'; save(agent)\n",
        "agent = Agent('two')\nagent.uri = save(agent)\n",
        "agents = {'a': Agent('two'), 'b': Agent()}" + LOOP.replace("agents", "agents.values()"),
        "agents = [Agent('two'), Agent()]" + LOOP,
    ],
    ids=["with", "main guard", "try", "elif", "one line", "result", "loop over a dict", "loop over a list"],
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
    ],
    ids=["loop", "name of the head", "handler", "call that logs", "function that logs"],
)
def test_an_instance_that_its_source_cannot_make_without_logging_is_refused(
    interpreter: Interpreter, tmp_path: Path, text: str, reason: str
):
    done = run(interpreter, tmp_path, text)
    assert reason in done.stderr
    assert not (tmp_path / "1").exists()


SWALLOWS = """
try:
    save(Agent())
except Exception:
    pass
mlflow_flavor.set_model(Agent())
"""


def test_a_script_that_logs_is_refused_also_if_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["agent.py", str(tmp_path)])
    (tmp_path / "agent.py").write_text(HEAD + SWALLOWS)
    with pytest.raises(MlflowException, match=r"agent.py logs or saves a model when it is run"):
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
