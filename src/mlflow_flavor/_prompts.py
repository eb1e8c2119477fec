"""Prompts of MLflow's registry that a model names by URI: which versions they were is kept with the model."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_flavor._artifact import FACTS_DIR
from mlflow_flavor._model_code import ModelCode, prompts_of
from mlflow_flavor._model_imports import PROMPT_SCHEME as SCHEME
from mlflow_flavor._model_imports import prompt_uri
from workflows import Workflow

__all__ = ["loaded_prompts", "pinned_prompts", "prompt_uris", "prompts_now", "write_prompts"]

PROMPTS_FILE = "prompts.json"

logger = logging.getLogger("workflows.mlflow")


def prompt_uris(code: ModelCode, config: Mapping[str, Any], loaded: Iterable[str] = ()) -> list[str]:
    """URIs of the prompts of a model, sorted.

    They are the `prompts:/...` texts in its script, helpers and configuration, and what calls of `load_prompt` name
    there by constants.

    Args:
        code: The script and helpers.
        config: The configuration.
        loaded: What the script loaded when it was run.
    """
    texts = {text for tree in code.trees() for text in (*_texts(tree), *_named_in_calls(tree))}
    return sorted(text for text in {*texts, *_leaves(config), *loaded} if text.startswith(SCHEME) and text != SCHEME)


def prompts_now(uris: Iterable[str]) -> dict[str, str | None]:
    """By URI the version that it names now, as `prompts:/<name>/<version>`; None where there is none."""
    return {uri: _version_of(uri) for uri in uris}


def write_prompts(workflow: Workflow, code: ModelCode, config: Mapping[str, Any], target: Path) -> None:
    """Keep with a model which prompts it names or has loaded, if there are any."""
    found = prompts_now(prompt_uris(code, config, prompts_of(workflow)))
    if missing := [uri for uri, version in found.items() if version is None]:
        logger.warning("the model names prompts that MLflow's registry does not have: %s", ", ".join(missing))
    if found:
        (target / FACTS_DIR / PROMPTS_FILE).write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


def pinned_prompts(directory: Path) -> dict[str, str | None]:
    """What `write_prompts` kept with the model in `directory`."""
    file = directory / FACTS_DIR / PROMPTS_FILE
    return json.loads(file.read_text()) if file.is_file() else {}


def loaded_prompts(linked: Iterable[str], uris: Collection[str]) -> dict[str, str]:
    """By URI the version that a run has loaded, as `prompts:/<name>/<version>`, where that is plain.

    Args:
        linked: What MLflow has noted with its traces: JSON, a list of names and versions.
        uris: What the model calls its prompts: by a version, or by an alias.
    """
    versions = {f"{SCHEME}{each['name']}/{each['version']}" for text in linked for each in json.loads(text)}
    by_alias = [uri for uri in uris if not uri.rpartition("/")[2].isdecimal()]
    fixed = set(uris).difference(by_alias)
    found: dict[str, str] = {}
    for uri in by_alias:
        of_name = {version for version in versions if version.startswith(f"{SCHEME}{_name_of(uri)}/")}
        others = of_name - fixed or of_name
        if len(others) == 1:
            found[uri] = next(iter(others))
    return found


def _name_of(uri: str) -> str:
    """The prompt that a URI names, without a version or an alias."""
    return re.split("[/@]", uri.removeprefix(SCHEME), maxsplit=1)[0]


def _version_of(uri: str) -> str | None:
    # Without MLflow's cache, where it has one: an alias may just have been moved.
    cached = "cache_ttl_seconds" in inspect.signature(MlflowClient.load_prompt).parameters
    fresh: dict[str, Any] = {"cache_ttl_seconds": 0} if cached else {}
    try:
        prompt = MlflowClient().load_prompt(uri, allow_missing=True, **fresh)
    except MlflowException as error:
        logger.warning("prompt %s could not be read: %s", uri, error.message)
        return None
    return None if prompt is None else f"{SCHEME}{prompt.name}/{prompt.version}"


def _texts(tree: ast.AST) -> Iterator[str]:
    """The whole texts below a node: a piece of an f-string names no prompt."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif not isinstance(node, ast.JoinedStr):
            yield from _texts(node)


def _named_in_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "load_prompt":
            given: dict[str | None, ast.expr] = dict(zip(("name_or_uri", "version"), node.args, strict=False))
            given |= {keyword.arg: keyword.value for keyword in node.keywords}
            name, version = given.get("name_or_uri"), given.get("version", ast.Constant(None))
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and isinstance(version, ast.Constant):
                yield prompt_uri(name.value, version.value)


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in cast("Mapping[object, object]", value).values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in cast("Iterable[object]", value):
            yield from _leaves(item)
