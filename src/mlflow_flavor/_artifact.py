"""A model's own facts on disk, next to its script: none of them says anything about the machine of its author."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from mlflow_flavor._compat import invalid
from mlflow_flavor._model_code import ModelCode
from mlflow_flavor._people import add_waits, people_events
from workflows import Workflow
from workflows.drawing import draw_all_possible_flows_mermaid
from workflows.events import Event
from workflows.instrumentation.redaction import is_secret_key, mask_secrets
from workflows.representation import (
    WorkflowGraph,
    WorkflowResourceConfigNode,
    WorkflowResourceNode,
    get_workflow_representation,
)

__all__ = [
    "FACTS_DIR",
    "SCRIPT_NAME",
    "asks_people",
    "check_config",
    "copy_source",
    "helper_paths",
    "human_events",
    "script_path",
    "write_facts",
]

SCRIPT_NAME = "workflow.py"
CODE_DIR = "code"
FACTS_DIR = "workflows"


def script_path(workflow: object) -> Path:
    """The model script that `workflow` names.

    Raises:
        MlflowException: If there is no such file.
    """
    path = Path(workflow)  # pyright: ignore[reportArgumentType]  # a str or os.PathLike, as the caller checked
    if path.is_file() and path.suffix == ".py":
        return path
    message = f"model script '{path}' not found."
    if path.with_suffix(".py").is_file():
        message += f" Did you mean '{path.with_suffix('.py')}'?"
    elif path.is_file():
        message = f"model script '{path}' is no Python file: pass the path of a .py file."
    raise invalid(message)


def copy_source(script: bytes, code_paths: Iterable[str | Path] | None, target: Path) -> Path | None:
    """Write the script, and copy its helpers below `code/`; gives the helpers' directory, if there are any.

    Raises:
        MlflowException: If a path of `code_paths` does not exist, or two bring the same name.
    """
    (target / SCRIPT_NAME).write_bytes(script)
    if not (paths := helper_paths(code_paths)):
        return None
    code = target / CODE_DIR
    code.mkdir()
    for path in paths:
        copied = code / path.resolve().name
        if copied.exists():
            raise invalid(f"code_paths has two entries called '{copied.name}': rename one of them.")
        if path.is_dir():
            shutil.copytree(path, copied, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        elif path.is_file():
            shutil.copyfile(path, copied)
        else:
            raise invalid(f"code_paths: '{path}' does not exist.")
    return code


def helper_paths(code_paths: Iterable[str | Path] | None) -> list[Path]:
    """What `code_paths` names.

    Raises:
        MlflowException: If it is a path, where a list of them is needed.
    """
    if isinstance(code_paths, str | Path):
        raise invalid(f"code_paths needs a list of paths, got '{code_paths}': pass [{str(code_paths)!r}].")
    return [Path(path) for path in code_paths or ()]


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that holds a secret: it would be stored in plain text.

    Raises:
        MlflowException: With the key, never the value.
    """
    for key, value in _leaves(config, ""):
        looks_secret = is_secret_key(key) and not key.lower().endswith(("_env", "_name", "_file", "_path"))
        if isinstance(value, str) and value and (looks_secret or mask_secrets(value) != value):
            raise invalid(
                f"model_config['{key}'] looks like a secret, and MLmodel would hold it in plain text: "
                "read it from the environment in the script."
            )


def _leaves(value: object, path: str) -> Iterable[tuple[str, object]]:
    match value:
        case dict():
            for key, item in cast("dict[object, object]", value).items():
                yield from _leaves(item, f"{path}.{key}" if path else str(key))
        case list() | tuple():
            for item in cast("Iterable[object]", value):
                yield from _leaves(item, path)
        case _:
            yield path, value


def write_facts(workflow: Workflow, target: Path) -> None:
    """Write the graph, and the JSON schemas of the events that cross the model's border: in, out, people."""
    directory = target / FACTS_DIR
    directory.mkdir(exist_ok=True)
    schemas = {cls.__name__: _schema(cls) for cls in _border_events(workflow)}
    (directory / "events.schema.json").write_text(json.dumps(schemas, indent=2, sort_keys=True) + "\n")
    graph = _without_machine(get_workflow_representation(workflow))
    add_waits(graph, workflow)
    (directory / "graph.json").write_text(graph.model_dump_json(indent=2, exclude_none=True) + "\n")
    draw_all_possible_flows_mermaid(graph, str(directory / "graph.mmd"))


def _without_machine(graph: WorkflowGraph) -> WorkflowGraph:
    """The graph without what it says about its author's files: where a factory is, what a configuration holds."""
    for node in graph.nodes:
        if isinstance(node, WorkflowResourceNode):
            node.source_file = node.source_line = None
        elif isinstance(node, WorkflowResourceConfigNode):
            node.config_file = Path(node.config_file).name if node.config_file else None
            node.config_value = None
    return graph


def human_events(workflow: Workflow) -> list[str]:
    """Names of the event classes that ask a person, or bring a person's answer."""
    return list(dict.fromkeys(cls.__name__ for cls in people_events(workflow)))


def asks_people(workflow: Workflow, code: ModelCode) -> bool:
    """Whether runs may stop for an answer from outside: by their events, or by a wait in the model's own source.

    A step that takes a `Context` may give it to a function of another package, which waits with it.
    """
    steps = workflow.__definition__.spec.steps.values()
    if human_events(workflow) or any(step.context_parameter for step in steps):
        return True
    scripts = [code.script, *(code.code.rglob("*.py") if code.code is not None else ())]
    return any(b"wait_for_event" in script.read_bytes() for script in scripts)


def _border_events(workflow: Workflow) -> list[type[Event]]:
    return list(dict.fromkeys([workflow.start_event_class, workflow.stop_event_class, *people_events(workflow)]))


def _schema(cls: type[Event]) -> dict[str, Any]:
    try:
        return cls.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError) as error:
        return {"title": cls.__name__, "type": "object", "description": f"No JSON schema: {str(error).splitlines()[0]}"}
