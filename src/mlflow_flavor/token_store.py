"""`token_store=`: runs that wait for a person are kept here, and their resume tokens are ids that work once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

__all__ = ["STORE_VARIABLE", "SqliteTokenStore", "TokenStore", "store_of_environment"]

STORE_VARIABLE = "WORKFLOWS_MLFLOW_TOKEN_STORE"
"""Path of the SQLite file in which served models keep the runs that wait; empty: the token holds the run itself."""

BUSY_SECONDS = 10.0


class TokenStore(Protocol):
    """Where runs that wait are kept, by token. Called from several threads; what it raises reaches the caller."""

    def put(self, token: str, run: str, expires_at: float) -> None:
        """Keep a run (text) under a token until a time in seconds since the epoch."""
        ...

    def get(self, token: str) -> str | None:
        """The run, unless there is none, it was taken, or its time is over."""
        ...

    def take(self, token: str) -> bool:
        """Use the token up: True for exactly one caller, whichever process it is in."""
        ...


class SqliteTokenStore:
    """A `TokenStore` in a SQLite file, which several processes of one machine may share.

    The file holds the runs as they are, so it is made for its owner's eyes only, and only digests of their tokens: who
    can read it cannot answer for a person.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite would let everybody read it
        with self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS paused_runs (token TEXT PRIMARY KEY, run TEXT NOT NULL, expires REAL)"
            )

    def put(self, token: str, run: str, expires_at: float) -> None:
        """Keep a run, and forget those whose time is over."""
        with self._open() as database:
            database.execute("DELETE FROM paused_runs WHERE expires < ?", (time.time(),))
            database.execute("INSERT INTO paused_runs VALUES (?, ?, ?)", (_digest(token), run, expires_at))

    def get(self, token: str) -> str | None:
        """The run, unless there is none, it was taken, or its time is over."""
        with self._open() as database:
            query = "SELECT run FROM paused_runs WHERE token = ? AND expires >= ?"
            found = database.execute(query, (_digest(token), time.time())).fetchone()
        return str(found[0]) if found is not None else None

    def take(self, token: str) -> bool:
        """Use the token up: True for exactly one caller, whichever process it is in."""
        with self._open() as database:
            query = "DELETE FROM paused_runs WHERE token = ? AND expires >= ?"
            return database.execute(query, (_digest(token), time.time())).rowcount == 1

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        # A connection a call: they come from many threads, and seldom.
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database, database:
            yield database


def store_of_environment() -> TokenStore | None:
    """The store that served models use, as `WORKFLOWS_MLFLOW_TOKEN_STORE` says."""
    path = os.environ.get(STORE_VARIABLE, "").strip()
    return SqliteTokenStore(path) if path else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
