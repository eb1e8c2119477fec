"""Keep the whole of payloads that are too long for a span: `setup(blob=kept_in("file:///var/spans"))`."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing.util
import os
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import unquote, urlsplit

from workflows_otel.batching import SHUTDOWN_TIMEOUT
from workflows_otel.errors import TelemetrySetupError

__all__ = ["Put", "kept_in"]

MOST_UNDER_WAY = 64  # at 16 MB each about 1 GB at worst; beyond, payloads are cut and not kept
SUFFIXES = {"application/json": ".json", "text/plain": ".txt"}

Put = Callable[[str, bytes, str], object]

logger = logging.getLogger("workflows.otel")


def kept_in(base: str, put: Put | None = None) -> Callable[[str, str], str | None]:
    """What `setup(blob=...)` wants: it keeps a payload under a URI below `base`, from a background thread.

    The name is made of the content, so what is sent often is kept once. Secrets are masked in it as on the span. At
    exit, what is not written within five seconds is given up, and that is logged.

    Args:
        base: A URI such as "s3://bucket/spans"; for "file:///..." nothing else is needed.
        put: Called with the URI, the bytes and the mime type of each; what it raises is logged, and the URI on the
            span leads nowhere.

    Raises:
        TelemetrySetupError: If `put` is missing and `base` is no `file://` URI.
    """
    if put is None and urlsplit(base).scheme != "file":
        raise TelemetrySetupError(
            f"kept_in({base!r}) knows how to write files only. Use a file:// URI, or give put= to write it yourself."
        )
    return _Keeper(base.rstrip("/"), put or _write_file)


class _Keeper:
    def __init__(self, base: str, put: Put) -> None:
        self._base = base
        self._put = put

    def __call__(self, text: str, mime_type: str) -> str | None:
        """The URI, before it leads anywhere; None where too many are on their way."""
        writer = _writer(os.getpid())
        if not writer.has_taken_room():
            logger.warning("%d payloads are on their way to %s; one more is not kept", MOST_UNDER_WAY, self._base)
            return None
        data = text.encode(errors="replace")
        uri = f"{self._base}/{hashlib.sha256(data).hexdigest()[:32]}{SUFFIXES.get(mime_type, '')}"
        writer.write(partial(self._keep, uri, data, mime_type))
        return uri

    def _keep(self, uri: str, data: bytes, mime_type: str) -> None:
        try:
            self._put(uri, data, mime_type)
        except Exception as error:  # noqa: BLE001  # the guard around somebody's store; its message may be the payload
            logger.error("a payload could not be kept in %s: %s", self._base, type(error).__name__)


class _Writer:
    """Writes in a thread of its own; what is left at exit is written then, for a while.

    An executor would take locks of the whole process. Nothing here is locked: what the garbage collector ends, in the
    middle of whatever, may have a payload to keep.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(MOST_UNDER_WAY):
            self._room.put(None)
        self._thread = threading.Thread(target=self._work, name="workflows-otel-blobs", daemon=True)
        self._thread.start()
        # Also called where a child of `multiprocessing` ends, which leaves without `atexit`.
        multiprocessing.util.Finalize(None, self._finish, exitpriority=-1)

    def has_taken_room(self) -> bool:
        """Whether one more may come, for which there is room until it is written."""
        try:
            self._room.get_nowait()
        except Empty:
            return False
        return True

    def write(self, write: Callable[[], None]) -> None:
        """Have it written, after what came before; room was taken for it."""
        self._waiting.put(write)

    def _work(self) -> None:
        while (write := self._waiting.get()) is not None:
            write()
            self._room.put(None)

    def _finish(self) -> None:
        self._waiting.put(None)
        self._thread.join(SHUTDOWN_TIMEOUT)
        if self._thread.is_alive():
            left = MOST_UNDER_WAY - self._room.qsize()
            logger.error("%d payloads were not kept: their store did not take them in %.0f s", left, SHUTDOWN_TIMEOUT)


@lru_cache(maxsize=1)
def _writer(process: int) -> _Writer:
    """One for the process; a forked child begins its own."""
    return _Writer()


def _write_file(uri: str, data: bytes, mime_type: str) -> None:
    path = Path(unquote(urlsplit(uri).path))
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)  # whoever reads it never finds a half
