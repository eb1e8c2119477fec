"""Where is the trace of the run that just failed? `trace_of(handler)` knows, and so does the error itself.

You see: the page of the trace, the same as a note on the error, and the run's ids on the application's own log line.
"""

import asyncio
import logging

import workflows_otel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

logger = logging.getLogger("shop")


class Pay(Workflow):
    """Charges a card."""

    @step
    async def charge(self, ev: StartEvent) -> StopEvent:
        """Says what it does, and fails."""
        logger.warning("charging %s", ev.amount)
        raise ValueError("card refused")


async def main() -> None:
    """A back end that is not there costs a run nothing. `jaeger()`, `phoenix()`, `langfuse()` know their pages."""
    logging.basicConfig(format="%(message)s [step %(step)s of trace %(trace_id).4s...]")
    logging.getLogger().handlers[0].addFilter(workflows_otel.RunIdFilter())
    for loud in ("workflows.otel", "opentelemetry"):  # they would say, rightly, that nobody took the spans
        logging.getLogger(loud).setLevel(logging.CRITICAL)

    pages = "https://traces.example/{trace_id}"
    telemetry = workflows_otel.setup(workflows_otel.otlp("http://127.0.0.1:9", timeout=0.2, trace_url=pages))
    handler = Pay().run(amount=12)
    try:
        await handler
    except ValueError as error:
        trace = workflows_otel.trace_of(handler)
        assert trace is not None
        print("failed:", error)
        print("page:", trace.url.replace(trace.trace_id, "<trace id>") if trace.url else None)
        print("note:", error.__notes__[0].replace(trace.trace_id, "<trace id>").replace(handler.run_id, "<run id>"))
    telemetry.shutdown(timeout=0.2)


asyncio.run(main())
