"""A script that is written from a class or an instance: what it holds, and why there can be none."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb

from mlflow.exceptions import MlflowException

from mlflow_flavor._compat import invalid
from mlflow_flavor._fidelity import Sources
from mlflow_flavor._holdings import Holding
from workflows import Workflow

__all__ = ["WRITTEN", "Call", "ModelSource", "needed_arguments", "reason_of", "refused"]

WRITTEN = "workflow.py"
REASON = "__reason__"


@dataclass(frozen=True, slots=True)
class Call:
    """A statement that calls something of modules that the model has, or of its own module, which uses those.

    Attributes:
        needs: Names of its module that it needs, and that these need.
        leads: The imports of its module, and what it calls: lines that lead where the calls do.
        configured: What it does depends on the model's configuration, which may be another one.
    """

    needs: Set[str]
    leads: str
    configured: bool = False


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What `workflow.py` of a model will hold.

    Attributes:
        text: The script's bytes.
        label: What errors call it.
        original: The class or instance that it was written from; None for a file of the caller's.
        sources: Where that was defined, and the names there that the script makes too; what it imports is none of them.
        left_out: What the script may miss, in words that follow an error.
        more: Writes it with more names of its module, or calls, and what these need; None where its author said what is
            in it.
        brought: Modules of the author's own that the model will have, the outermost packages of such ones.
        acts: Names of its module by which statements set or fill something in those, and the module that each is of.
        calls: The statements that call something of those, each by a name that `more` takes.
        named: Names that its module's statements need which define nothing, and those in the program that logs it.
        is_variable: A variable of its module is what the script makes again; if not, it makes another of the class.
    """

    text: bytes
    label: str
    original: type[Workflow] | Workflow | None = None
    sources: Sources | None = None
    left_out: str = ""
    more: Callable[[Set[str]], ModelSource] | None = None
    brought: Set[str] = frozenset()
    acts: Mapping[str, str] = field(default_factory=dict[str, str])
    calls: Mapping[str, Call] = field(default_factory=dict[str, Call])
    named: Set[str] = frozenset()
    is_variable: bool = True

    @property
    def file(self) -> str:
        """The file that it was written from."""
        return Path(str(getattr(self.sources and self.sources.home, "__file__", ""))).name

    def made(self, run: Callable[[bytes], Workflow]) -> Workflow:
        """The workflow that the script makes.

        Raises:
            MlflowException: With what is wrong with the script, or the error that it raised.
        """
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

    def name_of(self, held: Holding) -> str:
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


def refused(workflow: object, reason: str, *ways_out: str) -> MlflowException:
    """The error for a class or an instance that no script can be true to, and what else may be done about it."""
    name = workflow.__name__ if isinstance(workflow, type) else type(workflow).__name__
    others = f" Or {', or '.join(ways_out)}." if ways_out else ""
    error = invalid(
        f"workflows are logged from code, and the source of this {name} cannot be written to a script ({reason}): pass "
        f"the path of a .py file that ends with mlflow.models.set_model(<workflow>).{others}"
    )
    vars(error)[REASON] = reason
    return error


def reason_of(error: MlflowException) -> str:
    """Why there can be no script, without what else may be done."""
    return str(vars(error).get(REASON, error.message))


def needed_arguments(cls: type[Workflow]) -> list[str]:
    """What the class cannot be called without."""
    return [n for n, p in inspect.signature(cls).parameters.items() if p.default is p.empty and p.kind not in (2, 4)]
