"""From a model's directory to a workflow that runs: for `load_model` and for `pyfunc`."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.models import Model

from mlflow_flavor._compat import FLAVOR_NAME, invalid
from mlflow_flavor._compat_models import make_active_if_none, read_model
from mlflow_flavor._environment import package_version
from mlflow_flavor._facts import CONFIG_METADATA, PROMPTS_METADATA
from mlflow_flavor._model_code import ModelCode, prompts_of
from mlflow_flavor._serializer import model_serializer
from mlflow_flavor.autolog import mark_model
from workflows import Workflow

__all__ = ["StoredModel", "config_digest"]

CHANGED = (
    "%s of model %s was changed after it was logged (source_sha256 %.12s then, %.12s now): what runs is not what was "
    "logged. Log it again, or restore the file"
)

logger = logging.getLogger("workflows.mlflow")


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as it lies on disk."""

    directory: Path
    meta: Model

    @classmethod
    def read(cls, directory: str | Path) -> StoredModel:
        """Read the model in `directory`.

        Raises:
            MlflowException: If it is no workflow, or was made by a newer major version.
        """
        stored = cls(Path(directory), read_model(str(directory)))
        if FLAVOR_NAME not in stored.meta.flavors:
            kinds = ", ".join(sorted(stored.meta.flavors)) or "nothing"
            raise invalid(f"This model is no workflow: it has the flavors {kinds}, not '{FLAVOR_NAME}'.")
        _check_version(stored.facts.get("workflows_version"))
        return stored

    @property
    def facts(self) -> Mapping[str, Any]:
        """What our flavor wrote into `MLmodel`; keys may be missing in models of other versions."""
        return self.meta.flavors[FLAVOR_NAME]

    @property
    def code(self) -> ModelCode:
        """The model's script."""
        helpers = self.facts.get("code")
        script = str(self.facts.get("model_code", "workflow.py"))
        return ModelCode(self.directory / script, self.directory / helpers if helpers else None, label=script)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the model was logged with."""
        return dict(self.meta.flavors.get("python_function", {}).get("config") or {})

    def load(self, config: Mapping[str, Any] | None) -> Workflow:
        """Run the script with `config` (default: the logged one); runs of the result are told as this model's."""
        used = self.config if config is None else config
        code = self.code
        if (pinned := self.facts.get("source_sha256")) is not None and pinned != code.sha256:
            logger.warning(CHANGED, code.label, self.meta.model_id or self.directory.name, pinned, code.sha256)
        workflow = code.run(used)
        # Its snapshots name the module of the load that wrote them, which may be another process's, or another number.
        workflow.serializer = model_serializer(workflow)  # pyright: ignore[reportPrivateUsage]  # there is no public setter
        if self.meta.model_id is not None:
            loaded = {CONFIG_METADATA: config_digest(used)}
            if prompts := {uri: version for uri, version in prompts_of(workflow).items() if version is not None}:
                loaded[PROMPTS_METADATA] = json.dumps(prompts)
            mark_model(workflow, self.meta.model_id, loaded)
            make_active_if_none(self.meta.model_id)
        return workflow

    def overridden(self, changes: Mapping[str, Any] | None) -> dict[str, Any]:
        """The logged configuration with `changes`; keys that were not logged are ignored with a warning."""
        logged = self.config
        unknown = sorted(set(changes or {}) - set(logged))
        if unknown:
            logger.warning(
                "model_config keys %s were not logged with this model and are ignored; it has: %s",
                ", ".join(unknown),
                ", ".join(sorted(logged)) or "none",
            )
        return {**logged, **{key: value for key, value in (changes or {}).items() if key in logged}}


def config_digest(config: Mapping[str, Any]) -> str:
    """What two runs of a model have in common if their configuration was the same; it tells no value."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_version(made_by: object) -> None:
    own = package_version()
    if own is None or not isinstance(made_by, str) or not made_by.partition(".")[0].isdigit():
        return
    if int(made_by.partition(".")[0]) > int(own.partition(".")[0]):
        raise invalid(f"This model was logged with spanflow {made_by}; {own} is installed. Install {made_by} or newer.")
