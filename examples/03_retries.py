"""What happens when a step fails for a moment? Its retry policy says whether, when and how often to try again.

You see: two failed attempts, the third one succeeding, and a run that ended well.
"""

import asyncio

from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.retry_policy import retry_if_exception_type, retry_policy, stop_after_attempt, wait_exponential

PATIENT = retry_policy(
    retry=retry_if_exception_type(ConnectionError),  # a bug (TypeError, say) is not tried again
    wait=wait_exponential(multiplier=0.01),  # 0.01 s, 0.02 s, 0.04 s ...
    stop=stop_after_attempt(5),
)


class Fetch(Workflow):
    """Ask a service that is up at the third call only."""

    @step(retry_policy=PATIENT)
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Fails twice."""
        attempt = ctx.retry_info().retry_number + 1
        if attempt < 3:
            print(f"attempt {attempt}: connection refused")
            raise ConnectionError("connection refused")
        print(f"attempt {attempt}: fine")
        return StopEvent(result=f"got {ev.url}")


async def main() -> None:
    """The caller never sees the failures."""
    print(await Fetch().run(url="news"))


asyncio.run(main())
