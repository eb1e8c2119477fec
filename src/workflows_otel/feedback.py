"""`feedback`: what somebody says about a run, sent to the back ends that keep judgements beside traces."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import reprlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from http.client import HTTPException
from numbers import Real
from typing import Any, Literal, get_args
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # pyright: ignore[reportPrivateUsage]  # no public name

from workflows.handler import WorkflowHandler
from workflows_otel.errors import TelemetrySetupError
from workflows_otel.presets import Judgement, Preset
from workflows_otel.setting_up import active_presets
from workflows_otel.traces import TraceRef, trace_of

__all__ = ["feedback"]

SECONDS = 5.0
HEX_IDS = re.compile(r"[0-9a-f]{32}:[0-9a-f]{16}")

Judge = Literal["HUMAN", "LLM", "CODE"]

logger = logging.getLogger("workflows.otel")


def feedback(
    run: WorkflowHandler | TraceRef | str,
    name: str,
    value: float | bool | str,
    *,
    comment: str | None = None,
    judge: Judge = "HUMAN",
    by: str = "",
    to: Preset | Iterable[Preset] | None = None,
) -> Future[tuple[str, ...]]:
    """Attach a judgement to a run, in every back end of `setup()` that keeps them: Phoenix and Langfuse.

        feedback(handler, "helpful", True, comment="found the right order")

    It is sent from a background thread, so this may be called on the event loop. The result, for who wants to wait, is
    the names of the back ends that took it: `.result(timeout=10)`, or `await asyncio.wrap_future(...)`. Saying the same
    `name` again for the same run and `by` replaces what was said.

    Args:
        run: The run's handler, its id in this process, or a `TraceRef` with ids that were kept.
        name: What is judged: "helpful", "correct", "tone" ...
        value: A number, a yes or no, or a word.
        comment: Why.
        judge: What kind of judge it was.
        by: Who it was, where several may judge.
        to: Back ends, where this process has no `setup()` for them: `phoenix(...)`, `langfuse(...)`.

    Raises:
        TelemetrySetupError: If the run has no trace here, no back end that gets it keeps judgements, or what is said is
            none. What a back end refuses is the result's exception.
    """
    ref = _ref(run)
    value = _checked(name, value, judge)
    if comment is not None and not isinstance(comment, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # checked here
        raise TelemetrySetupError(f"feedback comment {reprlib.repr(comment)} is no text. Say it in words.")
    if ref is None or not ref.sampled:
        why = "is not sampled, so no back end has it" if ref is not None else "was not drawn in this process"
        raise TelemetrySetupError(
            f"There is nothing to give feedback to: the run {why}. Use the handler of a run that began after setup(), "
            f"or TraceRef(trace_id, span_id) with the ids that trace_of() gave."
        )
    presets = _keeping(active_presets(ref.trace_id) if to is None else [to] if isinstance(to, Preset) else to)
    if not presets:
        raise TelemetrySetupError(
            "There is nothing to give feedback to: the run's trace is not in the part that its back ends get "
            "(LANGFUSE_SAMPLE_RATE). Ask for it where trace_of(run).urls has that back end."
            if to is None and _keeping(active_presets())
            else "No back end of setup() keeps feedback. Use setup('phoenix') or setup('langfuse'); for MLflow use "
            "mlflow_flavor.feedback()."
        )
    key = f"{ref.trace_id}:{ref.span_id}:{name}:{judge}:{by}"
    judgement = Judgement(
        hashlib.sha256(key.encode()).hexdigest()[:32], ref.trace_id, ref.span_id, name, value, comment, judge
    )
    return _sender(os.getpid()).submit(_send, judgement, presets)


def _keeping(presets: Iterable[Preset]) -> list[Preset]:
    """Those that keep judgements."""
    return [preset for preset in presets if preset.judge is not None]


def _ref(run: object) -> TraceRef | None:
    if isinstance(run, TraceRef):
        if not (HEX_IDS.fullmatch(f"{run.trace_id}:{run.span_id}")):
            raise TelemetrySetupError(
                f"{run!r} has no trace id of 32 and span id of 16 hexadecimal digits. Use those that trace_of() gave."
            )
        return run
    if not isinstance(run, (WorkflowHandler, str)):
        raise TelemetrySetupError(
            f"feedback cannot be given to {run!r}: it is no run. Use what run() gave, its run_id, or a TraceRef."
        )
    return trace_of(run)


def _checked(name: object, value: object, judge: object) -> float | bool | str:
    """The value as JSON can hold it, where what is said is a judgement."""
    if not isinstance(name, str) or not name.strip():
        raise TelemetrySetupError(
            f"feedback name {name!r} does not say what is judged. Use a word: 'helpful', 'correct' ..."
        )
    if judge not in get_args(Judge):
        raise TelemetrySetupError(f"feedback judge {judge!r} is unknown. Use one of {', '.join(get_args(Judge))}.")
    if isinstance(value, (bool, str)):
        return value
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise TelemetrySetupError(
            f"feedback value {_short(value)} is no finite number. Use one, a yes or no, or a word."
        )
    return value if isinstance(value, (int, float)) else number


def _short(value: object) -> str:
    return f"of {value.bit_length()} bits" if isinstance(value, int) else reprlib.repr(value)


@lru_cache(maxsize=1)
def _sender(process: int) -> ThreadPoolExecutor:
    """One thread that sends in order; what it has not sent at exit it sends then. A forked child begins its own."""
    return ThreadPoolExecutor(1, "workflows-otel-feedback", _not_traced)


def _not_traced() -> None:
    otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))


def _send(judgement: Judgement, presets: Sequence[Preset]) -> tuple[str, ...]:
    taken: list[str] = []
    refused: list[str] = []
    for preset in presets:
        assert preset.judge is not None, "only those that keep judgements are asked"
        why = _refused(preset.judge(judgement))
        if why is None:
            taken.append(preset.name)
        else:
            refused.append(f"{preset.name} ({why})")
    if refused:
        logger.warning("feedback %r was not taken by %s", judgement.name, ", ".join(refused))
        raise TelemetrySetupError(
            f"Feedback {judgement.name!r} was not taken by {', '.join(refused)}. Check that the back end is up, and "
            f"its key in setup()."
        )
    return tuple(taken)


class _NoRedirects(HTTPRedirectHandler):
    """Leaves a redirect an error: followed, it would send the key to another host, and by GET, which judges nothing."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Follow none."""


_opener = build_opener(_NoRedirects)


def _refused(request: Request) -> str | None:
    """Why a request was refused; None where it was not."""
    try:
        with _opener.open(request, timeout=SECONDS):
            return None
    except HTTPError as error:
        with error:
            return f"{error.code} {error.reason}"
    except (URLError, OSError, HTTPException) as error:
        return type(getattr(error, "reason", error)).__name__
