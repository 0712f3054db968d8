"""The variables of a graph by collection, and their initializers: `tf.global_variables_initializer` and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto import variable_pb2

from headrace.api.control_flow_basic import group
from headrace.api.export import export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.join_ops import stack
from headrace.api.slicing import boolean_mask
from headrace.api.state_ops import is_variable_initialized
from headrace.api.variable_base import Variable
from headrace.core import dtypes
from headrace.graph import default, raw
from headrace.graph.collection_protos import register_proto_function
from headrace.graph.convert import constant_from_value


def _collection(key: str, scope: str | None) -> list[Any]:
    return default.get_default_graph().get_collection(key, scope)


@export("global_variables")
def global_variables(scope: str | None = None) -> list[Any]:
    """The variables that are shared over a cluster: where `tf.Variable` puts them unless told otherwise.

    scope: only those whose name matches it (`re.match`).
    """
    return _collection(GraphKeys.GLOBAL_VARIABLES, scope)


@export("all_variables")
def all_variables() -> list[Any]:
    """The older name of `global_variables`."""
    return global_variables()


@export("local_variables")
def local_variables(scope: str | None = None) -> list[Any]:
    """The variables of this process alone, which checkpoints leave out."""
    return _collection(GraphKeys.LOCAL_VARIABLES, scope)


@export("model_variables")
def model_variables(scope: str | None = None) -> list[Any]:
    """The variables that inference needs, as far as they were filed so."""
    return _collection(GraphKeys.MODEL_VARIABLES, scope)


@export("trainable_variables")
def trainable_variables(scope: str | None = None) -> list[Any]:
    """The variables that optimizers change by default."""
    return _collection(GraphKeys.TRAINABLE_VARIABLES, scope)


@export("moving_average_variables")
def moving_average_variables(scope: str | None = None) -> list[Any]:
    """The variables that have a moving average."""
    return _collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def _all_saveable_objects(scope: str | None = None) -> list[Any]:
    """What a Saver saves by default."""
    return global_variables(scope) + _collection(GraphKeys.SAVEABLE_OBJECTS, scope)


@export("variables_initializer", "initializers.variables")
def variables_initializer(var_list: Sequence[Any], name: str = "init") -> Any:
    """An operation that runs the initializers of `var_list`."""
    if var_list:
        return group(*[v.initializer for v in var_list], name=name)
    return group(name=name)


@export("initialize_variables")
def initialize_variables(var_list: Sequence[Any], name: str = "init") -> Any:
    """The older name of `variables_initializer`."""
    return variables_initializer(var_list, name)


@export("global_variables_initializer", "initializers.global_variables")
def global_variables_initializer() -> Any:
    """An operation that gives all global variables their initial values."""
    return variables_initializer(global_variables())


@export("initialize_all_variables")
def initialize_all_variables() -> Any:
    """The older name of `global_variables_initializer`."""
    return global_variables_initializer()


@export("local_variables_initializer", "initializers.local_variables")
def local_variables_initializer() -> Any:
    """An operation that gives all local variables their initial values."""
    return variables_initializer(local_variables())


@export("initialize_local_variables")
def initialize_local_variables() -> Any:
    """The older name of `local_variables_initializer`."""
    return local_variables_initializer()


def _checked_list(var_list: Sequence[Any] | None) -> list[Any]:
    """The variables to ask about; all of the graph where None, even those that nodes hold without a Python object."""
    if var_list is not None:
        return list(var_list)
    found = global_variables() + local_variables()
    if found:
        return found
    kinds = ("Variable", "VariableV2", "AutoReloadVariable")
    return [
        op.outputs[0] for op in default.get_default_graph().get_operations() if op.type in kinds
    ]


@export("assert_variables_initialized")
def assert_variables_initialized(var_list: Sequence[Any] | None = None) -> Any:
    """An operation that fails with FailedPreconditionError if a variable is not initialised; None without variables."""
    found = _checked_list(var_list)
    if not found:
        return None
    graph = default.get_default_graph()
    ranks = []
    for variable in found:
        with graph.colocate_with(getattr(variable, "op", variable)):
            ranks.append(raw.Rank(variable))
    return ranks[0] if len(ranks) == 1 else raw.Pack(ranks, axis=0, name="stack")


@export("report_uninitialized_variables")
def report_uninitialized_variables(
    var_list: Sequence[Any] | None = None, name: str = "report_uninitialized_variables"
) -> Any:
    """The names of the variables that the session has no value for: a string vector."""
    found = _checked_list(var_list)
    graph = default.get_default_graph()
    with name_scope(name):
        if not found:
            return constant_from_value(np.array([], dtype=object), dtypes.string, None)
        # Where the variables are says nothing about where their names are asked for.
        states = []
        for variable in found:
            if isinstance(variable, Variable):
                states.append(is_variable_initialized(variable))
            else:
                states.append(raw.IsVariableInitialized(variable))
        with graph.device("/cpu:0"):
            missing = raw.LogicalNot(stack(states))
            names = constant_from_value([_node_name(v) for v in found], dtypes.string, None)
            return boolean_mask(names, missing)


def _node_name(variable: Any) -> str:
    return variable.name.partition(":")[0]


def _to_proto(variable: Any, export_scope: str | None = None) -> Any:
    return variable.to_proto(export_scope=export_scope)


def _from_proto(proto: Any, import_scope: str | None = None) -> Any:
    return Variable.from_proto(proto, import_scope=import_scope)


for _key in (
    GraphKeys.GLOBAL_VARIABLES,
    GraphKeys.TRAINABLE_VARIABLES,
    GraphKeys.MOVING_AVERAGE_VARIABLES,
    GraphKeys.LOCAL_VARIABLES,
    GraphKeys.MODEL_VARIABLES,
    GraphKeys.GLOBAL_STEP,
    GraphKeys.METRIC_VARIABLES,
):
    register_proto_function(_key, variable_pb2.VariableDef, _to_proto, _from_proto)
