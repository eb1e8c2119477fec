"""A model's script: the file that the caller names, or one written from a class or an instance of theirs."""

from __future__ import annotations

import ast
import os
import sys
import tokenize
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_flavor._artifact import script_path
from mlflow_flavor._cells import notebook_cells
from mlflow_flavor._circles import leads_back
from mlflow_flavor._compat import invalid
from mlflow_flavor._effects import Acts, EffectImport, acts_elsewhere, imports_for_effect, warn_of_imports_left_out
from mlflow_flavor._fidelity import Sources
from mlflow_flavor._homes import calling_module, places_of_workflow, running_line
from mlflow_flavor._origins import as_user_writes_it
from mlflow_flavor._part_names import PartNames, names_of_part, set_by_steps_alone
from mlflow_flavor._slicing import ModuleSlice, names_that_give, over, registered, slice_module
from mlflow_flavor._statements import Statement, first_name, statements_of
from mlflow_flavor._written import WRITTEN, ModelSource, needed_arguments, refused
from mlflow_flavor.notebook import MARKER, script_of_cells, sets_model
from workflows import Workflow
from workflows.instrumentation.redaction import mask_secrets

__all__ = ["model_source"]

OTHER_COMMAND_LINE = (
    "and where it is loaded there is another one; let it read its settings by mlflow_flavor.config(), and log them as "
    "model_config"
)
EFFECTS_LEFT_OUT = (
    "; of lines that only call something, it has those that give another module of yours what the agent needs there: "
    "make others, as `words.append(1)`, part of an assignment"
)


def model_source(workflow: object, helpers: Sequence[Path] = ()) -> ModelSource:
    """The script of a workflow that is given as a path, a class or an instance.

    Of a class or an instance, the script holds its statements and what they use of their module; in a notebook, the
    marked cells. An instance must be a variable of the module, or what its class makes without arguments. A module that
    needs the others of its package is imported, where the model has them all; so is one that its helpers import.

    Args:
        workflow: The path, class or instance.
        helpers: Files and directories that the model will have.

    Raises:
        MlflowException: If it is none of these, or no script can be true to it, with the reason.
    """
    if isinstance(workflow, str | os.PathLike):
        path = script_path(workflow)  # pyright: ignore[reportUnknownArgumentType]  # str, or PathLike of str
        return ModelSource(path.read_bytes(), path.name)
    cls = workflow if isinstance(workflow, type) else type(workflow)
    if not issubclass(cls, Workflow):
        raise invalid(f"log_model() needs a path, a Workflow class or a Workflow instance, got {cls.__name__}.")
    original: type[Workflow] | Workflow = workflow  # pyright: ignore[reportAssignmentType]  # one or the other, as tested
    if "<locals>" in cls.__qualname__:
        place = cls.__qualname__.partition(".")[0]
        raise refused(original, f"its class is defined inside the function {place}, whose variables a script lacks")
    defining = sys.modules.get(cls.__module__)
    if defining is None or not _is_at(defining, cls):
        raise refused(original, f"{cls.__module__} has no class {cls.__qualname__}, or another one by now")
    refusal: MlflowException | None = None
    for home, expressions in places_of_workflow(original, defining):
        try:
            return _from(home, original, expressions, helpers)
        except MlflowException as error:  # another module that has it may be told from
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    if needed := needed_arguments(cls):
        made = "log an instance" if isinstance(original, type) else "make it a variable of its module"
        raise refused(original, f"it needs the arguments {', '.join(needed)}; {made}")
    source = _from(defining, original, [f"{cls.__qualname__}()"], helpers)
    return source if isinstance(original, type) else replace(source, is_variable=False)


def _from(
    home: ModuleType, original: type[Workflow] | Workflow, expressions: Sequence[str], helpers: Sequence[Path]
) -> ModelSource:
    if home.__name__ == "__main__" and (cells := notebook_cells()) is not None:
        return _from_notebook(original, home, cells, expressions)
    return _from_module(original, home, expressions, helpers)


def _is_at(module: ModuleType, cls: type) -> bool:
    found: Any = module
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


@dataclass(frozen=True, slots=True)
class Whole:
    """A module that a script is written from.

    Attributes:
        original: The workflow.
        home: The module.
        expressions: What gives the workflow there.
        helpers: Files and directories that the model will have.
        text: Its source.
        statements: Its statements, as far as they have run.
        linked: The same, where functions add to what their decorators fill.
        for_effect: Imports that nothing there uses and the model can do: their names.
        lacking: The others of these.
        acts: What it does to modules that the model brings.
    """

    original: type[Workflow] | Workflow
    home: ModuleType
    expressions: Sequence[str]
    helpers: Sequence[Path]
    text: str
    statements: Sequence[Statement]
    linked: Sequence[Statement]
    for_effect: Set[str]
    lacking: Sequence[EffectImport]
    acts: Acts

    @property
    def file(self) -> str:
        """Its name."""
        return Path(str(self.home.__file__)).name


def _from_module(
    original: type[Workflow] | Workflow, home: ModuleType, expressions: Sequence[str], helpers: Sequence[Path]
) -> ModelSource:
    file = getattr(home, "__file__", None)
    if file is None or not Path(file).is_file() or Path(file).suffix != ".py":
        raise refused(original, f"{home.__name__} is no file")
    line = running_line(home)
    with tokenize.open(file) as opened:  # in the encoding that it says it has
        text = opened.read()
    cls = original if isinstance(original, type) else type(original)
    workflow = {cls.__name__, *(first_name(each) for each in expressions)}
    effects = imports_for_effect(text, home, helpers)
    statements = statements_of(text, line)
    acts = acts_elsewhere(statements, home, helpers, workflow, _names_of_program(home))
    linked = registered(statements, acts.touched)
    return _part_of(Whole(original, home, expressions, helpers, text, statements, linked, *effects, acts))


def _names_of_program(home: ModuleType) -> set[str]:
    """All names in the file of the module that called into this package, unless that is `home`."""
    calling = calling_module()
    file = Path(str(getattr(calling, "__file__", None)))
    if calling is home or file.suffix != ".py" or not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_bytes()))
    return {str(getattr(node, "id", getattr(node, "attr", ""))) for node in nodes}


def _part_of(whole: Whole, more: Set[str] = frozenset()) -> ModelSource:
    original, home, text, acts = whole.original, whole.home, whole.text, whole.acts
    apart = more & (acts.names.keys() | acts.calls.keys())
    given = names_that_give(whole.statements, more - apart) if more else set[str]()
    roots = whole.for_effect | apart | given
    parts = {each: slice_module(whole.linked, [first_name(each), *roots]) for each in whole.expressions}
    sound = [
        expression
        for expression, part in parts.items()
        if part.running is None and first_name(expression) in part.bound
    ]
    expression = (sound or whole.expressions)[0]
    part, root = parts[expression], first_name(expression)
    if part.running is not None:
        unfinished = f"the block in line {part.running}, which is still running: set that before it"
        raise refused(original, f"it needs what is set by {unfinished}")
    if root not in part.bound:
        raise refused(original, f"no top-level statement of {whole.file} sets {root}")
    if part.command_line is not None:
        raise refused(original, f"it reads the command line by `{part.command_line}`, {OTHER_COMMAND_LINE}")
    if part.logs is not None:
        raise refused(original, f"it needs what {part.logs} gave, and each load would call that again")
    _refuse_secrets(original, part)
    if part.relative_import is not None:
        _refuse_without_package(original, home, f"it needs `{part.relative_import}` of its own package", whole.helpers)
    is_whole = home.__name__ != "__main__" and running_line(home) is None  # when the model imports it, too
    if part.relative_import is not None or (is_whole and leads_back(part.text, home, whole.helpers)):
        made = Sources(home, _beside(expression, part), helper=home.__name__)
        return ModelSource(_script(f"from {home.__name__} import {root}", expression), WRITTEN, original, made)
    _refuse_lookup(original, part)
    if missing := _only_elsewhere(names_of_part([part.text]), [text], vars(home)):
        reason = f"it uses {missing}, which no top-level statement of {whole.file} sets; set it by an assignment"
        raise refused(original, reason)
    warn_of_imports_left_out(home, () if more else whole.lacking, part.bound)  # once
    made = Sources(home, _beside(expression, part))
    return ModelSource(
        *(_script(part.text, expression), WRITTEN, original, made, EFFECTS_LEFT_OUT),
        # Who imports the agent, to train it or to log it, adds nothing to what it is.
        more=partial(_part_of, whole) if root in part.made else None,
        brought={path.resolve().stem for path in whole.helpers},
        acts=acts.names,
        calls=acts.calls,
        named=acts.named,
    )


def _script(text: str, expression: str) -> bytes:
    return f"{text}\n\nimport mlflow_flavor\n\nmlflow_flavor.set_model({expression})\n".encode()


def _refuse_lookup(original: object, part: ModuleSlice) -> None:
    if part.lookup == "__file__":
        raise refused(original, "it reads `__file__`, which a script of its own has in another directory")
    if part.lookup is not None:
        raise refused(original, f"it finds names by `{part.lookup}`, where a script would have only some")


def _refuse_without_package(original: object, home: ModuleType, reason: str, helpers: Sequence[Path]) -> None:
    """Refuse a part of a module that needs its package, unless the model has that and can import the module whole."""
    package = _package_of(home)
    if package is None:
        raise refused(original, reason)
    argument = f"code_paths=['{as_user_writes_it(package)}']"
    if home.__name__ == "__main__" or running_line(home) is not None:
        raise refused(original, reason, f"log it in a file that imports it, with {argument}")
    if package not in (path.resolve() for path in helpers):
        raise refused(original, reason, f"pass {argument}")


def _package_of(module: ModuleType) -> Path | None:
    """The folder of the outermost package that a module is in."""
    name = module.__spec__.name if module.__spec__ is not None else module.__name__
    file = Path(str(module.__file__)).resolve()
    outer = len(name.split(".")) - (file.name != "__init__.py")  # so many folders are packages
    package = file.parents[outer - 1] if 0 < outer <= len(file.parents) else None
    return package if package is not None and package.name == name.partition(".")[0] else None


def _beside(expression: str, part: ModuleSlice) -> frozenset[str]:
    """What a script makes beside the workflow."""
    beside = part.made if "[" in expression else part.made - {first_name(expression)}
    return beside - over(part.text)


def _refuse_secrets(original: object, part: ModuleSlice) -> None:
    constants = (node for node in ast.walk(ast.parse(part.text)) if isinstance(node, ast.Constant))
    if any(isinstance(node.value, str) and mask_secrets(node.value) != node.value for node in constants):
        raise refused(original, "it holds what looks like a secret; read that from the environment")


def _from_notebook(
    original: type[Workflow] | Workflow, home: ModuleType, cells: dict[str, str], expressions: Sequence[str]
) -> ModelSource:
    marked = {cell: plain for cell, plain in cells.items() if cell.lstrip().startswith(MARKER)}
    if not marked:
        raise refused(original, f"no cell of this notebook begins with '{MARKER}'")
    names = names_of_part(marked.values())
    cls = original if isinstance(original, type) else type(original)
    if cls.__module__ == home.__name__ and cls.__qualname__.partition(".")[0] not in names.bound:
        raise refused(original, f"the cell of its class does not begin with '{MARKER}'")
    if missing := _only_elsewhere(names, cells.values(), vars(home)):
        raise refused(original, f"it uses {missing}, and no cell that begins with '{MARKER}' sets that")
    # A notebook has more names for what a cell gave: `_`, `_5`, `Out[5]`.
    named = [e for e in expressions if not e.startswith(("_", "Out["))] or expressions
    expression = next((e for e in expressions if first_name(e) in names.bound), named[0])
    if first_name(expression) not in names.bound and not sets_model(marked.values()):
        raise refused(original, f"the cell that sets {first_name(expression)} does not begin with '{MARKER}'")
    text = script_of_cells(marked, "This notebook", model=expression)
    part = slice_module(registered(statements_of(text), {}), [first_name(expression)])
    made = Sources(home, _beside(expression, part))
    return ModelSource(
        text.encode(), WRITTEN, original, made, f", or only in a cell that does not begin with '{MARKER}'"
    )


def _only_elsewhere(names: PartNames, whole: Iterable[str], variables: Mapping[str, object]) -> str | None:
    """A name that part of a module needs, and that only the rest of it has set: not a run, which sets it again."""
    modules = [sys.modules[name] for name in names.star_imports if name in sys.modules]
    given = {name for module in modules for name in vars(module)}
    missing = (names.needed & variables.keys()) - given
    return next(iter(sorted(missing - set_by_steps_alone(whole))), None) if missing else None
