"""Graphs, scopes, types, errors, sessions: the public names of what is not an operation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from headrace.api.export import export, export_value
from headrace.core import device_spec, dtypes, errors, nest, tensor_proto, tensor_shape
from headrace.graph import convert, default, type_spec
from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.session import InteractiveSession, Session

export_value(Graph, "Graph")
export_value(Operation, "Operation")
export_value(Tensor, "Tensor")
export_value(IndexedSlices, "IndexedSlices")
export_value(type_spec.TypeSpec, "TypeSpec", "data.experimental.Structure")
export_value(type_spec.TensorSpec, "TensorSpec")
export_value(type_spec.IndexedSlicesSpec, "IndexedSlicesSpec")
export_value(Session, "Session")
export_value(InteractiveSession, "InteractiveSession")
export_value(dtypes.DType, "DType", "dtypes.DType")
export_value(dtypes.as_dtype, "as_dtype", "dtypes.as_dtype")
export_value(tensor_shape.TensorShape, "TensorShape")
export_value(tensor_shape.Dimension, "Dimension")
export_value(device_spec.DeviceSpec, "DeviceSpec")
export_value(default.get_default_graph, "get_default_graph")
export_value(default.reset_default_graph, "reset_default_graph")
export_value(default.get_default_session, "get_default_session")
export_value(default.init_scope, "init_scope")
export_value(convert.register_tensor_conversion_function, "register_tensor_conversion_function")
export_value(tensor_proto.make_ndarray, "make_ndarray")
export_value(tensor_proto.make_tensor_proto, "make_tensor_proto", "contrib.util.make_tensor_proto")

for _dtype in (
    "float16 half float32 float64 double bfloat16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool "
    "string complex64 "
    "complex128 resource variant qint8 qint16 qint32 quint8 quint16"
).split():
    _value = dtypes.as_dtype(_dtype)
    export_value(_value, _dtype, f"dtypes.{_dtype}")
export_value(dtypes.QUANTIZED_DTYPES, "QUANTIZED_DTYPES", "dtypes.QUANTIZED_DTYPES")

for _error in vars(errors).values():
    if isinstance(_error, type) and issubclass(_error, errors.OpError):
        export_value(_error, f"errors.{_error.__name__}")
export_value(errors.OpError, "OpError")

for _function in ("assert_same_structure flatten is_nested map_structure pack_sequence_as").split():
    export_value(getattr(nest, _function), f"nest.{_function}")


@export("control_dependencies")
def control_dependencies(control_inputs: Any) -> Any:
    """A block whose new operations run after `control_inputs` (see `Graph.control_dependencies`)."""
    return default.get_default_graph().control_dependencies(control_inputs)


@export("device")
def device(device_name_or_function: Any) -> Any:
    """A block whose new operations ask for a device (see `Graph.device`)."""
    return default.get_default_graph().device(device_name_or_function)


@export("colocate_with")
def colocate_with(op: Any, ignore_existing: bool = False) -> Any:
    """A block whose new operations are placed where `op` is (see `Graph.colocate_with`)."""
    if op is not None and not hasattr(op, "op") and not isinstance(op, Operation):
        op = convert.convert_to_tensor(op)
    return default.get_default_graph().colocate_with(op, ignore_existing)


@export("container")
def container(container_name: str) -> Any:
    """A block whose new variables live in a resource container (see `Graph.container`)."""
    return default.get_default_graph().container(container_name)


@export("add_to_collection")
def add_to_collection(name: Any, value: Any) -> None:
    """Appends `value` to a collection of the default graph."""
    default.get_default_graph().add_to_collection(name, value)


@export("add_to_collections")
def add_to_collections(names: Any, value: Any) -> None:
    """Appends `value` to several collections of the default graph."""
    default.get_default_graph().add_to_collections(names, value)


@export("get_collection")
def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """A copy of a collection of the default graph; with `scope` those whose name matches it."""
    return default.get_default_graph().get_collection(key, scope)


@export("get_collection_ref")
def get_collection_ref(key: Any) -> list[Any]:
    """A collection of the default graph itself."""
    return default.get_default_graph().get_collection_ref(key)


@export("executing_eagerly")
def executing_eagerly() -> bool:
    """Whether operations run at once: never, as there are graphs only."""
    return False


@export("disable_eager_execution")
def disable_eager_execution() -> None:
    """Does nothing: graphs are what there is."""


@export("name_scope", "keras.backend.name_scope")
class name_scope:
    """A block whose operations are named `name/...` (`default_name` where name is None), in the graph of `values`.

    Yields the scope with its "/". One object may be entered several times, also inside itself.
    Raises TypeError: a name that is no string. ValueError: no name at all, or values of several graphs.
    """

    def __init__(
        self, name: str | None, default_name: str | None = None, values: Any = None
    ) -> None:
        if not (default_name is None or isinstance(default_name, str)):
            raise TypeError(
                f"`default_name` type ({type(default_name)}) is not a string type. You likely meant to pass "
                "this into the `values` kwarg."
            )
        self._name = default_name if name is None else name
        if self._name is None and values is not None:
            raise ValueError(
                f"At least one of name ({name}) and default_name ({default_name}) must be provided."
            )
        if not (self._name is None or isinstance(self._name, str)):
            raise TypeError(f"name must be a string, got {self._name!r}")
        self._values = values
        self._blocks: list[contextlib.ExitStack] = []

    @property
    def name(self) -> str | None:
        """The name asked for."""
        return self._name

    def __enter__(self) -> str:
        graph = graph_of(self._values) if self._values else default.get_default_graph()
        with contextlib.ExitStack() as blocks:
            if graph is not default.get_default_graph():
                blocks.enter_context(graph.as_default())
            scope = blocks.enter_context(graph.name_scope(self._name))
            self._blocks.append(blocks.pop_all())
        return scope

    def __exit__(self, *exception: Any) -> None:
        self._blocks.pop().__exit__(*exception)


def graph_of(values: Any) -> Graph:
    """The graph of the tensors among `values`, else the default one. Raises ValueError: several graphs."""
    current = default.get_default_graph()
    if current.building_function:
        # A function's body takes tensors of the graphs around it as captured inputs.
        return current
    found: Graph | None = None
    first: Any = None
    for value in nest.flatten(list(values)) if isinstance(values, (list, tuple)) else [values]:
        element = (
            value
            if isinstance(value, (Tensor, Operation))
            else getattr(value, "_as_graph_element", lambda: None)()
        )
        graph = getattr(element, "graph", None)
        if graph is None:
            continue
        if found is None:
            found, first = graph, element
        elif graph is not found:
            raise ValueError(f"{element!r} must be from the same graph as {first!r}.")
    return current if found is None else found


@export("op_scope")
@contextlib.contextmanager
def op_scope(values: Any, name: str | None, default_name: str | None = None) -> Iterator[str]:
    """The older form of `name_scope`."""
    with name_scope(name, default_name, values) as scope:
        yield scope


class GraphKeys:
    """The standard names of collections."""

    GLOBAL_VARIABLES = "variables"
    LOCAL_VARIABLES = "local_variables"
    METRIC_VARIABLES = "metric_variables"
    MODEL_VARIABLES = "model_variables"
    TRAINABLE_VARIABLES = "trainable_variables"
    SUMMARIES = "summaries"
    QUEUE_RUNNERS = "queue_runners"
    TABLE_INITIALIZERS = "table_initializer"
    ASSET_FILEPATHS = "asset_filepaths"
    MOVING_AVERAGE_VARIABLES = "moving_average_variables"
    REGULARIZATION_LOSSES = "regularization_losses"
    CONCATENATED_VARIABLES = "concatenated_variables"
    SAVERS = "savers"
    WEIGHTS = "weights"
    BIASES = "biases"
    ACTIVATIONS = "activations"
    UPDATE_OPS = "update_ops"
    LOSSES = "losses"
    SAVEABLE_OBJECTS = "saveable_objects"
    RESOURCES = "resources"
    LOCAL_RESOURCES = "local_resources"
    TRAINABLE_RESOURCE_VARIABLES = "trainable_resource_variables"
    INIT_OP = "init_op"
    LOCAL_INIT_OP = "local_init_op"
    READY_OP = "ready_op"
    READY_FOR_LOCAL_INIT_OP = "ready_for_local_init_op"
    SUMMARY_OP = "summary_op"
    GLOBAL_STEP = "global_step"
    EVAL_STEP = "eval_step"
    TRAIN_OP = "train_op"
    COND_CONTEXT = "cond_context"
    WHILE_CONTEXT = "while_context"
    _SUMMARY_COLLECTION = "_SUMMARY_V2"
    _STREAMING_MODEL_PORTS = "streaming_model_ports"
    _VARIABLE_COLLECTIONS = (
        GLOBAL_VARIABLES,
        LOCAL_VARIABLES,
        METRIC_VARIABLES,
        MODEL_VARIABLES,
        TRAINABLE_VARIABLES,
        MOVING_AVERAGE_VARIABLES,
        CONCATENATED_VARIABLES,
        TRAINABLE_RESOURCE_VARIABLES,
    )
    # The name of GLOBAL_VARIABLES in the first releases.
    VARIABLES = GLOBAL_VARIABLES


export_value(GraphKeys, "GraphKeys")
