"""Resume tokens: a run that waits for a person, encrypted and signed, so that any process with the key can go on."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zlib
from dataclasses import dataclass
from typing import Any

from mlflow_flavor._compat import in_serving_process, invalid

__all__ = ["KEY_VARIABLE", "PausedRun", "open_token", "seal"]

KEY_VARIABLE = "WORKFLOWS_MLFLOW_RESUME_KEY"
"""Fernet keys, the newest first, with commas between them: the first seals, each of them opens."""

VALID_SECONDS = 7 * 24 * 3600
MAX_TOKEN_CHARS = 512 * 1024
MAX_SNAPSHOT_BYTES = 16 * 1024 * 1024
PREFIX = "wf1"

_lock = threading.Lock()
_own_key: list[bytes] = []


@dataclass(frozen=True, slots=True)
class PausedRun:
    """What a token holds.

    Attributes:
        source: Digest of the model's source.
        snapshot: The run's context.
        waits: Ids of the open waits.
        session: The run's session.
        user: The run's user.
    """

    source: str
    snapshot: dict[str, Any]
    waits: list[str]
    session: str | None = None
    user: str | None = None


def seal(run: PausedRun) -> str:
    """The run as a token that is valid for a week.

    Raises:
        MlflowException: If there is no key that another process could have, where that is needed; or the run is too
            large.
    """
    key = _keys()[0]
    fields = {"s": run.source, "c": run.snapshot, "w": run.waits, "i": [run.session, run.user]}
    text = json.dumps({**fields, "e": int(time.time()) + VALID_SECONDS}, separators=(",", ":"))
    token = f"{PREFIX}.{_key_id(key)}.{_fernet(key).encrypt(zlib.compress(text.encode())).decode()}"
    if len(token) > MAX_TOKEN_CHARS:
        raise invalid(
            f"The run that waits needs a resume token of {len(token)} characters; {MAX_TOKEN_CHARS} is the limit. "
            "Keep large state outside the workflow, and its key in the state."
        )
    return token


def open_token(token: str, source: str) -> PausedRun:
    """The run in a token.

    Args:
        token: What `seal` gave.
        source: Digest of the source of the model that is to go on with it.

    Raises:
        MlflowException: If it was changed, has expired, was made by other source, or with a key that is not here.
    """
    fields = json.loads(_decrypt(token))
    if fields["e"] < time.time():
        raise invalid(f"this resume token expired {int(time.time() - fields['e'])} s ago: start the run again.")
    if fields["s"] != source:
        raise invalid(
            f"this resume token was made by model source {fields['s'][:4]}..., the loaded model is {source[:4]}...; "
            "load that version."
        )
    session, user = fields["i"]
    return PausedRun(fields["s"], fields["c"], fields["w"], session, user)


def _decrypt(token: str) -> bytes:
    from cryptography.fernet import InvalidToken  # only where a person is asked

    prefix, _, rest = token.partition(".")
    key_id, _, body = rest.partition(".")
    if prefix != PREFIX or not body or len(token) > MAX_TOKEN_CHARS:
        raise invalid("this is no resume token: pass what 'resume' held, unchanged.")
    key = next((k for k in _keys() if _key_id(k) == key_id), None)
    if key is None:
        raise invalid(f"this resume token was made with a key that this process lacks: add it to {KEY_VARIABLE}.")
    try:
        packed = _fernet(key).decrypt(body.encode())
    except InvalidToken as error:
        raise invalid("resume token signature does not match.") from error
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(packed, MAX_SNAPSHOT_BYTES)
    if unpacker.unconsumed_tail:
        raise invalid(f"this resume token holds more than {MAX_SNAPSHOT_BYTES} bytes.")
    return text


def _keys() -> list[bytes]:
    given = [key.strip().encode() for key in os.environ.get(KEY_VARIABLE, "").split(",") if key.strip()]
    if given:
        return given
    if in_serving_process():
        raise invalid(
            f"This model asked a person, and a serving process needs a key for the answer to find the run: set "
            f"{KEY_VARIABLE} (make one with cryptography.fernet.Fernet.generate_key())."
        )
    with _lock:
        if not _own_key:
            from cryptography.fernet import Fernet  # only where a person is asked

            _own_key.append(Fernet.generate_key())
    return _own_key


def _fernet(key: bytes) -> Any:
    try:
        from cryptography.fernet import Fernet  # only where a person is asked
    except ImportError as error:
        raise invalid("A model that asks people needs the package cryptography: pip install cryptography.") from error
    try:
        return Fernet(key)
    except ValueError as error:
        raise invalid(f"{KEY_VARIABLE} holds no Fernet key: make one with Fernet.generate_key().") from error


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]
