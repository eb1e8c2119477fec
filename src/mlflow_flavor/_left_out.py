"""What the log says of what a model will not hold, though the author's modules do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from mlflow_flavor._holdings import Holding
from mlflow_flavor._setters import set_by_others
from mlflow_flavor._written import ModelSource
from workflows import Workflow

__all__ = ["warn_of_line", "warn_of_missing"]

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
    "decorator do it or a line at the top of the file, outside of functions and of `if __name__ == '__main__'`; or log "
    "the path of the file, which is run as it is"
)
NOT_POSSIBLE = (
    "%s holds %s, and in the model it will not, unless a run puts it there: the source of that cannot be written to a "
    "script (%s)"
)
SET_BY_OTHERS = (
    "%s is not in the model what it is here: %s sets it when it is imported, and the model does not import that. If "
    "the agent needs it, let the agent's module import that one as a whole (`import %s`), with its file in code_paths"
)
SET_BY_PROGRAM = (
    "%s is not in the model what it is here: the program that logs the model sets it. If the agent needs it, let a "
    "module that the agent's imports set it"
)
NOT_SET = (
    "%s sets something by `%s`, and the model will not: the statements that do so cannot be written to a script (%s)"
)

logger = logging.getLogger("workflows.mlflow")


def warn_of_missing(
    source: ModelSource, workflow: Workflow, missing: Sequence[Holding], reasons: Mapping[str, str]
) -> None:
    """Say what the model will not hold: in which place, and of which module.

    Args:
        source: The model's script.
        workflow: What it made.
        missing: What the author's modules hold, and the model's copies of them did not.
        reasons: Why the script cannot have some of that, by name.
    """
    groups: dict[tuple[str, str, str], list[Holding]] = {}
    for held in missing:
        name = source.name_of(held)
        # A run may have put it there: caches hold classes, functions and objects. Told is what somebody says there.
        is_said = source.more is None or name in source.named or name in reasons or held.is_subclass
        if held.sure and (held.is_foreign or (is_said and not held.is_at_home)):
            why = _why(source, name, reasons)
            groups.setdefault((held.place, held.module, why), []).append(held)
    for (_, _, why), group in groups.items():
        more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
        _warn_of(source, group[0], f"{', '.join(held.title for held in group[:NAMED])}{more}", why)
    for name in sorted(source.acts.keys() & reasons.keys()):
        warn_of_line(source.file, name, reasons[name])
    if source.sources is not None:
        told = {held.place for held in missing}
        for place, module in set_by_others(source.sources, workflow):
            if place not in told:
                told.add(place)
                if module == "__main__":
                    logger.warning(SET_BY_PROGRAM, place)
                else:
                    logger.warning(SET_BY_OTHERS, place, module, module)


def warn_of_line(file: str, line: str, reason: str) -> None:
    """Say that a line of a file which sets something elsewhere is not in the model."""
    logger.warning(NOT_SET, file, line, reason)


def _why(source: ModelSource, name: str, reasons: Mapping[str, str]) -> str:
    """Why the script has nothing that puts something of a name there, as far as it might have."""
    calls = (each for each, call in source.calls.items() if name in call.needs)
    return next((reasons[each] for each in (name, *calls) if each in reasons), "")


def _warn_of(source: ModelSource, held: Holding, names: str, why: str) -> None:
    home = source.sources.home.__name__ if source.sources is not None else ""
    if (held.module == "__main__" and held.is_foreign) or (held.module == home and source.more is None):
        logger.warning(NOT_OF_PROGRAM, held.place, names)
    elif held.is_foreign:
        logger.warning(NOT_IMPORTED, held.place, names, held.module)
    elif why:
        logger.warning(NOT_POSSIBLE, held.place, names, why)
    else:
        logger.warning(NOT_HELD, held.place, names)
