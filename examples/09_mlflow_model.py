"""How does a workflow become a model that people can ask? Log it, load it, serve it, evaluate it: real MLflow, offline.

You see: an answer from a fresh process; the served model asking a person in one reply, going on in the next; a score.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import mlflow
import requests
from cryptography.fernet import Fernet
from mlflow import genai

import mlflow_flavor
from workflows import Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

MODEL = "models:/buyer@champion"
FRESH = f"import mlflow; print('a fresh process:', mlflow.pyfunc.load_model('{MODEL}').predict({{'euros': 7}}))"
SERVE = ["-m", "mlflow", "models", "serve", "-m", MODEL, "-p", "5079", "--env-manager", "local"]
ROWS = [{"inputs": {"euros": 7}, "expectations": {"answer": "bought"}}]


class Order(StartEvent):
    euros: int


class Ask(InputRequiredEvent):
    question: str


class Buyer(Workflow):
    @step
    async def check(self, ev: Order) -> Ask | StopEvent:
        return StopEvent(result="bought") if ev.euros < 100 else Ask(question=f"Spend {ev.euros} euros?")

    @step
    async def decide(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="bought" if ev.yes else "not bought")


@genai.scorer
def right(outputs: str, expectations: dict) -> bool:
    return outputs == expectations["answer"]


def ask(**body) -> dict:
    for _ in range(200):
        try:
            return requests.post("http://127.0.0.1:5079/invocations", json=body, timeout=30).json()["predictions"]
        except requests.ConnectionError:
            time.sleep(0.5)  # the server is not up yet
    raise TimeoutError("The model server does not answer.")


with tempfile.TemporaryDirectory() as store:
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store}/mlflow.db"  # for the other processes as well
    os.environ["WORKFLOWS_MLFLOW_RESUME_KEY"] = Fernet.generate_key().decode()  # seals what a waiting run holds
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("buying", artifact_location=f"file://{store}"))
    mlflow_flavor.log_model(Buyer, name="buyer", registered_model_name="buyer", pip_requirements=["mlflow"])
    mlflow.MlflowClient().set_registered_model_alias("buyer", "champion", "1")
    subprocess.run([sys.executable, "-c", FRESH], check=True)
    server = subprocess.Popen([sys.executable, *SERVE], start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        asked = ask(inputs={"euros": 700})
        (wait,) = asked["waiting"]
        answers = {wait["id"]: {"type": "HumanResponseEvent", "data": {"yes": True}}}
        resume = json.dumps({"token": asked["resume"], "answers": answers})
        print(wait["event"]["data"]["question"], ask(inputs={}, params={"resume": resume}))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
    predict = mlflow_flavor.predict_fn(mlflow_flavor.load_model(MODEL))
    print("evaluated:", genai.evaluate(ROWS, predict_fn=predict, scorers=[right]).metrics)
