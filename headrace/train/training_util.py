"""The global step: the variable of a graph that counts its training steps."""

from __future__ import annotations

from typing import Any

from headrace.api import logging
from headrace.api.export import PUBLIC, export
from headrace.api.framework import GraphKeys, device
from headrace.api.get_variable import get_variable
from headrace.api.init_ops import Zeros
from headrace.api.state_ops import assign_add
from headrace.api.variable_arguments import VariableAggregation
from headrace.api.variable_base import Variable
from headrace.core import dtypes
from headrace.graph import default
from headrace.graph.graph import Graph
from headrace.graph.tensor import Tensor

_READ_KEY = "global_step_read_op_cache"


@export("train.global_step")
def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The value of a global step in a session, as an int."""
    if PUBLIC["executing_eagerly"]():
        return int(global_step_tensor.numpy())
    return int(sess.run(global_step_tensor))


@export("train.get_global_step")
def get_global_step(graph: Graph | None = None) -> Any:
    """The global step of `graph` (the default one): what is filed as such, or named `global_step`; None without one.

    Raises TypeError: it is not a scalar integer variable or tensor.
    """
    graph = graph or default.get_default_graph()
    filed = graph.get_collection(GraphKeys.GLOBAL_STEP)
    if len(filed) > 1:
        logging.error("Multiple tensors in global_step collection.")
        return None
    if filed:
        found = filed[0]
    else:
        try:
            found = graph.get_tensor_by_name("global_step:0")
        except KeyError:
            return None
    assert_global_step(found)
    return found


@export("train.create_global_step")
def create_global_step(graph: Graph | None = None) -> Any:
    """Makes the global step of `graph` (the default one): an int64 variable `global_step`, 0 at first.

    Raises ValueError: there is one.
    """
    graph = graph or default.get_default_graph()
    if get_global_step(graph) is not None:
        raise ValueError('"global_step" already exists.')
    if PUBLIC["executing_eagerly"]():
        with device("cpu:0"):
            return _make()
    with graph.as_default(), graph.name_scope(None):
        return _make()


def _make() -> Any:
    return get_variable(
        GraphKeys.GLOBAL_STEP,
        shape=[],
        dtype=dtypes.int64,
        initializer=Zeros(),
        trainable=False,
        aggregation=VariableAggregation.ONLY_FIRST_REPLICA,
        collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
    )


@export("train.get_or_create_global_step")
def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """The global step of `graph` (the default one), made where there is none."""
    graph = graph or default.get_default_graph()
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


@export("train.assert_global_step")
def assert_global_step(global_step_tensor: Any) -> None:
    """Raises TypeError: not a variable or tensor, not of integers, or not a scalar."""
    if not isinstance(global_step_tensor, (Variable, Tensor)):
        raise TypeError(
            f'Existing "global_step" must be a Variable or Tensor: {global_step_tensor}.'
        )
    if not global_step_tensor.dtype.base_dtype.is_integer:
        raise TypeError(
            f'Existing "global_step" does not have integer type: {global_step_tensor.dtype!r}'
        )
    shape = global_step_tensor.get_shape()
    if shape.ndims != 0 and shape.is_fully_defined():
        raise TypeError(f'Existing "global_step" is not scalar: {shape}')


def _get_global_step_read(graph: Graph | None = None) -> Any:
    """The filed tensor with the global step as it is before a step. Raises RuntimeError: several."""
    graph = graph or default.get_default_graph()
    filed = graph.get_collection(_READ_KEY)
    if len(filed) > 1:
        raise RuntimeError(
            f"There are multiple items in collection {_READ_KEY}. There should be only one."
        )
    return filed[0] if filed else None


def _get_or_create_global_step_read(graph: Graph | None = None) -> Any:
    """A tensor with the global step as it is before a step, made where there is none; None without a global step."""
    graph = graph or default.get_default_graph()
    found = _get_global_step_read(graph)
    if found is not None:
        return found
    step = get_global_step(graph)
    if step is None:
        return None
    with graph.as_default(), graph.name_scope(None), graph.name_scope(step.op.name + "/"):
        # What a model is built after may run before the initializers have.
        value = step.initialized_value() if isinstance(step, Variable) else step
        graph.add_to_collection(_READ_KEY, value + 0)
    return _get_global_step_read(graph)


def _increment_global_step(increment: int, graph: Graph | None = None) -> Any:
    """An operation that adds to the global step after it was read. Raises ValueError: there is none."""
    graph = graph or default.get_default_graph()
    step = get_global_step(graph)
    if step is None:
        raise ValueError(
            "Global step tensor should be created by tf.train.get_or_create_global_step before calling increment."
        )
    before = _get_or_create_global_step_read(graph)
    with (
        graph.as_default(),
        graph.name_scope(None),
        graph.name_scope(step.op.name + "/"),
        graph.control_dependencies([before]),
    ):
        return assign_add(step, increment)
