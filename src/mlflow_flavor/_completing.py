"""Runs a written script, completed by what belongs to it elsewhere, and compares what it makes with what was given.

A module of the author's own may hold functions of the workflow's module, and that one may set something in others: the
script has the statements that do so, as far as there can be such a script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from mlflow.exceptions import MlflowException

from mlflow_flavor._fidelity import (
    Change,
    change,
    changed,
    held_elsewhere,
    held_in_all,
    imports_of,
    modules_used,
    places_of,
)
from mlflow_flavor._holdings import Comparison, Holding
from mlflow_flavor._left_out import warn_of_line, warn_of_missing
from mlflow_flavor._setters import import_of, set_by_others
from mlflow_flavor._written import Call, ModelSource, needed_arguments, reason_of, refused
from workflows import Workflow

__all__ = ["workflow_of"]

MAX_FAILURES = 12
"""So often is a script run in vain; each run does again what its modules do when they are imported."""


def workflow_of(source: ModelSource, run: Callable[[bytes], Workflow]) -> Workflow:
    """The workflow that a script makes; of a written one, only if it is what its author holds.

    Args:
        source: The script.
        run: Runs a script, in the model's place for it; that which it runs last is the model's.

    Raises:
        MlflowException: With what differs; or if a written script fails, with its error.
        Exception: What a file of the caller's raises.
    """
    if source.original is None or source.sources is None:
        return run(source.text)
    completion = Completion(source, run)
    made = completion.made()
    found = _change(made, run)
    if found is not None:
        raise refused(source.original, found.reason, *_ways_out(source, found))
    warn_of_missing(made.source, made.workflow, made.missing, completion.reasons)
    for name in sorted(completion.lost):
        line = name.partition(",")[0]  # of what `_at_place` says
        warn_of_line(source.file, line, completion.reasons[name])
    return made.workflow


def _change(made: Made, run: Callable[[bytes], Workflow]) -> Change | None:
    source = made.source
    assert source.original is not None, "a script of the caller's is not compared with anything"
    assert source.sources is not None, "what is written is written from a module"
    return change(source.original, source.sources, made.workflow, lambda: run(source.text))


Pair = tuple[str, str]
"""A name of the author's module, and where what has it is missing."""


@dataclass(frozen=True, slots=True)
class Made:
    """A script that was run.

    Attributes:
        source: The script.
        names: What it has for what is elsewhere: names of its module, and calls.
        workflow: What it made.
        missing: What the author's modules hold, and the model's copies of them did not.
        there: How much these hold of each name of a module.
        later: What they do not hold before a run, which imports the modules of that.
    """

    source: ModelSource
    names: frozenset[str]
    workflow: Workflow
    missing: Sequence[Holding]
    there: Counter[tuple[str, str]]
    later: Sequence[Holding]

    @property
    def number_missing(self) -> Counter[Pair]:
        """How much is missing of each name, by where it is."""
        return _numbers(self.source, self.missing)

    @property
    def elsewhere(self) -> list[Holding]:
        """What is missing of modules that the model has and that its script has not imported."""
        foreign = (each for each in self.missing if each.is_foreign)
        return [each for each in (*self.later, *foreign) if each.module.partition(".")[0] in self.source.brought]

    @property
    def acts(self) -> Set[str]:
        """Names by which the author's module sets something in modules that the script leads to without that."""
        acts = self.source.acts
        used = modules_used(self.workflow) if acts else set[str]()
        return {name for name, module in acts.items() if module in used}


def _numbers(source: ModelSource, missing: Iterable[Holding]) -> Counter[Pair]:
    found: Counter[Pair] = Counter()
    for held in missing:
        if name := source.name_of(held):
            found[name, held.place] += held.number
    return found


class Completion:
    """Looks for the script with the most of what is elsewhere, and no line that brings nothing.

    Attributes:
        reasons: Why it cannot have some, by name.
        lost: Of those, the calls without which variables of modules are not what the author's are.
    """

    def __init__(self, source: ModelSource, run: Callable[[bytes], Workflow]) -> None:
        self.reasons: dict[str, str] = {}
        self.lost = set[str]()
        self._source = source
        self._run = run
        self._best: Made | None = None
        self._last: frozenset[str] | None = None
        self._failures = 0
        self._places: dict[str, Set[str]] = {}
        self._kinds: dict[str, str] = {}  # classes and functions of which things that have names are made

    def made(self) -> Made:
        """The script that has them, which is run last.

        Raises:
            MlflowException: If not even the script without any can be run, nor with all.
        """
        found = self._best = self._first()
        if self._source.more is None:
            return found
        # A call is only made again for what nothing else puts there.
        named = self._with(self._names_for, found)
        found = self._with(self._calls_for, named)
        if found is not named:  # some names may have failed for want of what calls give
            found = self._with(self._names_for, found)
        found = self._with_setters(self._with_imports(self._with_values(found)))
        return self.made_with(found.names) if found.names != self._last else found

    def _with(self, wanted: Callable[[Made], Set[str]], found: Made) -> Made:
        """The script with as much of what is wanted as can be, and as brings something."""
        given, before, asked = found, found.number_missing, set(found.names)
        while new := wanted(found) - asked:
            asked |= new
            possible = self._most(sorted(new), found.names, self._why_not_written)
            self._most(sorted(possible), found.names, self._why_not_run)
            found = self._best or found
            before |= found.number_missing
        self._best = self._without_vain(found, given, before) if found is not given else found
        return self._best

    def _first(self) -> Made:
        """The script without any; where it cannot be run, with all: it may need what they put elsewhere."""
        try:
            return self.made_with(frozenset())
        except MlflowException:
            source = self._source
            if source.sources is None or source.more is None:
                raise
            held = held_in_all(source.sources, source.text, source.brought)
            self._kinds.update((source.name_of(each), each.kind) for each in held)
            pairs = _numbers(source, held).keys()
            every = {*self._names_of(pairs), *self._calls_of(pairs), *source.acts}
            possible = self._most(sorted(every), frozenset(), self._why_not_written)
            with suppress(MlflowException):  # what the script says without them is plainer
                if possible:
                    return self.made_with(possible)
            raise

    def _names_for(self, found: Made) -> Set[str]:
        return {*self._names_of(found.number_missing), *found.acts}

    def _names_of(self, pairs: Iterable[Pair]) -> Set[str]:
        """The names, but for variables of what a call may make there: a loop over a registry has such a one too."""
        found = set[str]()
        for name, place in pairs:
            if self._kinds.get(name, name) == name or not self._calls_of([(name, place)]):
                found.add(name)
        return found

    def _calls_for(self, found: Made) -> Set[str]:
        return self._calls_of(found.number_missing.keys())

    def _calls_of(self, pairs: Iterable[Pair]) -> Set[str]:
        """Calls in the author's module that may put something of these names there."""
        wanted = list(pairs)
        calls = self._source.calls.items()
        return {
            each
            for each, call in calls
            if any(self._is_needed(name, call) and place in self._led_to(call) for name, place in wanted)
        }

    def _is_needed(self, name: str, call: Call) -> bool:
        return name in call.needs or self._kinds.get(name) in call.needs

    def _led_to(self, call: Call) -> Set[str]:
        if call.leads not in self._places:
            self._places[call.leads] = self._places_in(call.leads)
        return self._places[call.leads]

    def _places_in(self, lines: str, rebuilt: Workflow | None = None) -> Set[str]:
        assert self._source.sources is not None, "what has calls is written from a module"
        return places_of(self._source.sources, lines, self._source.brought, rebuilt)

    def _without_vain(self, found: Made, given: Made, before: Mapping[Pair, int]) -> Made:
        """The script without what it has newly to no avail: a run has put that there, or another line."""
        after, calls = found.number_missing, self._source.calls
        helped = {pair for pair, number in before.items() if after[pair] < number}
        useful = self._calls_of(helped)
        more = {key[1] for key, number in found.there.items() if number > given.there[key]}
        missed = {name for name, _ in before.keys() - helped} - more
        new = found.names - given.names
        vain = {name for name in new if (name not in useful if name in calls else name in missed)}
        return self.made_with(found.names - vain) if vain else found

    def _with_values(self, found: Made) -> Made:
        """The script with calls that make variables what the author's are: plain data do not say who made them."""
        known = found.names | self.reasons.keys()
        led_to = {name: self._led_to(call) for name, call in self._source.calls.items() if name not in known}
        if not led_to:
            return found
        used = self._places_in(found.source.text.decode(), found.workflow) & set[str]().union(*led_to.values())
        before = changed(used, found.workflow)
        others = {place for place, _ in before}
        calls = self._source.calls
        configured = {n for n, places in led_to.items() if calls[n].configured and not places.isdisjoint(used)}
        asked = sorted(n for n, places in led_to.items() if n in configured or not places.isdisjoint(others))
        possible = self._most(asked, found.names, self._why_not_written)
        self._most(sorted(possible), found.names, self._why_not_run)
        best = self._best or found
        left = changed(used, best.workflow)
        mended = {place for place, _ in before - left}
        vain = {name for name in asked if led_to[name].isdisjoint(mended)}
        if not left - before:  # with another configuration they may do something
            vain -= configured
        still = {place for place, _ in left}
        self.lost = {name for name in asked if name in self.reasons and not led_to[name].isdisjoint(still)}
        return self.made_with(best.names - vain) if vain & best.names else best

    def _with_imports(self, found: Made) -> Made:
        """The script with calls that import what fills something there: a loader of tools does nothing else.

        It may say by texts what it imports, so that any call may be one.
        """
        for name, call in sorted(self._source.calls.items()):
            wanted = {each.module for each in found.elsewhere}
            if not wanted:
                break
            may_be_it = any(each.is_foreign for each in found.elsewhere) or wanted & self._imports(call)
            if not may_be_it or name in found.names or name in self.reasons:
                continue
            if self._most([name], found.names, self._why_not_written):
                self._most([name], found.names, self._why_not_run)
            best = self._best or found
            found = best if len(best.elsewhere) < len(found.elsewhere) else found
        return found

    def _with_setters(self, found: Made) -> Made:
        """The script with imports, by which nothing else is used, of modules that set something for it."""
        sources = self._source.sources
        assert sources is not None, "what is completed is written from a module"
        seen = set[str]()
        while new := {module for _, module in set_by_others(sources, found.workflow)} - seen:
            seen |= new
            brought = sorted(module for module in new if module.partition(".")[0] in self._source.brought)
            named = {module: name for module in brought if (name := import_of(sources.home, module)) is not None}
            asked = sorted(set(named.values()) - found.names - self.reasons.keys())
            possible = self._most(asked, found.names, self._why_not_written)
            self._most(sorted(possible), found.names, self._why_not_run)
            if self._best is not None and self._best.names & set(asked):
                found = self._without_readers(found, self._best, named)
        return found

    def _without_readers(self, given: Made, found: Made, named: Mapping[str, str]) -> Made:
        """The script without imports of modules that bring no variable nearer to the author's."""
        sources = self._source.sources
        assert sources is not None, "what is completed is written from a module"
        told = set(set_by_others(sources, given.workflow))
        places = {place for place, _ in told}
        mended = {place for place, _ in changed(places, given.workflow) - changed(places, found.workflow)}
        useful = {named[module] for place, module in told if place in mended and module in named}
        vain = (found.names - given.names) & (set(named.values()) - useful)
        return self.made_with(found.names - vain) if vain else found

    def _imports(self, call: Call) -> Set[str]:
        assert self._source.sources is not None, "what has calls is written from a module"
        return imports_of(self._source.sources, call.leads, self._source.brought)

    def made_with(self, names: frozenset[str]) -> Made:
        """The script that has these names.

        Raises:
            MlflowException: If there is none, or it cannot be run.
        """
        source = self._written(names)
        self._last = names
        workflow = source.made(self._run)
        held = held_elsewhere(source.sources, workflow) if source.sources is not None else Comparison([], Counter())
        self._kinds.update((source.name_of(each), each.kind) for each in held.missing)
        return Made(source, names, workflow, held.missing, held.there, held.later)

    def _most(
        self, names: Sequence[str], given: frozenset[str], why_not: Callable[[frozenset[str]], str | None]
    ) -> frozenset[str]:
        """As many of some names as can be beside those given: half of them, and then of the others, if not all can."""
        reason = why_not(given.union(names)) if names else None
        if reason is None:
            return frozenset(names)
        if len(names) == 1:
            self.reasons[names[0]] = reason
            return frozenset()
        half = len(names) // 2
        first = self._most(names[:half], given, why_not)
        return first | self._most(names[half:], given | first, why_not)

    def _why_not_written(self, names: frozenset[str]) -> str | None:
        try:
            self._written(names)
        except MlflowException as error:
            return reason_of(error)
        return None

    def _why_not_run(self, names: frozenset[str]) -> str | None:
        if self._failures == MAX_FAILURES:
            return "it was not tried after many others that cannot be"
        reason = self._failure_of(names)
        self._failures += reason is not None
        return reason

    def _failure_of(self, names: frozenset[str]) -> str | None:
        try:
            made = self.made_with(names)
        except MlflowException as error:
            return reason_of(error)
        if (
            names & (self._source.acts.keys() | self._source.calls.keys())
            and (found := _change(made, self._run)) is not None
        ):
            return found.reason
        self._best = made
        for name in names & self.reasons.keys():
            del self.reasons[name]
        return None

    def _written(self, names: frozenset[str]) -> ModelSource:
        return self._source.more(names) if self._source.more is not None and names else self._source


def _ways_out(source: ModelSource, found: Change) -> Iterator[str]:
    """What may be logged of a workflow that has changed."""
    original = source.original
    if found.of_instance and not source.is_variable:
        yield "make it a variable at the top of its module, outside of functions, and log that"
    if not found.unknown:
        yield "log it before it is run or changed"
    if found.unset:
        yield "set that to None before, if the agent makes it again when it needs it"
    if found.absent:
        yield "delete that before, if the agent makes it again when it needs it"
    if isinstance(original, Workflow) and found.of_instance and not needed_arguments(type(original)):
        yield f"log the class {type(original).__name__}"
