"""Who is running: the current attempt, and the identity (session, user, tags, metadata) of the runs started here."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from workflows._slotted import FieldsCompared

__all__ = ["AttemptScope", "Identity", "context", "current_attempt", "current_identity"]


@dataclass(slots=True, eq=False, repr=False)
class AttemptScope(FieldsCompared):
    """The attempt that the current task is executing; `attempt` counts from 1."""

    run_id: str
    exec_id: str
    step: str
    attempt: int

    @property
    def only_waits(self) -> bool:
        """Whether its step only waits for events now, as far as the engine knows; that of no live run never does."""
        return False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Identity(FieldsCompared):
    """On whose behalf a run works; `RunStarted` carries it to every reader."""

    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


current_attempt: ContextVar[AttemptScope | None] = ContextVar("workflows_attempt", default=None)
_NOBODY = Identity()
_identity: ContextVar[Identity] = ContextVar("workflows_identity", default=_NOBODY)


def current_identity() -> Identity:
    """The identity that a run started now would get."""
    return _identity.get()


@contextmanager
def context(
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Generator[Identity]:
    """Give the runs started inside the block a session, a user, tags and metadata.

    Blocks nest: what an inner block leaves out is taken from the outer one; tags and metadata are merged.

    Raises:
        TypeError: If the tags are one text, or the metadata is no mapping.
    """
    if isinstance(tags, str):
        raise TypeError(f"context(tags=) takes a list of texts, got the text {tags!r}. Write tags=[{tags!r}].")
    if not isinstance(metadata, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers are not all typed
        raise TypeError(f"context(metadata=) takes a mapping of names to values, got {type(metadata).__name__}.")
    outer = _identity.get()
    identity = Identity(
        session_id=session_id if session_id is not None else outer.session_id,
        user_id=user_id if user_id is not None else outer.user_id,
        tags=tuple(dict.fromkeys((*outer.tags, *tags))),
        metadata={**outer.metadata, **(metadata or {})},
    )
    token = _identity.set(identity)
    try:
        yield identity
    finally:
        # A generator with such a block that is closed elsewhere leaves it there: its own context is gone with its task.
        with suppress(ValueError):
            _identity.reset(token)
