"""Workflows that are something else besides: models, with metaclasses and mixins, as llama-index's agents are."""

import copy

from pydantic import BaseModel, ConfigDict, Field
from pydantic._internal._model_construction import ModelMetaclass

from tests.compat.case import case
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.workflow import WorkflowMeta


class AgentMeta(WorkflowMeta, ModelMetaclass):
    pass


class Prompts:
    def _get_prompts(self):
        return {}


class Agent(Workflow, BaseModel, Prompts, metaclass=AgentMeta):
    """A workflow with the fields of a model."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    name: str = "agent"
    tools: list[str] = Field(default_factory=list)

    def __init__(self, name: str = "agent", timeout: float | None = None, **fields):
        BaseModel.__init__(self, name=name, **fields)
        Workflow.__init__(self, timeout=timeout)

    @step
    async def s(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[self.name, self.tools, ev.x])


class Named(Agent):
    name: str = "named"

    def __init__(self, **fields):
        super().__init__(name="named", **fields)


@case([["mine", ["t"], 1], ["named", [], 2]])
async def a_workflow_may_be_a_model():
    return await Agent(name="mine", tools=["t"]).run(x=1), await Named().run(x=2)


@case([{"name": "mine", "tools": []}, "agent", ["!ValidationError", True]])
def such_a_workflow_is_validated_and_dumped():
    try:
        Agent(tools="no list")  # type: ignore[arg-type]
    except ValueError as error:
        refused = [f"!{type(error).__name__}", True]
    else:
        refused = ["accepted", False]
    return Agent(name="mine").model_dump(), Agent().name, refused


@case([True, False, ["s"]])
def such_a_workflow_has_its_steps():
    agent = Agent()
    return isinstance(agent, BaseModel), agent.validate(), sorted(agent._get_steps())


@case([["mine", ["t"], 1], ["mine", ["t"], 2], [True, True]])
async def such_a_workflow_may_be_copied():
    agent = Agent(name="mine", tools=["t"])
    deep, model = copy.deepcopy(agent), agent.model_copy(deep=True)
    return await deep.run(x=1), await model.run(x=2), [deep == agent, model == agent]
