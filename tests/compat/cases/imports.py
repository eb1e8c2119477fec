"""Import names: what user code and other packages import from each module is there."""

import importlib

from tests.compat.case import case, error_of
from workflows.events import Event

NAMES = {
    "workflows": "Context Workflow catch_error step",
    "workflows.workflow": "Workflow WorkflowMeta",
    "workflows.events": "Event StartEvent StopEvent InputRequiredEvent HumanResponseEvent StepFailedEvent "
    "CollectionReleaseEvent WorkflowTimedOutEvent WorkflowCancelledEvent WorkflowFailedEvent IdleReleasedEvent "
    "InternalDispatchEvent WorkflowIdleEvent UnhandledEvent StepState StepStateChanged EventType DictLikeModel "
    "UnreconstructedException SerializableEvent SerializableOptionalEvent SerializableException "
    "SerializableOptionalException SerializableEventType",
    "workflows.context": "Context PickleSerializer JsonSerializer BaseSerializer",
    "workflows.context.serializers": "PickleSerializer JsonSerializer BaseSerializer JsonPickleSerializer",
    "workflows.context.state_store": "DictState InMemoryStateStore StateStore StateStoreFacade StateStorage "
    "StateRecord StateCheckpoint InMemorySerializedState apply_state_patch infer_state_type get_by_path set_by_path "
    "merge_state create_cleared_state decode_state encode_state deserialize_state_from_dict parse_in_memory_state "
    "UnserializableKeyWarning MODEL_T MAX_DEPTH KNOWN_UNSERIALIZABLE_KEYS",
    "workflows.context.state_store_integration": "StateRecord StateStorage StateStoreFacade decode_seed_state "
    "restored_run_id state_store_handoff string_record_from_state",
    "workflows.context.context_types": "SerializedContext SerializedContextV0 CURRENT_SERIALIZED_VERSION",
    "workflows.context.utils": "get_qualified_name import_module_from_qualified_name",
    "workflows.context.external_context": "ExternalContext",
    "workflows.decorators": "step catch_error StepConfig StepFunction CatchErrorHandler make_step_function "
    "WorkflowGraphCheck StepGraphCheck StepRole",
    "workflows.collect": "Collect All Take Cardinality",
    "workflows.errors": "WorkflowValidationError WorkflowConfigurationError WorkflowRuntimeError WorkflowTimeoutError "
    "WorkflowCancelledByUser ContextSerdeError ContextStateError WorkflowDone WorkflowStepDoesNotExistError",
    "workflows.handler": "WorkflowHandler",
    "workflows.resource": "Resource ResourceConfig ResourceManager ResourceDefinition ResourceDescriptor",
    "workflows.retry_policy": "RetryPolicy RetryInfo retry_policy ConstantDelayRetryPolicy "
    "ExponentialBackoffRetryPolicy retry_if_exception retry_if_exception_type retry_if_not_exception_type "
    "retry_unless_exception_type retry_if_exception_message retry_if_not_exception_message "
    "retry_if_exception_cause_type retry_any retry_all retry_always retry_never wait_fixed wait_none wait_exponential "
    "wait_incrementing wait_random wait_exponential_jitter wait_random_exponential wait_full_jitter wait_chain "
    "wait_combine stop_after_attempt stop_after_delay stop_before_delay stop_any stop_all stop_never",
    "workflows.testing": "WorkflowTestRunner",
    "workflows.testing.runner": "WorkflowTestRunner WorkflowTestResult",
    "workflows.representation": "WorkflowNodeBase WorkflowStepNode WorkflowEventNode WorkflowExternalNode "
    "WorkflowResourceNode WorkflowResourceConfigNode WorkflowGenericNode WorkflowGraphNode WorkflowGraphEdge "
    "WorkflowGraph get_workflow_representation",
    "workflows.plugins": "get_current_runtime basic_runtime BasicRuntime",
    "workflows.plugins.basic": "BasicRuntime JournalRecord setting_run_id get_current_run_id",
    "workflows.types": "StopEventT RunResultT",
    "workflows.utils": "StepSignatureSpec inspect_signature validate_step_signature get_steps_from_class "
    "get_steps_from_instance is_free_function BUSY_WAIT_DELAY _get_param_types _get_return_types _nanoid",
    "workflows.runtime.types.step_function": "SpanCancelledEvent WorkflowRunOutputEvent WorkflowStepOutputEvent",
    "workflows.runtime.types.results": "AddCollectedEvent StepWorkerResult WaitingForEvent",
    "workflows.runtime.types.ticks": "TickAddEvent TickStepResult WorkflowTick",
    "workflows.runtime.types.plugin": "Runtime",
    "llama_agents.workflows": "Context Workflow step",
}


def missing(module, names):
    """Which of the names a module lacks; one that is for readers of another package may want that package."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        return [] if error.name == "llama_index_instrumentation" else [str(error)]
    return [name for name in names.split() if not hasattr(found, name)]


def _declare(module, names):
    def body():
        return missing(module, names)

    globals()[f"names_of_{module.replace('.', '_')}"] = case([])(body)


for _module, _names in NAMES.items():
    _declare(_module, _names)


@case(["Context", "Workflow", "catch_error", "step"])
def the_front_module_says_what_is_public():
    import workflows

    return sorted(workflows.__all__)


@case([True, True])
def the_context_module_shares_its_classes():
    from workflows.context import Context, JsonSerializer
    from workflows.context.serializers import JsonSerializer as Same

    return JsonSerializer is Same, Context is importlib.import_module("workflows").Context


@case(
    [[], "!ImportError"],
    peer_gives=[["No module named 'workflows.service'"], "!ImportError"],
    because="service-manager",
)
def the_older_service_module_is_there():
    return (
        error_of(lambda: missing("workflows.service", "ServiceManager ServiceNotFoundError")),
        "!ImportError" if str(error_of(lambda: importlib.import_module("workflows.server"))).startswith("!") else "",
    )


@case([True, "tests.compat.cases.imports.Mine", "Mine"])
def a_class_has_a_qualified_name():
    from workflows.context.utils import get_qualified_name, import_module_from_qualified_name

    name = get_qualified_name(Mine(n=1))
    return import_module_from_qualified_name(name) is Mine, name, Mine.__name__


class Mine(Event):
    n: int


@case([0.01, 10, True])
def small_things_of_utils():
    from workflows.utils import BUSY_WAIT_DELAY, _nanoid

    return BUSY_WAIT_DELAY, len(_nanoid()), _nanoid() != _nanoid()


@case([True, [True, True]])
def steps_are_found_on_classes_and_instances():
    from tests.compat.flows import Streaming
    from workflows.utils import get_steps_from_class, get_steps_from_instance

    found = get_steps_from_class(Streaming), get_steps_from_instance(Streaming())
    return sorted(found[0]) == ["first", "second"], [sorted(f) == ["first", "second"] for f in found]


@case([["ev"], ["A"], "ctx", ["A", "StopEvent"]])
def a_signature_can_be_read():
    from tests.compat.flows import A
    from workflows import Context
    from workflows.events import StopEvent
    from workflows.utils import inspect_signature

    def function(self, ctx: Context, ev: A) -> A | StopEvent | None: ...

    spec = inspect_signature(function)
    shown = [list(spec.accepted_events), [t.__name__ for types in spec.accepted_events.values() for t in types]]
    returned = [t.__name__ for t in spec.return_types if t is not type(None)]
    return *shown, spec.context_parameter, returned


@case([True, True, True])
async def the_current_runtime_is_the_basic_one():
    from tests.compat.flows import Echo
    from workflows.plugins import BasicRuntime, basic_runtime, get_current_runtime

    return (
        isinstance(basic_runtime, BasicRuntime),
        get_current_runtime() is basic_runtime,
        Echo().runtime is basic_runtime,
    )
