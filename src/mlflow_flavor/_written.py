"""A script that is written from a class or an instance, completed and compared with what its author holds."""

from __future__ import annotations

import ast
import inspect
import logging
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

from mlflow.exceptions import MlflowException

from mlflow_flavor._compat import invalid
from mlflow_flavor._fidelity import Change, Sources, change, held_by_later, held_elsewhere
from mlflow_flavor._holdings import Holding
from mlflow_flavor._names import names_in
from mlflow_flavor.notebook import MARKER
from workflows import Workflow

__all__ = ["WRITTEN", "ModelSource", "needed_arguments", "refused"]

WRITTEN = "workflow.py"
BY_STATEMENT = "let a decorator do that, or an assignment of its name, as `tool = register(tool)`"
BY_CELL = f"begin the cell that does with '{MARKER}'"
NOT_HELD = "%s holds %s, and in the model it does not; unless a run has put it there, " + BY_STATEMENT

logger = logging.getLogger("workflows.mlflow")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What `workflow.py` of a model will hold.

    Attributes:
        text: The script's bytes.
        label: What errors call it.
        original: The class or instance that it was written from; None for a file of the caller's.
        sources: Where that was defined, and the names there that the script makes too; what it imports is none of them.
        left_out: What the script may miss, in words that follow an error.
        more: Writes it with more names of its module, and what they need.
    """

    text: bytes
    label: str
    original: type[Workflow] | Workflow | None = None
    sources: Sources | None = None
    left_out: str = ""
    more: Callable[[Set[str]], ModelSource] | None = None

    def built(self, run: Callable[[bytes], Workflow]) -> Workflow:
        """The workflow that the script makes; of a written one, only if it is what its author holds.

        A written script is completed before by what modules of the author's hold of the one that it is of.

        Args:
            run: Runs a script, in the model's place for it; that which it runs last is the model's.

        Raises:
            MlflowException: With what differs; or if a written script fails, with its error.
            Exception: What a file of the caller's raises.
        """
        if self.original is None or self.sources is None:
            return run(self.text)
        source, rebuilt = self._completed(run)
        found = change(self.original, source.sources or self.sources, rebuilt, lambda: run(source.text))
        if found is not None:
            raise refused(self.original, found.reason, *_ways_out(self.original, found))
        return rebuilt

    def _completed(self, run: Callable[[bytes], Workflow]) -> tuple[ModelSource, Workflow]:
        """The source with all that is held elsewhere of its module, and what it makes."""
        source, rebuilt = self, self._made(run)
        if self.more is not None:
            source, rebuilt = self._enlarged(run, self.more, rebuilt)
        self._check_complete(rebuilt)
        return source, rebuilt

    def _enlarged(
        self, run: Callable[[bytes], Workflow], more: Callable[[Set[str]], ModelSource], rebuilt: Workflow
    ) -> tuple[ModelSource, Workflow]:
        source, own, asked, given = self, self._names(), set[str](), set[str]()
        while new := [h for h in self._to_add(rebuilt) if h.name not in asked and (h.sure or h.name not in own)]:
            sure = [held for held in new if held.sure]
            names = {held.name for held in sure or new}
            asked |= names
            try:
                larger = more(given | names)
                rebuilt = larger._made(run) if larger.text != source.text else rebuilt
            except MlflowException as error:
                if sure:
                    asked_by = f"It takes {sure[0].name}, because {sure[0].place} holds that."
                    raise invalid(f"{error.message} {asked_by}") from error
                rebuilt = source._made(run)
            else:
                source, given = larger, given | names
        in_vain = {held.name for held in self._left_out(rebuilt) if not held.sure} & given
        if in_vain:  # a run has put them there
            source = more(given - in_vain)
            rebuilt = source._made(run)
        return source, rebuilt

    def _made(self, run: Callable[[bytes], Workflow]) -> Workflow:
        try:
            return run(self.text)
        except MlflowException:
            raise  # which says what is wrong with the script
        except Exception as error:
            raise refused(self.original, self._failure(error)) from error

    def _names(self) -> frozenset[str]:
        """What the script sets, or the module that it imports."""
        if self.sources is not None and self.sources.helper:
            return frozenset(vars(self.sources.home))
        return names_in(ast.parse(self.text).body).bound

    def _to_add(self, rebuilt: Workflow) -> list[Holding]:
        later = held_by_later(self.sources, rebuilt) if self.sources is not None else []
        return [*self._left_out(rebuilt), *later]

    def _left_out(self, rebuilt: Workflow) -> list[Holding]:
        return held_elsewhere(self.sources, rebuilt) if self.sources is not None else []

    def _check_complete(self, rebuilt: Workflow) -> None:
        """Refuse a script without what surely belongs to it; tell what may."""
        own, missing = self._names(), self._left_out(rebuilt)
        for held in missing:
            if held.sure and held.name not in own:
                advice = BY_STATEMENT if self.more is not None else BY_CELL
                reason = f"{held.place} holds {held.name}, and what runs again of its source does not put it there"
                raise refused(self.original, f"{reason}: {advice}")
        for held in missing:
            if held.sure or held.name not in own:
                logger.warning(NOT_HELD, held.place, held.name)

    def _failure(self, error: Exception) -> str:
        frames = [f for f in extract_tb(error.__traceback__) if Path(f.filename).name == WRITTEN]
        where = f" at `{frames[-1].line}`" if frames else ""
        return f"run again, its source raised {type(error).__name__}: {error}{where}{self.left_out}"


def refused(workflow: object, reason: str, *ways_out: str) -> Exception:
    """The error for a class or an instance that no script can be true to, and what else may be done about it."""
    name = workflow.__name__ if isinstance(workflow, type) else type(workflow).__name__
    others = f" Or {', or '.join(ways_out)}." if ways_out else ""
    return invalid(
        f"workflows are logged from code, and the source of this {name} cannot be written to a script ({reason}): pass "
        f"the path of a .py file that ends with mlflow.models.set_model(<workflow>).{others}"
    )


def _ways_out(original: type[Workflow] | Workflow, found: Change) -> Iterator[str]:
    """What may be logged of a workflow that has changed."""
    if not found.unknown:
        yield "log it before it is run or changed"
    if found.unset:
        yield "set that to None before, if the agent makes it again when it needs it"
    if found.absent:
        yield "delete that before, if the agent makes it again when it needs it"
    if found.of_instance and not isinstance(original, type) and not needed_arguments(type(original)):
        yield f"log the class {type(original).__name__}"


def needed_arguments(cls: type[Workflow]) -> list[str]:
    """What the class cannot be called without."""
    return [n for n, p in inspect.signature(cls).parameters.items() if p.default is p.empty and p.kind not in (2, 4)]
