"""The files that say what a model needs: `conda.yaml`, `python_env.yaml`, `requirements.txt`."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlflow.models import infer_pip_requirements

from mlflow_flavor._compat import FLAVOR_NAME, environment_files

__all__ = ["CONDA_FILE", "PYTHON_FILE", "package_version", "write_environment"]

DISTRIBUTION = "spanflow"
CONDA_FILE = "conda.yaml"
PYTHON_FILE = "python_env.yaml"

PipRequirements = list[str] | str | None


def package_version() -> str | None:
    """Our own version; None where the package runs from its sources, uninstalled."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def write_environment(path: Path, conda_env: Any, requirements: PipRequirements, extra: PipRequirements) -> None:
    """Write the files into the model at `path`, whose `MLmodel` must be there already.

    Without any of the three, requirements are inferred: MLflow loads the model in a process of its own and looks at
    what that imports.
    """
    inferring = conda_env is None and requirements is None
    defaults = _defaults(path) if inferring else None
    for name, content in environment_files(conda_env, requirements, extra, defaults).items():
        (path / name).write_text(content)


def _defaults(path: Path) -> list[str]:
    own = [f"{DISTRIBUTION}=={found}" if (found := package_version()) else DISTRIBUTION]
    # MLflow imports the loader module before it begins to watch imports, so that ours is never found.
    inferred = infer_pip_requirements(str(path), FLAVOR_NAME, fallback=own)
    return sorted({*own, *(r for r in inferred if r.partition("==")[0] != DISTRIBUTION)})
