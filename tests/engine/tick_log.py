"""A runtime that keeps the ticks of a run, and folds them again."""

from __future__ import annotations

from dataclasses import replace

from workflows._engine.calls import CallPhase
from workflows._engine.live import RunPlan
from workflows._engine.loop import Run
from workflows._engine.reduce import reduce
from workflows._engine.state import RunState
from workflows._engine.ticks import Tick
from workflows.plugins import BasicRuntime


class TickLog(BasicRuntime):
    """A runtime that keeps the ticks of its last run."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[Tick] = []

    def start(self, plan: RunPlan) -> Run:
        self.ticks.clear()
        self.run = super().start(replace(plan, journal=self.ticks.append))
        return self.run

    def fold(self) -> RunState:
        """The state that the ticks give, without running anything."""
        state = RunState(self.run.spec, self.run.run_id)
        for tick in self.ticks:
            reduce(state, tick)
            if state.ended is None:
                check_workers(state)
        return state


def check_workers(state: RunState) -> None:
    """Each worker has one call or is free, and no call queues twice, when it is over, or while a worker is free."""
    for name, queue in state.queues.items():
        taken = [call.worker for call in state.calls.values() if call.step.name == name and call.worker >= 0]
        assert len(taken) == len(set(taken)) == queue.step.num_workers - queue.free
        queued = [call.exec_id for call in queue.calls]
        assert len(queued) == len(set(queued))
        assert all(state.calls[exec_id].phase is CallPhase.QUEUED for exec_id in queued)
        assert not (queued and queue.free)
