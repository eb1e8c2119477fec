"""Signatures: the parameters that user code names or relies on, their order and their defaults."""

import inspect
from importlib import import_module

from tests.compat.case import case
from tests.compat.flows import A, Echo
from workflows import Context, Workflow, catch_error, step
from workflows.events import StartEvent, StepFailedEvent, StopEvent

# Parameters in their order with their defaults; "*" stands before those that are given by name only.
SIGNATURES = {
    "workflow.Workflow": "timeout=45.0 disable_validation=False verbose=False resource_manager=None "
    "num_concurrent_runs=None runtime=None workflow_name=None skip_graph_checks=None serializer=None",
    "workflow.Workflow.run": "self ctx=None start_event=None",
    "workflow.Workflow.validate": "self * validate_resource_configs=True validate_resources=False",
    "workflow.Workflow.add_step": "func",
    "context.Context": "workflow previous_context=None serializer=None",
    "context.Context.from_dict": "workflow data serializer=None",
    "context.Context.to_dict": "self serializer=None * include_state=True",
    "context.Context.send_event": "self message step=None",
    "context.Context.write_event_to_stream": "self ev",
    "context.Context.collect_events": "self ev expected buffer_id=None",
    "context.Context.wait_for_event": "self event_type waiter_event=None waiter_id=None requirements=None timeout=2000",
    "handler.WorkflowHandler.stream_events": "self expose_internal=False",
    "handler.WorkflowHandler.send_event": "self event step=None",
    "handler.WorkflowHandler.cancel_run": "self * timeout=5.0",
    "decorators.step": "func=None * workflow=None num_workers=4 retry_policy=None skip_graph_checks=None "
    "accept_event_subclasses=False",
    "decorators.catch_error": "func=None * for_steps=None max_recoveries=1",
    "context.state_store.InMemoryStateStore.get": "self path",
    "context.state_store.InMemoryStateStore.set": "self path value",
    "context.serializers.JsonSerializer": "* allowed_types=None",
    "resource.Resource": "factory cache=True",
    "resource.ResourceConfig": "config_file path_selector=None label=None description=None",
    "resource.ResourceManager.set": "self name val",
    "testing.WorkflowTestRunner": "workflow",
    "testing.WorkflowTestRunner.run": "self start_event ctx=None expose_internal=True exclude_events=None",
    "retry_policy.RetryPolicy.next": "self elapsed_time attempts error",
    "retry_policy.retry_policy": "retry=None wait stop",
    "retry_policy.wait_fixed": "wait",
    "retry_policy.wait_exponential": "multiplier=1 exp_base=2 max=60 min=0",
    "retry_policy.wait_incrementing": "start=0 increment=100 max=inf",
    "retry_policy.wait_random": "min=0 max=1",
    "retry_policy.wait_exponential_jitter": "initial=1 exp_base=2 max=60 jitter=1",
    "retry_policy.wait_random_exponential": "multiplier=1 exp_base=2 max=60 min=0",
    "retry_policy.retry_if_exception_message": "message=None match=None",
    "retry_policy.ConstantDelayRetryPolicy": "maximum_attempts=3 delay=5",
    "retry_policy.ExponentialBackoffRetryPolicy": "maximum_attempts=5 initial_delay=1.0 multiplier=2.0 max_delay=60.0 "
    "jitter=True",
}


def wrong_in(path, wanted):
    """What a signature lacks of what is wanted; parameters that it has besides are its own affair."""
    module, _, rest = path.partition(".")
    if module == "context" and rest.split(".")[0] in ("state_store", "serializers"):
        inner, _, rest = rest.partition(".")
        module = f"{module}.{inner}"
    found = import_module(f"workflows.{module}")
    for name in rest.split("."):
        found = getattr(found, name)
    parameters = inspect.signature(found).parameters
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    before, _, after = (part.strip() for part in wanted.partition("*"))
    wrong = [one for n, one in enumerate(before.split()) if positional[n : n + 1] != [one.split("=")[0]]]
    for one in (*before.split(), *after.split()):
        name, _, default = one.partition("=")
        if name not in parameters or (default and not _same(parameters[name].default, default)):
            wrong.append(one)
    return wrong


def _same(default, wanted):
    if isinstance(default, float | int) and not isinstance(default, bool):
        return default == float(wanted)
    return str(default) == wanted


def _declare(path, wanted):
    def body():
        return wrong_in(path, wanted)

    globals()[path.replace(".", "_").lower()] = case([])(body)


for _path, _wanted in SIGNATURES.items():
    _declare(_path, _wanted)


@case([["Echo", 2], 3])
def what_others_use_of_a_workflow_is_there():
    flow = Echo(timeout=3, num_concurrent_runs=2)
    names = ("_runtime", "_resource_manager", "_dispatcher", "_verbose", "_disable_validation", "_validate")
    missing = [name for name in names if not hasattr(flow, name)]
    return missing or [type(flow).__name__, flow._num_concurrent_runs], flow._timeout


@case(["StartEvent", 1, 2])
def a_start_event_can_be_made_without_a_run():
    flow = Echo()
    made, given = flow._get_start_event_instance(None, x=1), flow._get_start_event_instance(StartEvent(x=2))
    return type(made).__name__, made.x, given.x


@case([["step", 4, None, "State"], ["catch_error", 1, None, None]])
def a_step_says_how_it_runs():
    from pydantic import BaseModel

    class State(BaseModel):
        pass

    class W(Workflow):
        @step
        async def s(self, ctx: Context[State], ev: StartEvent) -> StopEvent | A:
            return StopEvent()

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent()

    def shown(config):
        state = config.context_state_type
        return [config.role, config.num_workers, config.retry_policy, state and state.__name__]

    return shown(W.s._step_config), shown(W.handle._step_config)
