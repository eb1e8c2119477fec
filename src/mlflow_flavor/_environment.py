"""The files that say what a model needs: `conda.yaml`, `python_env.yaml`, `requirements.txt`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files, packages_distributions, version
from pathlib import Path
from typing import Any

from mlflow_flavor._compat_models import environment_files
from mlflow_flavor._model_code import ModelCode

__all__ = ["CONDA_FILE", "PYTHON_FILE", "package_version", "write_environment"]

DISTRIBUTION = "spanflow"
OWN_PACKAGES = frozenset({"workflows", "workflows_otel", "mlflow_flavor"})
CONDA_FILE = "conda.yaml"
PYTHON_FILE = "python_env.yaml"

PipRequirements = list[str] | str | None


def package_version() -> str | None:
    """Our own version; None where the package runs from its sources, uninstalled."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def write_environment(
    path: Path, code: ModelCode, conda_env: Any, requirements: PipRequirements, extra: PipRequirements
) -> None:
    """Write the files into the model at `path`.

    Without any of the three, the requirements are the distributions that the model's own import statements name, in
    the versions that are installed. (MLflow's way is to load the model in another process and to look at everything
    that gets imported; that takes seconds, and pins what the user never asked for.)
    """
    inferring = conda_env is None and requirements is None
    defaults = _defaults(code) if inferring else None
    for name, content in environment_files(conda_env, requirements, extra, defaults).items():
        (path / name).write_text(content)


def _defaults(code: ModelCode) -> list[str]:
    own = f"{DISTRIBUTION}=={found}" if (found := package_version()) else DISTRIBUTION
    installed = packages_distributions()
    wanted = {name for module in code.imports() for name in _distributions(module, installed)} - {DISTRIBUTION}
    return [own, *(f"{name}=={version(name).partition('+')[0]}" for name in sorted(wanted))]


def _distributions(module: str, installed: Mapping[str, list[str]]) -> list[str]:
    """The distributions that an imported module comes from; none for Python's own and for this one's."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in OWN_PACKAGES:
        return []
    owners = list(dict.fromkeys(installed.get(top, ())))
    if len(owners) <= 1:
        return owners
    # Many distributions share one package: the one whose file it is.
    found = {name for name in owners if any(_holds(file.as_posix(), module) for file in files(name) or ())}
    return sorted(found)


def _holds(file: str, module: str) -> bool:
    """Whether a file is the module, or (for `from package import name`) the package that has the name."""
    parent, _, _ = module.rpartition(".")
    paths = [name.replace(".", "/") for name in (module, parent) if name]
    return any(file in (f"{path}.py", f"{path}/__init__.py") for path in paths)
