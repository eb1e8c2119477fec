"""Which part of the traces is drawn where a back end asks for a part of them only (`LANGFUSE_SAMPLE_RATE`)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from workflows_otel.neighbours import Feeding
from workflows_otel.presets import Preset

__all__ = ["draw_what_is_wanted", "thinning"]


class Thinning(ParentBased):
    """Draws as many traces as the back end gets that gets most; the trace's id says which, a remote parent wins."""

    def __init__(self) -> None:
        self._share = _Share()
        super().__init__(self._share)

    def draw(self, rate: float) -> None:
        """From now on, draw this part of the traces, from 0 to 1."""
        self._share.chosen = TraceIdRatioBased(rate)


class _Share(Sampler):
    def __init__(self) -> None:
        self.chosen = TraceIdRatioBased(1.0)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        return self.chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self.chosen.get_description()


def thinning() -> Thinning | None:
    """For a new provider; None where `OTEL_TRACES_SAMPLER` says which sampler it has."""
    return None if os.environ.get("OTEL_TRACES_SAMPLER", "").strip() else Thinning()


def draw_what_is_wanted(provider: TracerProvider, feeds: Sequence[tuple[Preset, Feeding]]) -> None:
    """Draw the traces that any back end wants, and give each back end its own part of them.

    A provider that has another sampler leaves all to that one.
    """
    if not isinstance(provider.sampler, Thinning):
        return
    rates = [1.0 if preset.sample_rate is None else preset.sample_rate for preset, _ in feeds]
    highest = max(rates, default=1.0)
    provider.sampler.draw(highest)
    for (_, processor), rate in zip(feeds, rates, strict=True):
        if rate < highest:
            processor.thin_out(rate)  # for good: what was drawn for another one may still be on its way
