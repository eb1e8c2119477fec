"""What a run has while it lives in this process: its state, and the parts through which it meets the world."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import ReferenceType, WeakSet

from workflows._engine.awaited_runs import future_of_run
from workflows._engine.crowd import Crowd
from workflows._engine.effects import EndRun, EndRunWait, EndWait, ReleaseFanIn, StartRunWait
from workflows._engine.mailbox import Mailbox
from workflows._engine.starts import BeginsCalls
from workflows._engine.state import RunState
from workflows._engine.stream import EventStream, OfChild
from workflows._engine.ticks import AttemptCompleted, EventArrived, EventsCollected, Tick
from workflows._engine.timers import Timers
from workflows._spec import StepSpec, WorkflowSpec
from workflows.errors import WorkflowDeadlockError, WorkflowRuntimeError
from workflows.events import Event
from workflows.instrumentation.dispatcher import Dispatcher
from workflows.instrumentation.history import RunHistory
from workflows.instrumentation.records import Carriers, Envelope, EventStreamed, Record
from workflows.instrumentation.scope import AttemptScope, Identity

FEW_STEPS = 10  # a run of so few keeps no functions: of thousands of short runs, each object counts
NO_FUNCTIONS: Mapping[str, Callable[..., Any]] = {}
NONE_RETURNED: dict[str, AttemptCompleted] = {}  # what every new run begins with; one with checkpoints gets its own
NONE_WARNED: frozenset[type[Event | WorkflowDeadlockError] | str] = frozenset()  # each call of it makes another one

__all__ = ["Checkpoint", "LiveRun", "ParentAttempt", "ResumePoint", "RunPlan"]


Checkpoint = Callable[[AttemptScope, Event | None, Event | list[Event] | None], Awaitable[None]]
"""Takes the attempt, its input event and what it returned."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an unfinished run goes on: its state, the number of its new segment, and what its handlers carry over.

    `streamed` are events that no reader had got yet, `returned` what bodies had returned by then, by exec_id;
    `checkpoint` is the one of these whose checkpoint the snapshot was taken for.
    """

    state: RunState
    segment: int
    carriers: Carriers
    streamed: Sequence[Event] = ()
    returned: dict[str, AttemptCompleted] = field(default_factory=lambda: NONE_RETURNED)
    checkpoint: str | None = None


@dataclass(slots=True, kw_only=True)
class RunPlan:
    """What a run is started with; everything in it is decided before its first tick, and nothing changes it after.

    Attributes:
        start_event: The first event of a new run, until that has begun.
        workflow: The instance that runs.
        home: What the contexts of the run share.
        bind: Gives the callable of a step of `workflow`: a bound method, or a free function.
        make_context: Builds what a step gets as its `Context` parameter, from its attempt.
        resolve: Gives the resource arguments of a step; None where the workflow has none.
        teardown: Lets go of what `resolve` opened, within a bounded time; awaited when no step runs any more.
        gate: Limits how many runs of the workflow live at once.
        timeout: Seconds the run may take, from when it passed the gate.
        resume: Where the run goes on; None for a new run, which has a start event instead.
        journal: Gets every tick before it is reduced; folding them again gives the same state.
        stepwise: Calls wait for `run_step()`, and what they return goes to its caller.
        checkpoint: Awaited when a body has returned, before its events are routed.
        idle_counts: The time in which the run is idle, since it waits for an answer, counts towards its timeout.
        grace: Seconds that cancelled steps get to clean up before they are cancelled again.
    """

    spec: WorkflowSpec
    run_id: str
    start_event: Event | None
    workflow: Any
    home: Any
    bind: Callable[[Any, StepSpec], Callable[..., Any]]
    make_context: Callable[[Any], Any]
    dispatcher: Dispatcher
    identity: Identity
    timeout: float | None
    stream_buffer: int
    version: str | None = None
    span_kind: str = "CHAIN"
    gate: asyncio.Semaphore | None = None
    resolve: Callable[[StepSpec], Awaitable[dict[str, Any]]] | None = None
    teardown: Callable[[], Awaitable[None]] | None = None
    resume: ResumePoint | None = None
    journal: Callable[[Tick], None] | None = None
    stepwise: bool = False
    checkpoint: Checkpoint | None = None
    idle_counts: bool = True
    grace: float = 0.5


class ParentAttempt(Protocol):
    """The attempt that started a run, as the child sees it."""

    run_id: str
    exec_id: str
    step: str
    run: LiveRun
    children: dict[LiveRun, None] | None


class LiveRun(BeginsCalls):
    """The parts of a live run that its loop and its attempts share.

    Attributes:
        children: Runs that its steps started and that are not over, and the attempts that did.
        stopped_children: Those that are to end, with it or with their attempt; it is over when they are.
        to_cancel: Those of them that are still to be cancelled, and whether the step that started each runs.
        only_waits: It waits for somebody, and so do the runs that its steps await; it does nothing else.
        resting: Calls that run, but do nothing except to await runs that only wait.
        pausable: The clock of it, or of a run above it, stands still while it only waits.
        attempts: Attempts whose task is not over, by exec_id.
        root_run_id: The run that no step started: this one, or the outermost parent.
        parent: The attempt that started this run as its child.
        is_over: It has ended, and no task of it is left.
        has_begun: It has its first tick; before that it may queue at the gate of its workflow.
        awaited: How many await the handler now.
        sender_outside: Somebody outside has got hold of the run's context, and may send events with it.
        inside: Contexts of attempts; one that is alive when nothing runs is held by a task that a step left behind.
        returned: What bodies have returned that wait for their checkpoint or their turn, by exec_id; snapshots have it.
        to_tell: Waits of the run itself that have begun or ended, of which whoever listens is told in later turns.
        ending_waits: What the end of the run has closed and nobody was told of yet, by exec_id: there may be thousands.
        warned: What the log has been told of: classes of events that nobody took, that the run seems stuck, or that the
            workers of a step wait for locks.
        streamed: How many events were published to the stream.
        functions: What the steps' calls call, by step name, once it was needed often.
        executor: Gives what runs the sync steps.
        crowd: The attempts of all runs on the loop.
            handler: The `WorkflowHandler`, as long as somebody holds it.
            let_go: To be called with it when it is over: whoever keeps it alive need not any more.
            history: The last attempts that are over, without payloads; goes on living when the run is gone.
    """

    # A thousand live runs fit into a processor's cache only if each is small.
    __slots__ = (
        "__weakref__",
        "_sent_from_outside",
        "_told",
        "_waiters",
        "_when_over",
        "attempts",
        "awaited",
        "children",
        "clock",
        "crowd",
        "dispatcher",
        "end",
        "ending_waits",
        "executor",
        "functions",
        "handler",
        "has_begun",
        "history",
        "inside",
        "is_over",
        "journal",
        "let_go",
        "loop",
        "mailbox",
        "only_waits",
        "parent",
        "pausable",
        "plan",
        "resting",
        "returned",
        "root_run_id",
        "run_id",
        "sender_outside",
        "spec",
        "state",
        "stopped_children",
        "stream",
        "streamed",
        "timers_made",
        "to_begin",
        "to_cancel",
        "to_tell",
        "warned",
    )

    def __init__(
        self, plan: RunPlan, loop: asyncio.AbstractEventLoop, executor: Callable[[], Executor], crowd: Crowd
    ) -> None:
        self.plan = plan
        self.executor = executor
        self.run_id = plan.run_id
        self.spec = plan.spec
        self.dispatcher = plan.dispatcher
        self.state = plan.resume.state if plan.resume else RunState(plan.spec, plan.run_id)
        self.state.run_id = plan.run_id
        self.state.stepwise = self.state.open_to_outside = plan.stepwise
        self.clock = crowd.clock(loop)
        self.mailbox = Mailbox(self, loop)
        self.history = RunHistory(plan.run_id, plan.spec.name)
        self.stream = EventStream(plan.stream_buffer, loop, plan.resume.streamed if plan.resume else ())
        self.returned = plan.resume.returned if plan.resume else NONE_RETURNED
        self.attempts: dict[str, Any] = {}
        self.root_run_id = plan.run_id
        self.children: dict[LiveRun, ParentAttempt] | None = None
        self.stopped_children: dict[LiveRun, None] | None = None
        self.to_cancel: deque[tuple[LiveRun, bool]] | None = None
        self.to_tell: deque[StartRunWait | EndRunWait] | None = None
        self.parent: ParentAttempt | None = None
        self.pausable = not plan.idle_counts
        self.end: EndRun | None = None
        self.ending_waits: dict[str, list[EndWait]] | None = None
        self.is_over = self.only_waits = self.has_begun = False
        self.resting = self.awaited = self.streamed = self.to_begin = self._told = self._sent_from_outside = 0
        self.inside: WeakSet[Any] | None = None
        self.handler: ReferenceType[Any] | None = None
        self.journal = plan.journal
        self.sender_outside = plan.stepwise
        self.loop = loop
        self.timers_made: Timers | None = None
        self.crowd = crowd
        self.warned = NONE_WARNED
        self._waiters: list[asyncio.Future[None]] | None = None
        self.let_go: Callable[[Any], None] | None = None
        self._when_over: tuple[Callable[[Any], None], ...] = ()
        self.functions = NO_FUNCTIONS

    @abstractmethod
    def take(self, tick: Tick) -> None:
        """Reduce one tick and do what follows; the loop's part."""

    @abstractmethod
    def tell_started(self) -> None:
        """Tell that it has begun, unless that was told; the loop's part."""

    @abstractmethod
    def crash(self, error: BaseException | None) -> None:
        """End the run because a step raised what is no `Exception`; the loop's part."""

    def when_over(self, function: Callable[[Any], None]) -> None:
        """Call a function, with the run, when the run is over."""
        self._when_over = (*self._when_over, function)

    @property
    def timers(self) -> Timers:
        """Made when first needed: many runs need none."""
        if self.timers_made is None:
            self.timers_made = Timers(self.loop, self.mailbox)
        return self.timers_made

    @property
    def waiters(self) -> Sequence[asyncio.Future[None]]:
        """Futures of those who wait for the end."""
        return self._waiters or ()

    def check_loop(self) -> None:
        """Refuse to be waited for where it cannot be.

        Raises:
            WorkflowRuntimeError: If another event loop runs here than the one that the run lives on.
        """
        if asyncio.get_running_loop() is not self.loop:
            raise WorkflowRuntimeError(
                f"Run {self.run_id} lives on another event loop than the one that awaits it here. Await it there; from "
                f"another thread use asyncio.run_coroutine_threadsafe(...).",
                run_id=self.run_id,
            )

    async def until_over(self) -> None:
        """Wait for the end; to be cancelled does the run no harm.

        Raises:
            WorkflowRuntimeError: See `check_loop`.
        """
        if self.is_over:
            return
        waiter = self.waits_for_end()
        try:
            await waiter
        finally:
            self.no_longer_waits(waiter)

    def waits_for_end(self) -> asyncio.Future[None]:
        """What is done when the run is over: somebody waits for that, until `no_longer_waits`.

        Raises:
            WorkflowRuntimeError: See `check_loop`.
        """
        self.check_loop()
        waiter = future_of_run(self.loop, self.only_waits)
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    def no_longer_waits(self, waiter: asyncio.Future[None]) -> None:
        """Whoever waited for the end goes on; `waiter` is what `waits_for_end` gave."""
        if not self.is_over and self._waiters is not None:
            self._waiters.remove(waiter)

    def leave_loop(self) -> None:
        """Tell whoever keeps the run alive that it need not any more."""
        let_go, self.let_go = self.let_go, None
        if let_go is not None:
            let_go(self)

    def is_over_now(self) -> None:
        """Wake everybody who waits for the end, and let go of what would hold the run in a circle."""
        self.leave_loop()
        self.is_over = True
        self.mailbox.close()
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        functions, self._when_over = self._when_over, ()
        for function in functions:
            function(self)

    def function(self, step: StepSpec) -> Callable[..., Any]:
        """What a call of a step calls; kept where the run makes many calls."""
        found = self.functions.get(step.name)
        if found is None:
            found = self.plan.bind(self.plan.workflow, step)
            if self.state.steps > FEW_STEPS:
                self.functions = {**self.functions, step.name: found}
        return found

    @abstractmethod
    def end_waits(self, exec_id: str) -> None:
        """Tell that waits of a call ended with the run, if that is still to be told; the loop's part."""

    @abstractmethod
    def cancel(self, reason: str | None = None) -> None:
        """End the run as cancelled; the loop's part."""

    @abstractmethod
    def stop_children(self, attempt: ParentAttempt | None = None) -> None:
        """Cancel the child runs, those of one attempt or all; the loop's part."""

    @abstractmethod
    def collect(self, tick: EventsCollected) -> ReleaseFanIn | None:
        """Reduce a collect at once, since the step waits for its answer; the loop's part."""

    def tell(self, kind: type[Record], /, **facts: Any) -> None:
        """Tell one record; called only where somebody listens, so that nothing is built for nobody."""
        self._told += 1
        self.dispatcher.emit(kind(run_id=self.run_id, seq=self._told, at_ns=self.clock.now_ns(), **facts))

    def publish(self, event: Event, sender: AttemptScope | None) -> None:
        """Show an event to the stream's readers. No tick: it changes nothing that a later decision could need."""
        if self.stream.closed:
            return
        self.streamed += 1
        self.stream.put(event)
        if self.parent is not None:
            self._show_above(event)
        if self.dispatcher.handlers:
            exec_id, step, attempt = (sender.exec_id, sender.step, sender.attempt) if sender else (None, None, None)
            self.tell(EventStreamed, event=event, exec_id=exec_id, step=step, attempt=attempt)

    def _show_above(self, event: Event) -> None:
        """Show an event to those readers of the runs above this one that asked for it, each on the loop of its run."""
        above = self.parent
        while above is not None:
            run = above.run
            if run.stream.children:
                if run.loop is self.loop:
                    run.stream.put(OfChild(event))
                else:
                    run.mailbox.post(run.stream.put, OfChild(event))
            above = run.parent

    def send_from_outside(self, event: Event, target: str | None, wait_id: str | None = None) -> None:
        """Take an event that no step sent."""
        carriers = self.dispatcher.carriers(self.run_id) if self.dispatcher.handlers else None
        now = self.clock.now_ns()
        self._sent_from_outside = max(self._sent_from_outside + 1, self.state.arrived, 1)  # x0 is the start event
        envelope = Envelope(f"x{self._sent_from_outside}", event, None, None, now, carriers)
        self.mailbox.put(EventArrived(now, envelope, target, wait_id))
