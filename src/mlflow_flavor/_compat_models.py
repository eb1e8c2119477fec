"""What `_compat` is for tracing, for models: private names of MLflow, and what mlflow-skinny does without.

mlflow-skinny brings neither numpy nor pandas, without which MLflow can read and write models, but no signatures.
"""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# Private names are what this file is for, and most of MLflow has no types.
import os
import platform
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from mlflow import environment_variables

from mlflow_flavor._compat import invalid

__all__ = [
    "HAS_DATA_TYPES",
    "add_pyfunc_flavor",
    "check_model_code_allowed",
    "download",
    "environment_files",
    "in_requirement_capture",
    "in_serving_process",
    "log_model",
    "make_active_if_none",
    "model_config_of_script",
    "read_model",
    "save_example",
]

HAS_DATA_TYPES = find_spec("numpy") is not None and find_spec("pandas") is not None
"""MLflow's signatures and examples need both, and `mlflow-skinny` brings neither."""


@contextmanager
def model_config_of_script(config: Mapping[str, Any]) -> Generator[None]:
    """Let `mlflow.models.ModelConfig()` read `config` in the script that runs inside the block.

    Without a config nothing is set, so that `ModelConfig(development_config=...)` keeps working in a logged script.
    """
    if not config:
        yield
        return
    if not HAS_DATA_TYPES:  # without them, `mlflow.models.ModelConfig` finds nothing; `mlflow_flavor.config` does
        yield
        return
    from mlflow.models.utils import _config_context

    with _config_context(dict(config)):
        yield


def check_model_code_allowed() -> None:
    """Raise MLflow's own error where running a model's code is forbidden.

    MLflow 3.18 has the check; before it, only the variable that it reads is honoured.
    """
    # The first needs numpy, which mlflow-skinny does not bring.
    places = ("mlflow.models.utils", "mlflow.utils.model_utils") if HAS_DATA_TYPES else ("mlflow.utils.model_utils",)
    for module in places:
        check = getattr(import_module(module), "_check_model_code_loading_allowed", None)
        if check is not None:
            check("a model from code")
            return
    if os.environ.get("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "true").strip().lower() in ("false", "0"):
        raise invalid(
            "Loading a model from code runs its script, and MLFLOW_ALLOW_MODEL_CODE_EXECUTION forbids that. "
            "Set it to true if you trust the model's author."
        )


def make_active_if_none(model_id: str) -> None:
    """Make a loaded model the process's active one, where no model is; what the user set stays."""
    from mlflow.tracking import fluent  # not in mlflow-tracing

    if fluent.get_active_model_id() is None:
        fluent._set_active_model_id(model_id)


def download(model_uri: str, target: str | None) -> str:
    """The model's directory on this machine; every kind of model URI is understood."""
    from mlflow.tracking.artifact_utils import _download_artifact_from_uri

    return _download_artifact_from_uri(artifact_uri=model_uri, output_path=target)


def add_pyfunc_flavor(model: Any, **facts: Any) -> None:
    """Say in a model how `mlflow.pyfunc` loads it; the keywords are those of `mlflow.pyfunc.add_to_model`."""
    if HAS_DATA_TYPES:
        from mlflow.pyfunc import add_to_model

        add_to_model(model, **facts)
        return
    # In mlflow-skinny `mlflow.pyfunc` cannot be imported; what it would write can be written.
    env = {"conda": facts.pop("conda_env"), "virtualenv": facts.pop("python_env")}
    facts["config"] = facts.pop("model_config")
    found = {name: value for name, value in facts.items() if value is not None}
    model.add_flavor("python_function", **found, env=env, python_version=platform.python_version())


def read_model(directory: str) -> Any:
    """The `MLmodel` file of a directory, as `mlflow.models.Model`; in mlflow-skinny without its signature."""
    from mlflow.models import Model

    if HAS_DATA_TYPES:
        return Model.load(directory)
    import yaml

    facts = yaml.safe_load((Path(directory) / "MLmodel").read_text())
    return Model(**{name: value for name, value in facts.items() if name != "signature"})


def log_model(**arguments: Any) -> Any:
    """`mlflow.models.Model.log`, also in mlflow-skinny, where it needs numpy to find no example and to show nothing."""
    from mlflow.models import Model

    if HAS_DATA_TYPES:
        return Model.log(**arguments)
    logged: list[Any] = []

    class SkinnyModel(Model):
        def get_serving_input(self, path: str) -> None:
            return None

        def get_model_info(self, logged_model: Any = None) -> Any:
            logged.append(super().get_model_info(logged_model))
            return logged[-1]

    try:
        return SkinnyModel.log(**arguments)
    except ImportError:  # from what MLflow shows in a notebook once all is done
        if not logged:
            raise
        return logged[-1]


def save_example(model: Any, example: object, path: str) -> tuple[object, dict[str, Any] | None]:
    """Store an input example with the model; gives its data and its parameters."""
    if not HAS_DATA_TYPES:
        raise invalid("An input example needs numpy and pandas, which mlflow-skinny does not bring: install both.")
    from mlflow.models.utils import _save_example

    saved: Any = _save_example(model, cast("Any", example), path)
    return saved.inference_data, saved.inference_params


def environment_files(conda_env: Any, requirements: Any, extra: Any, defaults: list[str] | None) -> dict[str, str]:
    """The files that say what a model needs, by name; the arguments are those of MLflow's own flavors."""
    import yaml  # not in mlflow-tracing
    from mlflow.utils import environment

    if conda_env is not None:
        conda, pip, constraints = environment._process_conda_env(conda_env)
    else:
        conda, pip, constraints = environment._process_pip_requirements(defaults, requirements, extra)
    files = {"conda.yaml": yaml.safe_dump(conda), "requirements.txt": "\n".join(pip)}
    python = {name: value for name, value in environment._PythonEnv.current().to_dict().items() if value}
    files["python_env.yaml"] = yaml.safe_dump(python, sort_keys=False)
    if constraints:
        files["constraints.txt"] = "\n".join(constraints)
    return files


def in_requirement_capture() -> bool:
    """Whether this is the process in which MLflow looks for a model's requirements by loading and calling it."""
    return bool(environment_variables._MLFLOW_IN_CAPTURE_MODULE_PROCESS.get())


def in_serving_process() -> bool:
    """Whether this process serves a model (`mlflow models serve` and what is built like it)."""
    return "__pyfunc_model_path__" in os.environ or bool(environment_variables._MLFLOW_IS_IN_SERVING_ENVIRONMENT.get())
