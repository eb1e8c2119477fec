"""`save_model`, `log_model`, `load_model`: a workflow as an MLflow model, stored as the script that makes it."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import yaml
from mlflow.models import Model
from mlflow.models.model import ModelInfo
from mlflow.tracing import context as tracing_context

from mlflow_flavor._artifact import (
    SCRIPT_NAME,
    asks_people,
    check_config,
    copy_source,
    helper_paths,
    human_events,
    write_facts,
)
from mlflow_flavor._compat import FLAVOR_NAME, autologging_is_decided, invalid
from mlflow_flavor._compat_models import (
    HAS_DATA_TYPES,
    add_pyfunc_flavor,
    download,
    in_serving_process,
    read_model,
    save_example,
)
from mlflow_flavor._compat_models import log_model as log_saved_model
from mlflow_flavor._completing import workflow_of
from mlflow_flavor._environment import (
    CONDA_FILE,
    PYTHON_FILE,
    PipRequirements,
    check_requirements,
    package_version,
    warn_of_local_modules,
    write_environment,
)
from mlflow_flavor._loading import StoredModel
from mlflow_flavor._model_code import DIGEST_CHARS, MODULE_PREFIX, ModelCode, refuse_in_script
from mlflow_flavor._prompts import pinned_prompts, write_prompts
from mlflow_flavor._source import model_source
from mlflow_flavor.autolog import autolog as start_autolog
from mlflow_flavor.pyfunc import WorkflowPyfunc
from mlflow_flavor.token_store import store_of_environment
from workflows import Workflow

if TYPE_CHECKING:  # not in mlflow-skinny
    from mlflow.models import ModelSignature

__all__ = ["load_model", "log_model", "save_model"]

AWAIT_REGISTRATION_SECONDS = 300

PASSED_BY_MLFLOW = frozenset({"validate_serving_input", "serialization_format", "uv_project_path"})

Source = str | os.PathLike[str]
Signature = Union["ModelSignature", Literal[False], None]

logger = logging.getLogger("workflows.mlflow")


def save_model(
    workflow: Source | type[Workflow] | Workflow,
    path: str | os.PathLike[str],
    *,
    model_config: Mapping[str, Any] | Source | None = None,
    code_paths: Sequence[str | Path] | None = None,
    mlflow_model: Model | None = None,
    signature: Signature = None,
    input_example: Any = None,
    run_input_example: bool = True,
    pip_requirements: PipRequirements = None,
    extra_pip_requirements: PipRequirements = None,
    conda_env: Any = None,
    metadata: dict[str, Any] | None = None,
    autolog: bool = True,
    **unused: Any,
) -> None:
    """Save a workflow as an MLflow model in a local directory.

    Args:
        workflow: Path of the script that makes the workflow and ends with `mlflow.models.set_model(<workflow>)`; or a
            class or an instance, whose source is written to such a script (in a notebook: the cells marked
            `# [USE IN MODEL]`).
        path: The directory to make; it must be empty, or not exist.
        model_config: Settings that the script reads with `mlflow_flavor.config()`, or the path of a YAML file.
        code_paths: Files and directories that the script imports.
        mlflow_model: Where MLflow keeps what it knows of the model; made if left out.
        signature: Inputs and outputs; found out if left out; False for none.
        input_example: Fields of a start event, or a pair of those and parameters.
        run_input_example: Run the workflow once on the example, to learn the output's type.
        pip_requirements: Every requirement; by default the distributions that the model's import statements name, in
            the versions that are installed. Only one of this and the next two can be given.
        extra_pip_requirements: Requirements beside the inferred ones.
        conda_env: A conda environment: a dict, or the path of a YAML file.
        metadata: Anything to keep with the model.
        autolog: Trace the model's runs where it is served.
        unused: What MLflow passes to every flavor and a workflow has no use for.

    Raises:
        TypeError: For a keyword that is neither.
        MlflowException: If the workflow cannot be stored, the script sets none, no script can be true to the class or
            instance, with the reason, or the requirements are given twice. `path` is then left as it was.
    """
    if unknown := sorted(unused.keys() - PASSED_BY_MLFLOW):
        raise TypeError(f"save_model() got an unexpected keyword argument '{unknown[0]}'")
    refuse_in_script()
    source = model_source(workflow, helper_paths(code_paths))
    config = _read_config(model_config)
    check_config(config)
    _check_signature(signature)
    check_requirements(conda_env, pip_requirements, extra_pip_requirements)
    with _new_directory(path) as target:
        code = ModelCode(target / SCRIPT_NAME, copy_source(source.text, code_paths, target), label=source.label)
        model = mlflow_model if mlflow_model is not None else Model()
        if metadata is not None:
            model.metadata = metadata

        is_compared = source.original is not None
        settings = {} if is_compared else config  # without those of the model, as the author has run it

        def run(script: bytes) -> Workflow:
            code.script.write_bytes(script)
            return code.run(settings)

        with tracing_context(enabled=False):
            built = workflow_of(source, run)
            if is_compared and config:
                built = code.run(config)
            asks = asks_people(built, code)
            _describe_inputs(model, built, target, asks, signature, input_example, run_input_example)
        warn_of_local_modules(code)
        write_facts(built, target)
        write_prompts(built, code, config, target)
        _add_flavors(model, built, code, config, autolog)
        _write_mlmodel(model, target)
        write_environment(target, code, conda_env, pip_requirements, extra_pip_requirements)


def log_model(
    workflow: Source | type[Workflow] | Workflow,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    model_config: Mapping[str, Any] | Source | None = None,
    registered_model_name: str | None = None,
    await_registration_for: int = AWAIT_REGISTRATION_SECONDS,
    prompts: list[Any] | None = None,
    params: dict[str, Any] | None = None,
    tags: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    model_type: str | None = "agent",
    step: int = 0,
    model_id: str | None = None,
    resources: Any = None,
    auth_policy: Any = None,
    run_id: str | None = None,
    **saving: Any,
) -> ModelInfo:
    """Save a workflow and log it to MLflow; no model appears there if saving fails.

    Args:
        workflow: As in `save_model`, which takes what else is given.
        name: The model's name.
        artifact_path: The older name of `name`.
        model_config: As in `save_model`; also logged as parameters of the MLflow run.
        registered_model_name: Also register it as the next version of this model.
        await_registration_for: Seconds to wait for the registration.
        prompts: Prompts of the registry that the model uses; by default those that it names or has loaded.
        params: Parameters of the logged model.
        tags: Tags of the logged model.
        metadata: Anything to keep with the model.
        model_type: The logged model's type.
        step: The step of the MLflow run.
        model_id: A logged model to fill, instead of a new one.
        resources: What the model needs, for servers that grant access.
        auth_policy: How it gets access; not together with `resources`.
        run_id: The MLflow run; the active one if left out.

    Returns:
        What MLflow says about the logged model; `model_uri` loads it.

    Raises:
        MlflowException: As `save_model`; or if `resources` and `auth_policy`, or `name` and `artifact_path`, are both
            given.
    """
    if artifact_path is not None:
        if name is not None:
            raise invalid("log_model() takes artifact_path, the older name of name, or name, not both.")
        warnings.warn("log_model(artifact_path=) is MLflow's older name; use name=.", FutureWarning, stacklevel=2)
    if resources is not None and auth_policy is not None:
        raise invalid("log_model() takes resources or auth_policy, not both.")
    config = _read_config(model_config)
    with tempfile.TemporaryDirectory() as directory:
        saved = SavedModel(Path(directory) / "model")
        save_model(workflow, saved.directory, model_config=config, metadata=metadata, **saving)
        if prompts is None:
            prompts = [version for version in pinned_prompts(saved.directory).values() if version] or None
        return log_saved_model(
            artifact_path=None,
            flavor=saved,
            flavor_name=FLAVOR_NAME,
            name=name or artifact_path,
            model_config=config or None,
            registered_model_name=registered_model_name,
            await_registration_for=await_registration_for,
            metadata=metadata,
            prompts=prompts,
            params=params,
            tags=tags,
            model_type=model_type,
            step=step,
            model_id=model_id,
            resources=resources,
            auth_policy=auth_policy,
            run_id=run_id,
            validate_serving_input=False,  # MLflow would run the example again
        )


def load_model(
    model_uri: str, dst_path: str | None = None, *, model_config: Mapping[str, Any] | None = None
) -> Workflow:
    """Load a logged workflow: its script is run, which makes a new instance each time.

    Traces of its runs name this model (`__mlflow_model_id__`), however many models the process has loaded; MLflow's
    process-wide active model is only set where there is none.

    Args:
        model_uri: Any URI of a model: `models:/m-...`, `models:/name/3`, `runs:/...`, a path.
        dst_path: Where to download it to.
        model_config: Changes to the logged configuration; other keys are ignored with a warning.

    Raises:
        MlflowException: If it is no workflow, or running its code fails or is forbidden.
    """
    stored = StoredModel.read(download(model_uri, dst_path))
    return stored.load(stored.overridden(model_config))


def load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> WorkflowPyfunc:
    """What `mlflow.pyfunc.load_model` calls; it has merged `model_config` with the logged one."""
    stored = StoredModel.read(path)
    workflow = stored.load(model_config)
    if in_serving_process() and stored.facts.get("autolog", True) and _may_autolog() and not autologging_is_decided():
        start_autolog()
    from mlflow_flavor.signature import input_names  # not in mlflow-skinny

    names = input_names(stored.meta.signature)
    return WorkflowPyfunc(workflow, names, stored.code.sha256, store_of_environment())


def _may_autolog() -> bool:
    return os.environ.get("WORKFLOWS_MLFLOW_AUTOLOG", "true").strip().lower() not in ("false", "0")


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A saved model in the place of a flavor: `Model.log` asks it to save, and gets a copy."""

    directory: Path

    def save_model(self, path: str, mlflow_model: Model, **_: Any) -> None:
        """Copy the saved model to `path`, and take over what MLflow has decided about it since."""
        shutil.copytree(self.directory, path, dirs_exist_ok=True)
        saved: Model = read_model(str(self.directory))
        mlflow_model.flavors = saved.flavors
        mlflow_model.signature = saved.signature
        mlflow_model.saved_input_example_info = saved.saved_input_example_info  # pyright: ignore[reportAttributeAccessIssue]  # None is what a new model has
        _write_mlmodel(mlflow_model, Path(path))


def _read_config(config: Mapping[str, Any] | Source | None) -> dict[str, Any]:
    if isinstance(config, str | os.PathLike):
        path = Path(config)
        if not path.is_file():
            raise invalid(f"model_config '{config}' is no file. Pass a dict, or the path of a YAML file.")
        config = yaml.safe_load(path.read_text())
        if not isinstance(config, Mapping):
            raise invalid(f"model_config '{path}' holds no mapping of names to values.")
    if config is not None and not isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers are not all typed
        raise invalid(f"model_config needs a dict, or the path of a YAML file, got {type(config).__name__}.")
    found = dict(config or {})
    try:
        yaml.safe_dump(found)
    except yaml.YAMLError as error:
        raise invalid(f"model_config holds what YAML cannot, and MLmodel is YAML: {error}") from error
    return found


def _check_signature(signature: object) -> None:
    if signature not in (None, False) and not hasattr(signature, "to_dict"):
        raise invalid(f"signature needs a ModelSignature, or False for none, got {type(signature).__name__}.")


@contextmanager
def _new_directory(path: str | os.PathLike[str]) -> Generator[Path]:
    """An empty directory; where saving fails it is left as it was, so that the next try finds it so."""
    target = Path(path).absolute()
    existed = target.exists()
    if existed and any(target.iterdir()):
        raise invalid(f"Path '{path}' is not empty. Save the model into a new directory.")
    target.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        if existed:
            undo.callback(target.mkdir)
        undo.callback(shutil.rmtree, target)
        yield target
        undo.pop_all()


def _describe_inputs(
    model: Model, workflow: Workflow, target: Path, asks: bool, signature: Signature, example: Any, run_example: bool
) -> None:
    data, params, output = None, None, None
    if example is not None:
        data, params = save_example(model, example, str(target))
        if run_example and signature is None:
            output = _run_example(workflow, data, params)
    if signature is None:
        model.signature = _signature(workflow, data, output, asks)
    elif signature is not False:
        model.signature = signature


def _signature(workflow: Workflow, data: object, output: object, asks: bool) -> ModelSignature | None:
    if not HAS_DATA_TYPES:
        logger.warning("logged without signature, which needs numpy and pandas: mlflow-skinny brings neither")
        return None
    from mlflow_flavor.signature import signature_of

    return signature_of(workflow, data, output, resumable=asks)


def _run_example(workflow: Workflow, data: Any, params: dict[str, Any] | None) -> Any:
    names = list(data) if isinstance(data, Mapping) else []
    try:
        output = WorkflowPyfunc(workflow, names).predict(data, params)
    except Exception as error:  # noqa: BLE001  # whatever the user's steps raise: the model itself is fine
        logger.warning("the input example failed (%s: %s); logged without output schema.", type(error).__name__, error)
        return None
    if isinstance(output, dict) and output.get("status") == "input_required":
        asked = ", ".join(str((wait["event"] or {}).get("type")) for wait in output["waiting"])
        logger.warning("the input example stopped for human input (%s); logged without output schema.", asked)
        return None
    return output


def _add_flavors(model: Model, workflow: Workflow, code: ModelCode, config: dict[str, Any], autolog: bool) -> None:
    helpers = code.code.name if code.code is not None else None
    digest = code.sha256
    add_pyfunc_flavor(
        model,
        loader_module="mlflow_flavor",
        code=helpers,
        conda_env=CONDA_FILE,
        python_env=PYTHON_FILE,
        model_config=config or None,
        model_code_path=SCRIPT_NAME,
        streamable=True,
    )
    model.add_flavor(
        FLAVOR_NAME,
        workflows_version=package_version(),
        model_code=SCRIPT_NAME,
        source_sha256=digest,
        module=MODULE_PREFIX + digest[:DIGEST_CHARS],
        workflow_class=type(workflow).__name__,
        start_event=workflow.start_event_class.__name__,
        stop_event=workflow.stop_event_class.__name__,
        human_events=human_events(workflow),
        autolog=autolog,
        code=helpers,
    )


def _write_mlmodel(model: Model, target: Path) -> None:
    model.model_size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    place = model.artifact_path
    if place is not None and ("://" not in place or place.startswith("file:")):
        model.artifact_path = None  # a path of this machine, which nobody else can use: the model's id finds it
    try:
        model.save(str(target / "MLmodel"))
    finally:
        model.artifact_path = place
