"""Writes the snapshots beside it; run it with an environment that has llama-index-workflows 2.26 in place of ours:

python -m tests.engine.version_two.make_snapshots
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.engine.version_two import flows
from workflows import Workflow
from workflows.events import Event
from workflows.plugins import basic

HERE = Path(__file__).parent


async def snapshot_of(workflow: Workflow, *answers: Event, run_to_end: bool = False, **start: Any) -> dict[str, Any]:
    """Let a workflow run until it holds, and write down where it stands."""
    handler = workflow.run(**start)
    if run_to_end:
        await handler
    for answer in (None, *answers):
        if answer is not None:
            handler.ctx.send_event(answer)
        await asyncio.sleep(0.3)
    data = handler.ctx.to_dict()
    if not run_to_end:
        await handler.cancel_run()
    return data


async def with_deliveries(workflow: Workflow) -> dict[str, Any]:
    """A journal that breaks off where events were returned and not delivered."""
    runtime: Any = basic.basic_runtime
    run_id = type(workflow).__name__
    handler = workflow.run(run_id=run_id)
    records = []

    async def read() -> None:
        async for record in runtime.journal(run_id):
            records.append(record)  # noqa: PERF401  # it never ends by itself

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.5)
    found = {}
    for count in range(len(records)):
        data = runtime.restore(workflow, None, records[: count + 1]).to_dict()
        if len(data["deliveries"]) > len(found.get("deliveries", ())):
            found = data
    await handler.cancel_run()
    reader.cancel()
    return found


async def main() -> None:
    """Write them all."""
    flows.HOLD = True
    reply = flows.Reply.model_validate({"text": "Ada", "_data": {"user": "ada"}})
    snapshots = {
        "queued": await snapshot_of(flows.Queued()),
        "typed": await snapshot_of(flows.Typed(), city="Ulm"),
        "question": await snapshot_of(flows.Question()),
        "interview": await snapshot_of(flows.Interview(), reply),
        "answered": await snapshot_of(flows.Answered(), reply),
        "fan_out": await snapshot_of(flows.FanOut()),
        "pair": await snapshot_of(flows.Pair()),
        "pair_runs": await snapshot_of(flows.PairRuns()),
        "pairs_in_list": await snapshot_of(flows.PairsInList()),
        "pairs_in_lists": await snapshot_of(flows.PairsInLists()),
        "retried": await snapshot_of(flows.Retried()),
        "recovered": await snapshot_of(flows.Recovered(), city="Ulm"),
        "nested": await snapshot_of(flows.Nested()),
        "idle": await snapshot_of(flows.Idle()),
        "counter": await snapshot_of(flows.Counter(), run_to_end=True),
        "deliveries": await with_deliveries(flows.Queued()),
        "deliveries_in_fan_out": await with_deliveries(flows.FanOut()),
    }
    for name, data in snapshots.items():
        (HERE / f"{name}.json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
