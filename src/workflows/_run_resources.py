"""The resources of one run, and the check of a workflow's resources before its first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from workflows._resource_needs import check_needs
from workflows._resource_store import ResourceStore
from workflows._spec import StepSpec
from workflows.errors import ResourceError, WorkflowRuntimeError
from workflows.resource import ResourceConfig, ResourceManager

__all__ = ["RunResources", "check_resources"]


class RunResources:
    """Fills the resource parameters of a run's steps, and leaves what was entered when the run is over."""

    def __init__(self, manager: ResourceManager) -> None:
        self._manager = manager
        self._store = ResourceStore()
        self._checked: set[str] = set()

    async def resolve(self, step: StepSpec) -> dict[str, Any]:
        """The resource arguments of one attempt of a step.

        Raises:
            ResourceError: If a resource needs itself.
            Exception: What a factory raises.
        """
        if step.name not in self._checked:  # a workflow may run unvalidated, and a circle would wait for itself
            for parameter in step.resources:
                check_needs(parameter.resource)
            self._checked.add(step.name)
        resolution = self._manager.resolution(self._store)
        return {p.name: await resolution.get(p.resource, p.type_annotation) for p in step.resources}

    async def aclose(self) -> None:
        """Leave every context manager of this run, the last one first."""
        await self._store.aclose()


def check_resources(steps: Iterable[StepSpec], manager: ResourceManager, *, configs: bool, make: bool) -> None:
    """Check the resources of these steps, all errors at once.

    Args:
        steps: The steps of a workflow.
        manager: Has the values that were given instead of what factories make.
        configs: Also read every configuration file.
        make: Also make every resource, and let go of it at once.

    Raises:
        ResourceError: With what is wrong, a line for each parameter.
        WorkflowRuntimeError: If `make` is asked for where an event loop runs.
    """
    using = [step for step in steps if step.resources]
    wrong: list[str] = []
    for step in using:
        for parameter in step.resources:
            try:
                check_needs(parameter.resource)
                if configs:
                    _read_configs(parameter.resource, parameter.type_annotation)
            except (ResourceError, ValidationError, OSError) as error:
                text = getattr(error, "strerror", None) or error
                wrong.append(f"In step '{step.name}', parameter '{parameter.name}': {text}")
    if make and not wrong:
        wrong = _failures(using, manager)
    if wrong:
        raise ResourceError("Resource validation failed:\n" + "\n".join(f"  - {line}" for line in wrong))


def _read_configs(resource: Any, type_annotation: Any) -> None:
    if isinstance(resource, ResourceConfig):
        resource.read(type_annotation)
    for _, needed, annotation in resource.get_dependencies():
        _read_configs(needed, annotation)


def _failures(steps: list[StepSpec], manager: ResourceManager) -> list[str]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_try_all(steps, manager))
    raise WorkflowRuntimeError(
        "validate(validate_resources=True) makes every resource on an event loop of its own, which cannot be done "
        "where one runs. Call it before the loop starts."
    )


async def _try_all(steps: list[StepSpec], manager: ResourceManager) -> list[str]:
    trial = manager.without_cached()
    resources = RunResources(trial)
    wrong: list[str] = []
    try:
        for step in steps:
            try:
                await resources.resolve(step)
            except Exception as error:  # noqa: BLE001  # a factory is the user's code
                wrong.append(f"In step '{step.name}': {type(error).__name__}: {error}")
    finally:
        await resources.aclose()
        await trial.aclose()
    return wrong
