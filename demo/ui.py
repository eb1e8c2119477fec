"""`make demo-ui`: the MLflow UI on what the demo recorded, on a free port of the loopback, until Ctrl-C."""

import os
import socket
import sys

from demo.store import DATABASE, artifacts_uri, experiment_id, store_uri


def main() -> None:
    """Become `mlflow server`."""
    if not DATABASE.exists():
        sys.exit("Nothing is recorded yet: run `make demo` first.")
    port = os.environ.get("PORT") or str(_free_port())
    traces = f"http://127.0.0.1:{port}/#/experiments/{experiment_id()}/traces"
    print(f"In a few seconds: {traces}  (Ctrl-C ends it)", flush=True)
    server = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    stores = ["--backend-store-uri", store_uri(), "--default-artifact-root", artifacts_uri()]
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.execv(sys.executable, [sys.executable, *server, *stores])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
