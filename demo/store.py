"""Where the demo keeps what it records: an MLflow store (SQLite) in `.demo/`, below the working folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

FOLDER = Path(".demo")
DATABASE = FOLDER / "mlflow.db"
EXPERIMENT = "spanflow demo"
SCRIPTED_EXPERIMENT = "spanflow demo (scripted answers, no model)"


def store_uri() -> str:
    """The address of the store, for `mlflow.set_tracking_uri`."""
    return f"sqlite:///{DATABASE.resolve()}"


def artifacts_uri() -> str:
    """Where models go."""
    return (FOLDER / "artifacts").resolve().as_uri()


def experiment_id() -> int:
    """The experiment of the newest trace, straight from the database: importing MLflow takes seconds."""
    with closing(sqlite3.connect(DATABASE)) as database:
        newest = "SELECT experiment_id FROM trace_info ORDER BY timestamp_ms DESC LIMIT 1"
        row = database.execute(newest).fetchone()
    return row[0] if row else 0
