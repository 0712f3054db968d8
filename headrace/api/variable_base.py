"""`tf.Variable`: what its two flavours share, and the choice between them when one is made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tensorboard.compat.proto import variable_pb2

from headrace.api import operators  # noqa: F401  (gives Tensor the operators that variables pass on)
from headrace.api.export import PUBLIC, export
from headrace.api.variable_arguments import (
    SaveSliceInfo,
    VariableAggregation,
    VariableSynchronization,
    checked_modes,
)
from headrace.core.reference import Reference
from headrace.core.tensor_shape import TensorShape
from headrace.graph import default
from headrace.graph.collection_protos import prepend_name_scope, strip_name_scope
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import OVERLOADABLE, Tensor


def default_creator(**arguments: Any) -> Variable:
    """Makes a variable of the flavour asked for by `use_resource`, the variable scope, or the process's default."""
    from headrace.api.get_variable import get_variable_scope, resource_variables_enabled
    from headrace.api.ref_variable import RefVariable
    from headrace.api.resource_variable import ResourceVariable

    arguments.pop("next_creator", None)
    use_resource = arguments.pop("use_resource", None)
    if use_resource is None:
        use_resource = get_variable_scope().use_resource
    if use_resource is None:
        use_resource = resource_variables_enabled()
    if use_resource or PUBLIC["executing_eagerly"]():
        arguments.pop("expected_shape", None)
        return ResourceVariable(**arguments)
    arguments.pop("distribute_strategy", None)
    return RefVariable(**arguments)


def _within(creator: Callable[..., Any], inner: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **arguments: creator(inner, **arguments)


class VariableMetaclass(type):
    """Lets `tf.Variable(...)` make a variable of another class, and creator scopes have their say."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not Variable:
            return super().__call__(*args, **kwargs)
        return _create(*args, **kwargs)


def _create(
    initial_value: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    validate_shape: bool = True,
    caching_device: Any = None,
    name: str | None = None,
    variable_def: Any = None,
    dtype: Any = None,
    expected_shape: Any = None,
    import_scope: str | None = None,
    constraint: Any = None,
    use_resource: bool | None = None,
    synchronization: Any = VariableSynchronization.AUTO,
    aggregation: Any = VariableAggregation.NONE,
    shape: Any = None,
) -> Variable:
    creator: Callable[..., Any] = default_creator
    for outer in default.get_default_graph()._variable_creator_stack:
        creator = _within(outer, creator)
    return creator(
        initial_value=initial_value,
        trainable=trainable,
        collections=collections,
        validate_shape=validate_shape,
        caching_device=caching_device,
        name=name,
        variable_def=variable_def,
        dtype=dtype,
        expected_shape=expected_shape,
        import_scope=import_scope,
        constraint=constraint,
        use_resource=use_resource,
        synchronization=synchronization,
        aggregation=VariableAggregation.NONE if aggregation is None else aggregation,
        shape=shape,
    )


@export("Variable")
class Variable(metaclass=VariableMetaclass):
    """A value that lives in a session, starts as `initial_value` once its initializer ran, and changes by assignment.

    initial_value: what converts to a tensor, or a function without arguments that returns it. trainable: whether
    optimizers see it. collections: those it is filed under, GLOBAL_VARIABLES where None. validate_shape: False allows
    an initial value whose shape is not known, and other shapes later. dtype: that of the initial value where None.
    constraint: applied by optimizers after an update. use_resource: the flavour; None takes that of the variable
    scope or of the process. variable_def: a VariableDef of which to make the object again for nodes that exist.
    shape: declared shape, that of the initial value where None.
    Raises ValueError: no initial value, or its shape is not known though validate_shape is set.
    """

    SaveSliceInfo = SaveSliceInfo
    # NumPy must leave `ndarray + variable` to us.
    __array_priority__ = 100

    _save_slice_info: SaveSliceInfo | None = None
    _initial_value: Any
    _initializer_op: Any
    _trainable: bool
    _synchronization: VariableSynchronization
    _aggregation: VariableAggregation
    _constraint: Any

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: str | None = None,
        constraint: Any = None,
        use_resource: bool | None = None,
        synchronization: Any = VariableSynchronization.AUTO,
        aggregation: Any = VariableAggregation.NONE,
        shape: Any = None,
    ) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say how it is made")

    # ---- what it is

    @property
    def name(self) -> str:
        """`node name:0`."""
        raise NotImplementedError

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        raise NotImplementedError

    @property
    def shape(self) -> TensorShape:
        """The static shape."""
        raise NotImplementedError

    def get_shape(self) -> TensorShape:
        """The same as `shape`."""
        return self.shape

    @property
    def op(self) -> Any:
        """The operation that holds the variable."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """The device asked for."""
        return self.op.device

    @property
    def graph(self) -> Any:
        """The graph of the variable."""
        return self.op.graph

    @property
    def initializer(self) -> Any:
        """The operation that gives the variable its initial value."""
        return self._initializer_op

    @property
    def initial_value(self) -> Any:
        """The tensor with the initial value. It does not know whether the variable has changed since."""
        return self._initial_value

    @property
    def trainable(self) -> bool:
        """Whether optimizers see the variable."""
        return self._trainable

    @property
    def synchronization(self) -> VariableSynchronization:
        """When the copies of a distributed variable are brought together."""
        return self._synchronization

    @property
    def aggregation(self) -> VariableAggregation:
        """How the copies of a distributed variable are brought together."""
        return self._aggregation

    @property
    def constraint(self) -> Any:
        """What optimizers apply after an update, or None."""
        return self._constraint

    @property
    def _shared_name(self) -> str:
        return self.name.partition(":")[0]

    def _set_save_slice_info(self, save_slice_info: SaveSliceInfo | None) -> None:
        self._save_slice_info = save_slice_info

    def _get_save_slice_info(self) -> SaveSliceInfo | None:
        return self._save_slice_info

    def _gather_saveables_for_checkpoint(self) -> dict[str, Any]:
        return {"VARIABLE_VALUE": self}

    @property
    def _distribute_strategy(self) -> None:
        return None

    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}>"

    # ---- reading

    def value(self) -> Tensor:
        """A tensor with the value."""
        raise NotImplementedError

    def read_value(self) -> Tensor:
        """A tensor with the value at this point of the run: control dependencies in force here count."""
        raise NotImplementedError

    def initialized_value(self) -> Tensor:
        """The value if the variable is initialised, else its initial value."""
        from headrace.api.state_ops import is_variable_initialized

        with default.init_scope():
            return PUBLIC["cond"](
                is_variable_initialized(self), self.read_value, lambda: self.initial_value
            )

    def eval(self, session: Any = None) -> Any:
        """The value in `session` or in the default session."""
        return self._as_graph_element().eval(session=session)

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """The rows `indices`."""
        raise AttributeError("sparse_read")

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        """The slices at positions `indices`."""
        raise AttributeError("gather_nd")

    def _as_graph_element(self) -> Any:
        raise NotImplementedError

    # ---- writing

    def set_shape(self, shape: Any) -> None:
        """Adds knowledge of the shape."""
        raise NotImplementedError

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Writes `value`; returns the new value, or the operation where read_value is False."""
        raise NotImplementedError

    def assign_add(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Adds `delta`; returns the new value, or the operation where read_value is False."""
        raise NotImplementedError

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Subtracts `delta`; returns the new value, or the operation where read_value is False."""
        raise NotImplementedError

    def _scatter(self, kind: str, sparse_delta: Any, use_locking: bool, name: str | None) -> Any:
        from headrace.api import state_ops

        if not isinstance(sparse_delta, IndexedSlices):
            raise TypeError(f"sparse_delta is not IndexedSlices: {sparse_delta}")
        function = getattr(state_ops, kind)
        return function(
            self, sparse_delta.indices, sparse_delta.values, use_locking=use_locking, name=name
        )

    def scatter_sub(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Subtracts the rows of the IndexedSlices `sparse_delta`. Raises TypeError: not IndexedSlices."""
        return self._scatter("scatter_sub", sparse_delta, use_locking, name)

    def scatter_add(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Adds the rows of the IndexedSlices `sparse_delta`. Raises TypeError: not IndexedSlices."""
        return self._scatter("scatter_add", sparse_delta, use_locking, name)

    def scatter_max(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Takes the larger of each row and that of the IndexedSlices `sparse_delta`.

        Raises TypeError: not IndexedSlices.
        """
        return self._scatter("scatter_max", sparse_delta, use_locking, name)

    def scatter_min(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Takes the smaller of each row and that of the IndexedSlices `sparse_delta`.

        Raises TypeError: not IndexedSlices.
        """
        return self._scatter("scatter_min", sparse_delta, use_locking, name)

    def scatter_mul(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Multiplies by the rows of the IndexedSlices `sparse_delta`. Raises TypeError: not IndexedSlices."""
        return self._scatter("scatter_mul", sparse_delta, use_locking, name)

    def scatter_div(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Divides by the rows of the IndexedSlices `sparse_delta`. Raises TypeError: not IndexedSlices."""
        return self._scatter("scatter_div", sparse_delta, use_locking, name)

    def scatter_update(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Writes the rows of the IndexedSlices `sparse_delta`. Raises TypeError: not IndexedSlices."""
        return self._scatter("scatter_update", sparse_delta, use_locking, name)

    def batch_scatter_update(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Writes rows batch by batch, see `tf.batch_scatter_update`. Raises TypeError: not IndexedSlices."""
        return self._scatter("batch_scatter_update", sparse_delta, use_locking, name)

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Subtracts `updates` at positions `indices`."""
        from headrace.api import state_ops

        return state_ops.scatter_nd_sub(self, indices, updates, use_locking=True, name=name)

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Adds `updates` at positions `indices`."""
        from headrace.api import state_ops

        return state_ops.scatter_nd_add(self, indices, updates, use_locking=True, name=name)

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Writes `updates` at positions `indices`."""
        from headrace.api import state_ops

        return state_ops.scatter_nd_update(self, indices, updates, use_locking=True, name=name)

    def count_up_to(self, limit: int) -> Tensor:
        """The value, which goes up by one; OutOfRangeError once it is `limit`."""
        from headrace.api import state_ops

        return state_ops.count_up_to(self, limit)

    def load(self, value: Any, session: Any = None) -> None:
        """Writes an array into the variable in `session`, without adding to the graph.

        Raises ValueError: no session.
        """
        session = session or default.get_default_session()
        if session is None:
            raise ValueError(
                "Either session argument should be provided or default session should be established"
            )
        session.run(self.initializer, {self.initializer.inputs[1]: value})

    # ---- protos

    def to_proto(self, export_scope: str | None = None) -> Any:
        """A VariableDef; None where the variable is outside `export_scope`."""
        if export_scope is not None and not self.op.name.startswith(export_scope):
            return None
        proto = variable_pb2.VariableDef()
        proto.variable_name = strip_name_scope(self.name, export_scope)
        if self._initial_value is not None:
            proto.initial_value_name = strip_name_scope(self._initial_value.name, export_scope)
        proto.trainable = self.trainable
        proto.synchronization = self.synchronization.value
        proto.aggregation = self.aggregation.value
        proto.initializer_name = strip_name_scope(self.initializer.name, export_scope)
        proto.snapshot_name = strip_name_scope(self._snapshot_name, export_scope)
        if self._save_slice_info is not None:
            part = self._save_slice_info.to_proto(export_scope)
            if part is not None:
                proto.save_slice_info_def.MergeFrom(part)
        return proto

    @property
    def _snapshot_name(self) -> str:
        raise NotImplementedError

    def _restore_from_proto(self, variable_def: Any, import_scope: str | None) -> Any:
        """Takes from a VariableDef what both flavours have; returns the tensor that holds the variable."""
        element = default.get_default_graph().as_graph_element

        def named(name: str) -> Any:
            return element(prepend_name_scope(name, import_scope))

        self._initializer_op = named(variable_def.initializer_name)
        self._initial_value = (
            named(variable_def.initial_value_name) if variable_def.initial_value_name else None
        )
        self._synchronization, self._aggregation, self._trainable = checked_modes(
            variable_def.synchronization,
            variable_def.aggregation,
            variable_def.trainable,
            variable_def.variable_name,
        )
        if variable_def.HasField("save_slice_info_def"):
            self._save_slice_info = SaveSliceInfo(
                save_slice_info_def=variable_def.save_slice_info_def, import_scope=import_scope
            )
        self._constraint = None
        return named(variable_def.variable_name)

    @staticmethod
    def from_proto(variable_def: Any, import_scope: str | None = None) -> Variable:
        """The object for a variable whose nodes are in the graph, from its VariableDef."""
        from headrace.api.ref_variable import RefVariable
        from headrace.api.resource_variable import ResourceVariable

        kind = ResourceVariable if variable_def.is_resource else RefVariable
        return kind(variable_def=variable_def, import_scope=import_scope)

    # ---- Python's protocols

    def experimental_ref(self) -> Reference:
        """A key for sets and dictionaries that stands for this very variable; `deref()` gives it back."""
        return Reference(self)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __iter__(self) -> Any:
        raise TypeError("'Variable' object is not iterable.")

    def __getitem__(self, key: Any) -> Tensor:
        from headrace.api.slicing import slice_helper

        return slice_helper(self.value(), key, self)

    @staticmethod
    def _OverloadAllOperators() -> None:
        """Kept for programs that call it: operators are those of Tensor, looked up when they are used."""


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: Variable, *args: Any) -> Any:
        return getattr(Tensor, name)(self.value(), *args)

    return functools.update_wrapper(apply, getattr(Tensor, name))


for _name in OVERLOADABLE - {"__eq__", "__ne__", "__getitem__"}:
    setattr(Variable, _name, _operator(_name))
