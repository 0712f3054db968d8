"""Variables behind a resource handle: every read is a node of its own, ordered by control dependencies."""

from __future__ import annotations

import contextlib
from typing import Any

from headrace.api.framework import name_scope
from headrace.api.safe_initial_value import safe_initial_value
from headrace.api.variable_arguments import checked_collections, checked_modes, refuse_inner_tensor
from headrace.api.variable_base import Variable
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import default, raw
from headrace.graph.collection_protos import prepend_name_scope
from headrace.graph.convert import convert_to_tensor, register_tensor_conversion_function
from headrace.graph.tensor import Tensor


class BaseResourceVariable(Variable):
    """What is done through a handle; the parts of which it is made are given to the constructor."""

    def __init__(
        self,
        handle: Tensor,
        dtype: Any,
        shape: TensorShape,
        graph_element: Tensor | None = None,
        initial_value: Any = None,
        initializer_op: Any = None,
        is_initialized_op: Any = None,
        cached_value: Tensor | None = None,
        trainable: bool = False,
        synchronization: Any = None,
        aggregation: Any = None,
        constraint: Any = None,
    ) -> None:
        self._handle = handle
        self._dtype = dtype
        self._shape = as_shape(shape)
        self._graph_element = graph_element
        self._initial_value = initial_value
        self._initializer_op = initializer_op
        self._is_initialized_op = is_initialized_op
        self._cached_value = cached_value
        self._synchronization, self._aggregation, self._trainable = checked_modes(
            synchronization, aggregation, trainable, None
        )
        self._constraint = constraint

    # ---- what it is

    @property
    def handle(self) -> Tensor:
        """The handle, for what reads or writes the variable."""
        return self._handle

    @property
    def name(self) -> str:
        return self._handle.name

    @property
    def dtype(self) -> Any:
        return self._dtype

    @property
    def shape(self) -> TensorShape:
        return self._shape

    @property
    def op(self) -> Any:
        return self._handle.op

    @property
    def graph(self) -> Any:
        return self._handle.graph

    @property
    def device(self) -> str:
        return self._handle.device

    @property
    def create(self) -> Any:
        """The operation that gives the variable its initial value."""
        return self._initializer_op

    @property
    def _snapshot_name(self) -> str:
        source = self._cached_value if self._cached_value is not None else self._graph_element
        return source.name  # type: ignore[union-attr]

    @property
    def _values_for_control(self) -> Any:
        # As a control input the variable stands for the operation that made it, or wrote it.
        return self.op

    def _as_graph_element(self) -> Any:
        return self._graph_element

    def _shape_tuple(self) -> Any:
        return self._shape._dims

    def _shape_as_list(self) -> Any:
        return None if self._shape._dims is None else list(self._shape._dims)

    def to_proto(self, export_scope: str | None = None) -> Any:
        proto = super().to_proto(export_scope)
        if proto is not None:
            proto.is_resource = True
        return proto

    def set_shape(self, shape: Any) -> None:
        raise NotImplementedError("ResourceVariable does not implement set_shape()")

    def __bool__(self) -> bool:
        return bool(self.read_value())

    def __copy__(self) -> BaseResourceVariable:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        raise NotImplementedError(
            "__deepcopy__() is only available when eager execution is enabled."
        )

    def numpy(self) -> Any:
        """The value as an array, where operations run at once."""
        raise NotImplementedError("numpy() is only available when eager execution is enabled.")

    # ---- reading

    def _in_graph(self) -> contextlib.AbstractContextManager[Any]:
        """A block in the graph of the handle, unless a function is being built there."""
        current = default.get_default_graph()
        if current.building_function or current is self._handle.graph:
            return contextlib.nullcontext()
        return self._handle.graph.as_default()

    def _read_variable_op(self) -> Tensor:
        return raw.ReadVariableOp(self._handle, dtype=self._dtype)

    def value(self) -> Tensor:
        """A tensor with the value, on the variable's device."""
        if self._cached_value is not None:
            return self._cached_value
        graph = default.get_default_graph()
        with (
            graph.colocate_with(None, ignore_existing=True),
            graph.device(self._handle.device or _keep_device),
        ):
            return self._read_variable_op()

    def read_value(self) -> Tensor:
        graph = default.get_default_graph()
        with graph.name_scope("Read"), graph.device(self._handle.device or _keep_device):
            value = self._read_variable_op()
        return raw.Identity(value)

    def is_initialized(self, name: str | None = None) -> Tensor:
        """Whether the session has a value: a bool scalar."""
        return raw.VarIsInitializedOp(self._handle, name=name)

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        with name_scope("Gather" if name is None else name) as scope:
            value = raw.ResourceGather(self._handle, indices, dtype=self._dtype, name=scope)
        return raw.Identity(value)

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        with name_scope("GatherNd" if name is None else name) as scope:
            value = raw.ResourceGatherNd(self._handle, indices, dtype=self._dtype, name=scope)
        return raw.Identity(value)

    # ---- writing

    def _lazy_read(self, op: Any) -> Any:
        return _UnreadVariable(self._handle, self._dtype, self._shape, op)

    def assign(
        self,
        value: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        with self._in_graph():
            tensor = convert_to_tensor(value, self._dtype)
            self._shape.assert_is_compatible_with(tensor.shape)
            op = raw.AssignVariableOp(self._handle, tensor, name=name)
            return self._lazy_read(op) if read_value else op

    def assign_add(
        self,
        delta: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        with self._in_graph():
            op = raw.AssignAddVariableOp(
                self._handle, convert_to_tensor(delta, self._dtype), name=name
            )
            return self._lazy_read(op) if read_value else op

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        with self._in_graph():
            op = raw.AssignSubVariableOp(
                self._handle, convert_to_tensor(delta, self._dtype), name=name
            )
            return self._lazy_read(op) if read_value else op

    def _strided_slice_assign(
        self,
        begin: Any,
        end: Any,
        strides: Any,
        value: Any,
        name: str | None,
        begin_mask: int,
        end_mask: int,
        ellipsis_mask: int,
        new_axis_mask: int,
        shrink_axis_mask: int,
    ) -> Any:
        with self._in_graph():
            op = raw.ResourceStridedSliceAssign(
                self._handle,
                begin,
                end,
                strides,
                convert_to_tensor(value, self._dtype),
                begin_mask=begin_mask,
                end_mask=end_mask,
                ellipsis_mask=ellipsis_mask,
                new_axis_mask=new_axis_mask,
                shrink_axis_mask=shrink_axis_mask,
                name=name,
            )
            return self._lazy_read(op)


def _keep_device(op: Any) -> str:
    """A device function that asks for nothing."""
    return op.device


class ResourceVariable(BaseResourceVariable):
    """A variable behind a `VarHandleOp` node."""

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        dtype: Any = None,
        variable_def: Any = None,
        import_scope: str | None = None,
        constraint: Any = None,
        distribute_strategy: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        if variable_def is not None:
            if initial_value is not None:
                raise ValueError("variable_def and initial_value are mutually exclusive.")
            self._init_from_proto(variable_def, import_scope)
            return
        synchronization, aggregation, trainable = checked_modes(
            synchronization, aggregation, trainable, name
        )
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        refuse_inner_tensor(name, initial_value)
        collections = checked_collections(collections, constraint, trainable)
        with (
            default.init_scope(),
            name_scope(
                name, "Variable", [] if callable(initial_value) else [initial_value]
            ) as scope,
        ):
            graph = default.get_default_graph()
            parts = self._add_nodes(graph, scope, initial_value, dtype, shape, caching_device)
            super().__init__(
                trainable=trainable,
                synchronization=synchronization,
                aggregation=aggregation,
                constraint=constraint,
                **parts,
            )
            graph.add_to_collections(collections, self)

    def _add_nodes(
        self,
        graph: Any,
        scope: str,
        initial_value: Any,
        dtype: Any,
        shape: Any,
        caching_device: Any,
    ) -> dict[str, Any]:
        """Makes the initial value, the handle, the initializer and a read."""
        shared_name = scope[:-1]
        # Colocated with a node that does not exist yet: by name.
        with graph._attr_scope({"_class": [f"loc:@{shared_name}"]}):
            with graph.name_scope("Initializer"), graph.device(None):
                value = initial_value() if callable(initial_value) else initial_value
                initial = convert_to_tensor(value, dtype, "initial_value")
            if shape is None:
                declared = initial.shape
            else:
                declared = as_shape(shape)
                if not initial.shape.is_compatible_with(declared):
                    raise ValueError(
                        f"The initial value's shape ({initial.shape}) is not compatible with the explicitly supplied "
                        f"`shape` argument ({declared})."
                    )
            kind = initial.dtype.base_dtype
            handle = raw.VarHandleOp(
                dtype=kind, shape=declared, shared_name=shared_name, name=scope
            )
        with graph.name_scope("IsInitialized"):
            is_initialized = raw.VarIsInitializedOp(handle)
        device = handle.device or _keep_device
        with (
            graph.name_scope("Assign") as assign_scope,
            graph.colocate_with(None, ignore_existing=True),
            graph.device(device),
        ):
            initializer = raw.AssignVariableOp(
                handle, safe_initial_value(scope, initial), name=assign_scope
            )
        cached = None
        with graph.name_scope("Read"):
            with graph.device(device):
                read = raw.ReadVariableOp(handle, dtype=kind)
            if caching_device is not None:
                with graph.colocate_with(None, ignore_existing=True), graph.device(caching_device):
                    cached = raw.Identity(read)
        return {
            "handle": handle,
            "dtype": kind,
            "shape": declared,
            "graph_element": read,
            "initial_value": initial,
            "initializer_op": initializer,
            "is_initialized_op": is_initialized,
            "cached_value": cached,
        }

    def _init_from_proto(self, variable_def: Any, import_scope: str | None) -> None:
        if not variable_def.is_resource:
            raise ValueError("Trying to restore Variable as ResourceVariable.")
        handle = self._handle = self._restore_from_proto(variable_def, import_scope)
        graph = handle.graph
        self._dtype = handle.op.attr("dtype")
        self._shape = handle.op.attr("shape")
        self._is_initialized_op = None
        self._cached_value = None
        if variable_def.snapshot_name:
            snapshot = graph.as_graph_element(
                prepend_name_scope(variable_def.snapshot_name, import_scope)
            )
            if snapshot.op.type != "ReadVariableOp":
                self._cached_value = snapshot
            while snapshot.op.type != "ReadVariableOp":
                snapshot = snapshot.op.inputs[0]
        else:
            snapshot = graph.get_tensor_by_name(f"{handle.op.name}/Read/ReadVariableOp:0")
        self._graph_element = snapshot


class _UnreadVariable(BaseResourceVariable):
    """The variable after a write: reading it comes after the operation that wrote."""

    def __init__(self, handle: Tensor, dtype: Any, shape: TensorShape, parent_op: Any) -> None:
        element = None
        graph = default.get_default_graph()
        if not graph.building_function:
            with graph.control_dependencies([parent_op]):
                element = raw.ReadVariableOp(handle, dtype=dtype)
        super().__init__(handle, dtype, shape, element)
        self._parent_op = parent_op

    @property
    def name(self) -> str:
        return self._parent_op.name

    @property
    def op(self) -> Any:
        """The operation that wrote."""
        return self._parent_op

    def _read_variable_op(self) -> Tensor:
        with default.get_default_graph().control_dependencies([self._parent_op]):
            return raw.ReadVariableOp(self._handle, dtype=self._dtype)

    def value(self) -> Tensor:
        return self._read_variable_op()

    def read_value(self) -> Tensor:
        return self._read_variable_op()


def _refuse_augmented(sign: str, advice: str) -> Any:
    def apply(self: BaseResourceVariable, other: Any) -> Any:
        raise RuntimeError(f"Variable {sign} value not supported. Use {advice}.")

    return apply


for _name, _sign, _advice in (
    (
        "iadd",
        "+=",
        "variable.assign_add(value) to modify the variable value and variable = variable + value to get "
        "a new Tensor object",
    ),
    (
        "isub",
        "-=",
        "variable.assign_sub(value) to modify the variable value and variable = variable - value to get "
        "a new Tensor object",
    ),
    (
        "imul",
        "*=",
        "`var.assign(var * value)` to modify the variable or `var = var * value` to get a new Tensor object",
    ),
    (
        "itruediv",
        "/=",
        "`var.assign(var / value)` to modify the variable or `var = var / value` to get a new Tensor object",
    ),
    (
        "ipow",
        "**=",
        "`var.assign(var ** value)` to modify the variable or `value = var ** value` to get a new Tensor object",
    ),
):
    setattr(BaseResourceVariable, f"__{_name}__", _refuse_augmented(_sign, _advice))


def is_resource_variable(variable: Any) -> bool:
    """Whether `variable` is one behind a resource handle."""
    return isinstance(variable, BaseResourceVariable) or hasattr(
        variable, "_should_act_as_resource_variable"
    )


def _to_tensor(
    variable: BaseResourceVariable, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Any:
    """The value of a variable where a tensor is needed, read where it is needed."""
    if dtype is not None and not dtype.is_compatible_with(variable.dtype):
        raise ValueError(
            f"Incompatible type conversion requested to type '{dtype.name}' for variable of type "
            f"'{variable.dtype.name}'"
        )
    return variable.read_value().op.inputs[0] if as_ref else variable.value()


register_tensor_conversion_function(BaseResourceVariable, _to_tensor)
