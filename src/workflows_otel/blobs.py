"""Keep the whole of payloads that are too long for a span: `setup(blob=kept_in("file:///var/spans"))`."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import BoundedSemaphore
from urllib.parse import unquote, urlsplit

from workflows_otel.errors import TelemetrySetupError

__all__ = ["Put", "kept_in"]

MOST_UNDER_WAY = 64  # at 16 MB each about 1 GB at worst; beyond, payloads are cut and not kept
SUFFIXES = {"application/json": ".json", "text/plain": ".txt"}

Put = Callable[[str, bytes, str], object]

logger = logging.getLogger("workflows.otel")


def kept_in(base: str, put: Put | None = None) -> Callable[[str, str], str | None]:
    """What `setup(blob=...)` wants: it keeps a payload under a URI below `base`, from a background thread.

    The name is made of the content, so what is sent often is kept once. Secrets are masked in it as on the span.

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
        self._room = BoundedSemaphore(MOST_UNDER_WAY)

    def __call__(self, text: str, mime_type: str) -> str | None:
        """The URI, before it leads anywhere; None where too many are on their way."""
        if not self._room.acquire(blocking=False):
            logger.warning("%d payloads are on their way to %s; one more is not kept", MOST_UNDER_WAY, self._base)
            return None
        data = text.encode(errors="replace")
        uri = f"{self._base}/{hashlib.sha256(data).hexdigest()[:32]}{SUFFIXES.get(mime_type, '')}"
        _thread(os.getpid()).submit(self._put, uri, data, mime_type).add_done_callback(self._done)
        return uri

    def _done(self, future: Future[object]) -> None:
        self._room.release()
        error = future.exception()
        if error is not None:
            logger.error("a payload could not be kept in %s: %s", self._base, type(error).__name__)


@lru_cache(maxsize=1)
def _thread(process: int) -> ThreadPoolExecutor:
    """One thread; what is left at exit is written then. A forked child begins its own."""
    return ThreadPoolExecutor(1, "workflows-otel-blobs")


def _write_file(uri: str, data: bytes, mime_type: str) -> None:
    path = Path(unquote(urlsplit(uri).path))
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)  # whoever reads it never finds a half
