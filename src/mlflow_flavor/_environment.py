"""The files that say what a model needs: `conda.yaml`, `python_env.yaml`, `requirements.txt`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files, packages_distributions, version
from pathlib import Path
from typing import Any

import yaml

from mlflow_flavor._compat import invalid
from mlflow_flavor._compat_models import environment_files
from mlflow_flavor._model_code import ModelCode
from mlflow_flavor._origins import OWN_PACKAGES, as_user_writes_it, local_places

__all__ = [
    "CONDA_FILE",
    "PYTHON_FILE",
    "check_requirements",
    "package_version",
    "warn_of_local_modules",
    "write_environment",
]

DISTRIBUTION = "spanflow"
CONDA_FILE = "conda.yaml"
PYTHON_FILE = "python_env.yaml"

logger = logging.getLogger("workflows.mlflow")

PipRequirements = list[str] | str | None


def package_version() -> str | None:
    """Our own version; None where the package runs from its sources, uninstalled."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def check_requirements(conda_env: Any, requirements: PipRequirements, extra: PipRequirements) -> None:
    """Refuse what MLflow's own flavors refuse: requirements that are given in two ways, of which one would be lost.

    Raises:
        MlflowException: If more than one is given, or the conda environment has no dependencies.
    """
    if sum(given is not None for given in (conda_env, requirements, extra)) > 1:
        raise invalid("Only one of conda_env, pip_requirements and extra_pip_requirements can be specified.")
    found: Any = conda_env
    if isinstance(conda_env, str | os.PathLike):
        found = yaml.safe_load(Path(os.fspath(conda_env)).read_text())
    if found is not None and not (isinstance(found, Mapping) and "dependencies" in found):
        raise invalid(
            "conda_env has no 'dependencies': pass a dict as conda's YAML files hold it, or such a file's path."
        )


def warn_of_local_modules(code: ModelCode) -> None:
    """Say which modules the model imports that only lie here: it cannot be loaded where they are missing."""
    tops = {module.partition(".")[0] for module in code.imports()}
    for name, place in local_places(tops).items():
        logger.warning(
            "%s imports '%s', a local file of no distribution: the model cannot be loaded where that is missing. "
            "Pass code_paths=['%s'].",
            code.label,
            name,
            as_user_writes_it(place),
        )


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
