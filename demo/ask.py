"""A fresh process of the demo: loads the logged agent from the store, asks it, prints answer and trace as JSON.

usage: python ask.py STORE_URI EXPERIMENT MODEL_URI QUESTION
"""

import json
import os
import sys
import time

import mlflow
from mlflow.openai import autolog as autolog_openai

import mlflow_flavor


def main(store: str, experiment: str, model_uri: str, question: str) -> None:
    """Ask through MLflow's generic `pyfunc` interface, as any scoring tool would."""
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(experiment)
    autolog_openai()
    mlflow_flavor.autolog()
    started = time.perf_counter()
    agent = mlflow.pyfunc.load_model(model_uri)
    loaded = time.perf_counter()
    answer = agent.predict({"question": question})
    mlflow.flush_trace_async_logging()
    times = {"load_s": loaded - started, "answer_s": time.perf_counter() - loaded}
    print(json.dumps({"answer": answer, "trace_id": mlflow.get_last_active_trace_id(), "pid": os.getpid(), **times}))


if __name__ == "__main__":
    main(*sys.argv[1:])
