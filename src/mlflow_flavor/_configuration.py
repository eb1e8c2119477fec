"""Where an agent's modules read the configuration of the model, which may be another one each time it is loaded."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Set
from importlib.util import resolve_name

from mlflow_flavor._model_code import code_of

__all__ = ["names_of_configuration", "reads_configuration"]

READERS = ("config", "ModelConfig")  # `mlflow_flavor.config()`, and MLflow's own
LIBRARIES = ("mlflow_flavor", "mlflow")


def reads_configuration(node: ast.AST, names: Set[str] = frozenset()) -> bool:
    """Whether something asks for it: by a call of `config()`, of `ModelConfig()`, or by one of these names."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func).rpartition(".")[2] in READERS:
            return True
        if isinstance(inner, ast.Name) and inner.id in names:
            return True
    return False


def names_of_configuration(nodes: Iterable[ast.AST], package: str, brought: Set[str]) -> set[str]:
    """Names that imports bind to what reads it, or to what is of a module that does.

    Args:
        nodes: Of a module's source.
        package: The one that the module is in.
        brought: The outermost packages that the model has with it; others are not looked into.
    """
    known: dict[str, bool] = {}
    return {name for node in nodes for name in _bound(node, package, brought, known)}


def _bound(node: ast.AST, package: str, brought: Set[str], known: dict[str, bool]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                if _is_read_in(alias.name, brought, known):
                    yield alias.asname or alias.name.partition(".")[0]
        case ast.ImportFrom(module=module, level=level, names=names) if package or not level:
            parent = resolve_name("." * level + (module or ""), package)
            of_reader = _is_read_in(parent, brought, known)
            for alias in names:
                is_reader = alias.name in READERS and parent.partition(".")[0] in LIBRARIES
                if of_reader or is_reader or _is_read_in(f"{parent}.{alias.name}", brought, known):
                    yield from (
                        vars(sys.modules.get(parent, ast)) if alias.name == "*" else (alias.asname or alias.name,)
                    )
        case _:
            pass


def _is_read_in(module: str, brought: Set[str], known: dict[str, bool]) -> bool:
    """Whether a module that the model brings asks for the configuration, or has something of one that does."""
    found = sys.modules.get(module)
    if module.partition(".")[0] not in brought or found is None:
        return False
    if module not in known:
        tree = code_of(found)
        known[module] = tree is not None and reads_configuration(tree)  # modules may import each other
        if tree is not None and not known[module]:
            package = getattr(getattr(found, "__spec__", None), "parent", None) or ""
            known[module] = any(True for node in ast.walk(tree) for _ in _bound(node, package, brought, known))
    return known[module]
