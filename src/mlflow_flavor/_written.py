"""A script that is written from a class or an instance, completed and compared with what its author holds."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

from mlflow.exceptions import MlflowException

from mlflow_flavor._compat import invalid
from mlflow_flavor._fidelity import Change, Sources, change, held_elsewhere
from mlflow_flavor._holdings import Holding
from workflows import Workflow

__all__ = ["WRITTEN", "ModelSource", "needed_arguments", "refused"]

WRITTEN = "workflow.py"
NAMED = 5  # of what one place holds, in a warning
NOT_IMPORTED = (
    "%s holds %s of %s, and in the model it will not, unless a run puts it there: the model does not import that. If "
    "the agent needs it there, let the agent's module import that one as a whole, with its file in code_paths"
)
NOT_OF_PROGRAM = (
    "%s holds %s of the program that logs the agent, and in the model it will not, unless a run puts it there. If the "
    "agent needs it there, move it to a module that the agent's module imports; in a notebook, to a marked cell"
)
NOT_HELD = (
    "%s holds %s, and in the model it will not, unless a run puts it there. If the agent needs that there, let a "
    "decorator do it, or an assignment of its name, as `tool = register(tool)`"
)

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
        more: Writes it with more names of its module, and what they need; None where the author said what is in it.
        brought: Modules of the author's own that the model will have, the outermost packages of such ones.
    """

    text: bytes
    label: str
    original: type[Workflow] | Workflow | None = None
    sources: Sources | None = None
    left_out: str = ""
    more: Callable[[Set[str]], ModelSource] | None = None
    brought: Set[str] = frozenset()

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
        source, rebuilt, missing = self._completed(run)
        found = change(self.original, source.sources or self.sources, rebuilt, lambda: run(source.text))
        if found is not None:
            raise refused(self.original, found.reason, *_ways_out(self.original, found))
        groups: dict[tuple[str, str], list[str]] = {}
        for held in missing:
            if held.sure:
                groups.setdefault((held.place, held.module), []).append(held.name)
        for (place, module), names in groups.items():
            self._warn(place, module, names)
        return rebuilt

    def _warn(self, place: str, module: str, names: list[str]) -> None:
        """Say what the model will not hold in a place, of one module."""
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        shown = f"{', '.join(names[:NAMED])}{more}"
        if self.more is not None and self.sources is not None and module == self.sources.home.__name__:
            logger.warning(NOT_HELD, place, shown)
        elif self.sources is not None and module in ("__main__", self.sources.home.__name__):
            logger.warning(NOT_OF_PROGRAM, place, shown)
        else:
            logger.warning(NOT_IMPORTED, place, shown, module)

    def _known_as(self, held: Holding) -> str:
        """What the workflow's module calls it, or the module that it is of; empty if no import there can bring it."""
        home = self.sources.home if self.sources is not None else None
        if home is None or held.module == home.__name__:
            return held.name
        if held.module.partition(".")[0] not in self.brought:
            return ""
        module = sys.modules.get(held.module)
        value = vars(module).get(held.name, module) if module is not None else None
        return next(
            (n for n, known in vars(home).items() if known is not None and (known is value or known is module)), ""
        )

    def _completed(self, run: Callable[[bytes], Workflow]) -> tuple[ModelSource, Workflow, list[Holding]]:
        """The source with what modules hold of its own that it uses, as far as that can be, and what they hold more."""
        source, rebuilt, missing = self._tried(run)
        given, asked = frozenset[str](), set[str]()
        while new := {self._known_as(held) for held in missing} - asked - {""}:
            asked |= new
            for names in (new, *({name} for name in sorted(new) if len(new) > 1)):
                larger = self._with(run, given | names)
                if larger is not None:
                    source, rebuilt, missing = larger
                    given |= names
                    if names == new:
                        break
        in_vain = given & {self._known_as(held) for held in missing}  # a run has put them there
        if in_vain or len(asked) > len(given):  # what is run last is the model's
            source, rebuilt, missing = self._with(run, given - in_vain) or self._tried(run)
        return source, rebuilt, missing

    def _tried(self, run: Callable[[bytes], Workflow]) -> tuple[ModelSource, Workflow, list[Holding]]:
        rebuilt = self._made(run)
        return self, rebuilt, held_elsewhere(self.sources, rebuilt) if self.sources is not None else []

    def _with(
        self, run: Callable[[bytes], Workflow], names: Set[str]
    ) -> tuple[ModelSource, Workflow, list[Holding]] | None:
        """The same with more names; None if no script can have them."""
        try:
            return self.more(names)._tried(run) if self.more is not None and names else None
        except MlflowException:
            return None

    def _made(self, run: Callable[[bytes], Workflow]) -> Workflow:
        try:
            return run(self.text)
        except MlflowException:
            raise  # which says what is wrong with the script
        except Exception as error:
            raise refused(self.original, self._failure(error)) from error

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
