"""Which part of the traces is drawn where a back end asks for a part of them only (`LANGFUSE_SAMPLE_RATE`)."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

__all__ = ["Thinning"]


class Thinning(ParentBased):
    """Draws a part of the traces: as many as the back end gets that gets most. Which, the trace's id says."""

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
