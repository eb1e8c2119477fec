"""Resume tokens: a run that waits for a person, encrypted and signed, so that any process with the key can go on.

With a token store the run stays there, and the token is a random id that works once.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
import zlib
from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_flavor._answers import Expected
from mlflow_flavor._compat import invalid
from mlflow_flavor._compat_models import in_serving_process
from mlflow_flavor.token_store import TokenStore

__all__ = ["KEY_VARIABLE", "PausedRun", "open_token", "seal", "spend"]

KEY_VARIABLE = "WORKFLOWS_MLFLOW_RESUME_KEY"
"""Fernet keys, the newest first, with commas between them: the first seals, each of them opens."""

VALID_SECONDS = 7 * 24 * 3600
MAX_TOKEN_CHARS = 512 * 1024
MAX_SNAPSHOT_BYTES = 16 * 1024 * 1024
PREFIX = "wf1"
STORED_PREFIX = "wfs"

_lock = threading.RLock()
_own_key: list[bytes] = []


@dataclass(frozen=True, slots=True)
class PausedRun:
    """What a token holds.

    Attributes:
        source: Digest of the model's source.
        snapshot: The run's context.
        waits: The open waits, oldest first: by id, what answers them.
        session: The run's session.
        user: The run's user.
    """

    source: str
    snapshot: dict[str, Any]
    waits: dict[str, Expected]
    session: str | None = None
    user: str | None = None


def seal(run: PausedRun, store: TokenStore | None = None, *, serving: bool = False) -> str:
    """The run as a token that is valid for a week; it is kept in `store`, if there is one, and else in the token.

    Args:
        run: The run.
        store: Where it is kept.
        serving: Whether this process serves; it needs a key then, also where MLflow does not say that it serves.

    Raises:
        MlflowException: If there is no key that another process could have, where that is needed; or the run is too
            large.
    """
    until = int(time.time()) + VALID_SECONDS
    fields = {"s": run.source, "c": run.snapshot, "w": run.waits, "i": [run.session, run.user], "e": until}
    text = json.dumps(fields, separators=(",", ":"))
    if store is not None:
        token = f"{STORED_PREFIX}.{secrets.token_urlsafe(32)}"
        store.put(token, text, until)
        return token
    key = _keys(serving)[0]
    token = f"{PREFIX}.{_key_id(key)}.{_fernet(key).encrypt(zlib.compress(text.encode())).decode()}"
    if len(token) > MAX_TOKEN_CHARS:
        raise invalid(
            f"The run that waits needs a resume token of {len(token)} characters; {MAX_TOKEN_CHARS} is the limit. "
            "Keep large state outside the workflow, and its key in the state."
        )
    return token


def open_token(token: str, source: str, store: TokenStore | None = None) -> PausedRun:
    """The run in a token.

    Args:
        token: What `seal` gave.
        source: Digest of the source of the model that is to go on with it.
        store: Where runs are kept; a token that holds its run itself is then refused, or it could be used twice.

    Raises:
        MlflowException: If it was changed or used, has expired, was made by other source, or with a key that is not
            here.
    """
    fields = json.loads(_decrypt(token) if store is None else _stored(token, store))
    if fields["e"] < time.time():
        raise invalid(f"this resume token expired {int(time.time() - fields['e'])} s ago: start the run again.")
    if fields["s"] != source:
        raise invalid(
            f"this resume token was made by model source {fields['s'][:4]}..., the loaded model is {source[:4]}...; "
            "load that version."
        )
    session, user = fields["i"]
    return PausedRun(fields["s"], fields["c"], fields["w"], session, user)


def spend(token: str, store: TokenStore | None) -> None:
    """Use up a token whose answers fit; without a store it works again, until it expires.

    Raises:
        MlflowException: If somebody else has used it since it was opened.
    """
    if store is not None and not store.take(token):
        raise _used()


def _stored(token: str, store: TokenStore) -> str:
    if not token.startswith(f"{STORED_PREFIX}."):
        raise invalid("this is no resume token of this server, which keeps its runs in a token store.")
    found = store.get(token)
    if found is None:
        raise _used()
    return found


def _used() -> MlflowException:
    return invalid("this resume token was used already, or has expired: a token works once.")


def _decrypt(token: str) -> bytes:
    from cryptography.fernet import InvalidToken  # only where a person is asked

    prefix, _, rest = token.partition(".")
    key_id, _, body = rest.partition(".")
    if prefix == STORED_PREFIX:
        raise invalid("this resume token needs the token store of the process that made it: pass token_store=.")
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


def _keys(serving: bool = False) -> list[bytes]:
    given = [key.strip().encode() for key in os.environ.get(KEY_VARIABLE, "").split(",") if key.strip()]
    if given:
        return given
    if serving or in_serving_process():
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
