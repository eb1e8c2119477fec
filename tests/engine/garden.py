"""A workflow that grows whatever a random plan says: retries, waits, lists, joins, children, threads, time limits.

Every piece of work ends in exactly one `Finished`; the run ends when as many came as the plan has. So a lost event is a
run that never ends, and an event that is handled twice is a key that comes twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

from hypothesis import strategies as st

from workflows import Context, Workflow, catch_error, step
from workflows.collect import Collect, Take
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed, wait_none

GATHERED, TAKEN, PAIRED, MENDED_AT = -1, -2, -3, 3
Plan = dict[str, Any]


class Node(Event):
    """A piece of work: fails so often, sleeps so long, waits in some way, and makes more work of all kinds."""

    key: int
    fails: int
    sleep: int
    wait: str
    sends: list[dict[str, Any]]
    returns: dict[str, Any] | None
    branches: list[dict[str, Any]]
    pairs: int
    hurries: list[int]
    shouts: list[int]
    child: dict[str, Any] | None


class Branch(Event):
    key: int
    leaves: list[dict[str, Any]]
    branches: list[dict[str, Any]]


class Leaf(Event):
    key: int
    fails: int
    sleep: int
    wait: str
    drop: bool


class LeafDone(Event):
    key: int


class PairA(Event):
    pass


class PairB(Event):
    pass


class Hurry(Event):
    key: int


class Shout(Event):
    key: int


class Bomb(Event):
    pass


class Finished(Event):
    done: list[int]


class Ask(InputRequiredEvent):
    key: int
    number: int


class Reply(HumanResponseEvent):
    key: int
    number: int = 0


class Nod(HumanResponseEvent):
    key: int


class Progress(Event):
    key: int


class Garden(Workflow):
    @step
    async def plant(self, ctx: Context, ev: StartEvent) -> Node | Bomb:
        await ctx.store.set("size", ev.size)
        if ev.get("bomb"):
            ctx.send_event(Bomb())
        return Node(**ev.root)

    @step(num_workers=2, retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(MENDED_AT)))
    async def grow(self, ctx: Context, ev: Node) -> Node | Branch | PairA | PairB | Hurry | Shout | Finished | None:
        if ctx.retry_info().retry_number < ev.fails:
            raise ValueError(f"node {ev.key}")
        await asyncio.sleep(ev.sleep)
        await wait(ctx, ev.key, ev.wait)
        keys = [ev.key]
        if ev.child is not None:
            keys += await Garden(timeout=None).run(root=ev.child, size=size(ev.child))
        # Without a pause from here on, so that a resumed run cannot have done half of it.
        for child in ev.sends:
            ctx.send_event(Node(**child))
        for branch in ev.branches:
            ctx.send_event(Branch(**branch))
        for _ in range(ev.pairs):
            ctx.send_event(PairA())
        for _ in range(ev.pairs):
            ctx.send_event(PairB())
        for key in ev.hurries:
            ctx.send_event(Hurry(key=key))
        for key in ev.shouts:
            ctx.send_event(Shout(key=key))
        ctx.send_event(Finished(done=keys))
        return Node(**ev.returns) if ev.returns else None

    @step
    async def spread(self, ctx: Context, ev: Branch) -> list[Leaf | Branch]:
        ctx.send_event(Finished(done=[ev.key]))
        return [*(Leaf(**leaf) for leaf in ev.leaves), *(Branch(**inner) for inner in ev.branches)]

    @step(num_workers=3, retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(MENDED_AT)))
    async def leaf(self, ctx: Context, ev: Leaf) -> LeafDone | Finished | None:
        if ctx.retry_info().retry_number < ev.fails:
            raise ValueError(f"leaf {ev.key}")
        await asyncio.sleep(ev.sleep)
        await wait(ctx, ev.key, ev.wait)
        ctx.send_event(Finished(done=[ev.key]))
        return None if ev.drop else LeafDone(key=ev.key)

    @step
    async def gather(self, evs: list[LeafDone]) -> Finished:
        return Finished(done=[GATHERED] * (1 + len(evs)))

    @step
    async def take(self, evs: Annotated[list[LeafDone], Collect(Take(2))]) -> Finished:
        return Finished(done=[TAKEN])

    @step(num_workers=1)
    async def pair(self, a: PairA, b: PairB) -> Finished:
        return Finished(done=[PAIRED])

    @step(timeout=2, retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
    async def hurry(self, ctx: Context, ev: Hurry) -> Finished:
        await asyncio.sleep(3 - 2 * ctx.retry_info().retry_number)
        return Finished(done=[ev.key])

    @step
    def shout(self, ctx: Context, ev: Shout) -> Finished:
        ctx.write_event_to_stream(Progress(key=ev.key))
        return Finished(done=[ev.key])

    @catch_error(for_steps=["grow", "leaf"])
    async def mend(self, ctx: Context, ev: StepFailedEvent) -> LeafDone | None:
        found = ev.input_event
        ctx.send_event(Finished(done=[found.key]))
        return LeafDone(key=found.key) if isinstance(found, Leaf) and not found.drop else None

    @step
    async def explode(self, ev: Bomb) -> Finished:
        await asyncio.sleep(2)
        raise KeyError("bomb")

    @step
    async def count(self, ctx: Context, ev: Finished) -> StopEvent | None:
        found = ctx.collect_events(ev, [Finished] * await ctx.store.get("size"))
        return StopEvent(result=[key for f in found for key in f.done]) if found else None


async def wait(ctx: Context, key: int, way: str) -> None:
    """Wait in one of the ways in which user code does."""
    want: dict[str, Any] = {"key": key}
    if way == "answered":
        await ctx.wait_for_event(Reply, waiter_event=Ask(key=key, number=0), requirements=want)
    elif way == "early":
        ctx.send_event(Reply(key=key))
        await asyncio.sleep(1)
        await ctx.wait_for_event(Reply, requirements=want)
    elif way == "never":
        try:
            await ctx.wait_for_event(Reply, requirements=want, timeout=2)
        except TimeoutError:
            return
        raise AssertionError("an answer that nobody gave")
    elif way == "twice":
        for number in (0, 1):
            reply = await ctx.wait_for_event(Reply, waiter_event=Ask(key=key, number=number), requirements=want)
            assert reply.number == number
    elif way == "both":
        ask = Ask(key=key, number=2)
        reply = ctx.wait_for_event(Reply, waiter_event=ask, requirements=want)
        nod = ctx.wait_for_event(Nod, requirements=want)
        assert [type(e) for e in await asyncio.gather(reply, nod)] == [Reply, Nod]
    else:
        await _wait_a_while(ctx, key, way)


async def _wait_a_while(ctx: Context, key: int, way: str) -> None:
    want: dict[str, Any] = {"key": key}
    if way == "given up":
        try:
            await asyncio.wait_for(ctx.wait_for_event(Nod, requirements=want, timeout=None), 1)
        except TimeoutError:
            return
        raise AssertionError("an answer that nobody gave")
    if way == "listening":  # while it works
        listener = asyncio.create_task(ctx.wait_for_event(Nod, requirements=want))
        await asyncio.sleep(2)
        listener.cancel()
    elif way == "meanwhile":
        ask = Ask(key=key, number=0)
        asked = asyncio.create_task(ctx.wait_for_event(Reply, waiter_event=ask, requirements=want))
        await asyncio.sleep(key % 3)
        await asyncio.wait([asked], timeout=0.5)
        await asked


WAYS = ["no", "no", "no", "answered", "early", "never", "twice", "both", "given up", "listening", "meanwhile"]
ALONE = ["no", "no", "early", "never", "given up", "listening"]


def _leaves(ways: list[str]) -> st.SearchStrategy[Plan]:
    return st.fixed_dictionaries(
        {
            "fails": st.integers(0, MENDED_AT),
            "sleep": st.integers(0, 3),
            "wait": st.sampled_from(ways),
            "drop": st.booleans(),
        }
    )


def _branches(ways: list[str]) -> st.SearchStrategy[Plan]:
    def branch(inner: st.SearchStrategy[list[Plan]]) -> st.SearchStrategy[Plan]:
        return st.fixed_dictionaries({"leaves": st.lists(_leaves(ways), max_size=4), "branches": inner})

    return st.recursive(branch(st.just([])), lambda b: branch(st.lists(b, max_size=2)), max_leaves=3)


def _nodes(
    ways: list[str],
    more: st.SearchStrategy[Plan] | None,
    child: st.SearchStrategy[Plan | None],
) -> st.SearchStrategy[Plan]:
    def nothing() -> st.SearchStrategy[list[Any]]:
        return st.just([])

    return st.fixed_dictionaries(
        {
            "fails": st.sampled_from([0, 0, 0, 1, 2, MENDED_AT]),
            "sleep": st.integers(0, 3),
            "wait": st.sampled_from(ways),
            "sends": st.lists(more, max_size=3) if more is not None else nothing(),
            "returns": st.none() | more if more is not None else st.none(),
            "branches": st.lists(_branches(ways), max_size=2),
            "pairs": st.sampled_from([0, 0, 1, 3]),
            "hurries": st.lists(st.just(0), max_size=1),
            "shouts": st.lists(st.just(0), max_size=1),
            "child": child,
        }
    )


_INNER = st.none() | _nodes(ALONE, None, st.none())
PLANS: st.SearchStrategy[Plan] = st.recursive(
    _nodes(WAYS, None, _INNER), lambda more: _nodes(WAYS, more, _INNER), max_leaves=6
)
ALONE_PLANS: st.SearchStrategy[Plan] = st.recursive(
    _nodes(ALONE, None, _INNER), lambda more: _nodes(ALONE, more, _INNER), max_leaves=4
)
"""Plans whose work asks nobody."""


@dataclass
class Counted:
    """A plan with a key for every piece of work, how many `Finished` it takes, and the keys that they bring."""

    root: Plan
    size: int
    keys: Counter[int] = field(default_factory=Counter[int])


def number(plan: Plan) -> Counted:
    """Give every piece of work its key, and count what must come back."""
    keys = iter(range(10**6))
    root = _number(plan, keys)
    return Counted(root, size(root), expected(root))


def _number(plan: Plan, keys: Any) -> Plan:
    return {
        **plan,
        "key": next(keys),
        "sends": [_number(p, keys) for p in plan["sends"]],
        "returns": _number(plan["returns"], keys) if plan["returns"] else None,
        "branches": [_number_branch(b, keys) for b in plan["branches"]],
        "hurries": [next(keys) for _ in plan["hurries"]],
        "shouts": [next(keys) for _ in plan["shouts"]],
        "child": _number(plan["child"], keys) if plan["child"] else None,
    }


def _number_branch(plan: Plan, keys: Any) -> Plan:
    return {
        "key": next(keys),
        "leaves": [{**leaf, "key": next(keys)} for leaf in plan["leaves"]],
        "branches": [_number_branch(b, keys) for b in plan["branches"]],
    }


def size(plan: Plan) -> int:
    """How many `Finished` a plan makes."""
    if plan["fails"] >= MENDED_AT:
        return 1
    more = [*plan["sends"], *([plan["returns"]] if plan["returns"] else [])]
    own = 1 + plan["pairs"] + len(plan["hurries"]) + len(plan["shouts"])
    return own + sum(map(size, more)) + sum(map(_branch_size, plan["branches"]))


def _branch_size(plan: Plan) -> int:
    return 3 + len(plan["leaves"]) + sum(map(_branch_size, plan["branches"]))


def expected(plan: Plan) -> Counter[int]:
    """The keys that come back from a plan, each as often as it must."""
    found: Counter[int] = Counter([plan["key"]])
    if plan["fails"] >= MENDED_AT:
        return found
    found[PAIRED] += plan["pairs"]
    found.update([*plan["hurries"], *plan["shouts"]])
    for more in (*plan["sends"], plan["returns"], plan["child"]):
        found += expected(more) if more else Counter()
    for branch in plan["branches"]:
        found += _branch_keys(branch)
    return found


def _branch_keys(plan: Plan) -> Counter[int]:
    kept = [leaf for leaf in plan["leaves"] if not leaf["drop"]]
    found = Counter([plan["key"], *(leaf["key"] for leaf in plan["leaves"])])
    found[TAKEN] += 1
    found[GATHERED] += 1 + len(kept)
    for branch in plan["branches"]:
        found += _branch_keys(branch)
    return +found
