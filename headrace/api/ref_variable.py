"""Variables as TensorFlow 1 makes them by default: a node that gives out a reference."""

from __future__ import annotations

import warnings
from typing import Any

from headrace.api.framework import name_scope
from headrace.api.safe_initial_value import safe_initial_value
from headrace.api.variable_arguments import checked_collections, checked_modes, refuse_inner_tensor
from headrace.api.variable_base import Variable
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor, register_tensor_conversion_function
from headrace.graph.tensor import Tensor


class RefVariable(Variable):
    """A variable behind a `VariableV2` node; nodes that write it take its reference."""

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
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        if variable_def is not None:
            if initial_value is not None:
                raise ValueError("variable_def and initial_value are mutually exclusive.")
            self._variable = self._restore_from_proto(variable_def, import_scope)
            from headrace.graph.collection_protos import prepend_name_scope

            self._snapshot = self._variable.graph.as_graph_element(
                prepend_name_scope(variable_def.snapshot_name, import_scope)
            )
            return
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        refuse_inner_tensor(name, initial_value)
        self._synchronization, self._aggregation, self._trainable = checked_modes(
            synchronization, aggregation, trainable, name
        )
        collections = checked_collections(collections, constraint, self._trainable)
        self._constraint = constraint
        self._caching_device = caching_device
        with default.init_scope():
            graph = default.get_default_graph()
            values = [] if callable(initial_value) else [initial_value]
            with name_scope(name, "Variable", values) as scope:
                graph = default.get_default_graph()
                self._add_nodes(graph, scope, initial_value, dtype, shape, validate_shape)
                self._add_read(graph, caching_device)
            graph.add_to_collections(collections, self)

    def _add_nodes(
        self,
        graph: Any,
        scope: str,
        initial_value: Any,
        dtype: Any,
        shape: Any,
        validate_shape: bool,
    ) -> None:
        """Makes the initial value, the variable and the initializer."""

        def declared() -> TensorShape:
            if shape is not None:
                return as_shape(shape)
            return self._initial_value.shape if validate_shape else TensorShape(None)

        if callable(initial_value):
            # Colocated with a node that does not exist yet: by name.
            with graph._attr_scope({"_class": [f"loc:@{scope[:-1]}"]}):
                with graph.name_scope("Initializer"), graph.device(None):
                    self._initial_value = convert_to_tensor(initial_value(), dtype, "initial_value")
                self._variable = _add_variable(declared(), self._initial_value, scope)
        else:
            self._initial_value = convert_to_tensor(initial_value, dtype, "initial_value")
            self._variable = _add_variable(declared(), self._initial_value, scope)
        if validate_shape and not self._initial_value.shape.is_fully_defined():
            raise ValueError(f"initial_value must have a shape specified: {self._initial_value}")
        guarded = safe_initial_value(scope, self._initial_value)
        self._initializer_op = raw.Assign(self._variable, guarded, validate_shape=validate_shape).op

    def _add_read(self, graph: Any, caching_device: Any) -> None:
        block = (
            graph.colocate_with(self._variable.op)
            if caching_device is None
            else graph.device(caching_device)
        )
        with block:
            self._snapshot = raw.Identity(self._variable, name="read")

    # ---- what it is

    @property
    def name(self) -> str:
        return self._variable.name

    @property
    def dtype(self) -> Any:
        return self._variable.dtype

    @property
    def shape(self) -> TensorShape:
        return self._variable.shape

    @property
    def op(self) -> Any:
        return self._variable.op

    @property
    def _snapshot_name(self) -> str:
        return self._snapshot.name

    def _as_graph_element(self) -> Tensor:
        return self._variable

    def _ref(self) -> Tensor:
        """The reference, for what writes the variable."""
        return self._variable

    def set_shape(self, shape: Any) -> None:
        self._variable.set_shape(shape)
        self._snapshot.set_shape(shape)

    # ---- reading and writing

    def value(self) -> Tensor:
        """The `read` node: the value before this run, or after the writes that its users come after."""
        return self._snapshot

    def read_value(self) -> Tensor:
        return raw.Identity(self._variable, name="read")

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        done = raw.Assign(self._variable, value, use_locking=use_locking, name=name)
        return done if read_value else done.op

    def assign_add(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        done = raw.AssignAdd(self._variable, delta, use_locking=use_locking, name=name)
        return done if read_value else done.op

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        done = raw.AssignSub(self._variable, delta, use_locking=use_locking, name=name)
        return done if read_value else done.op

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
    ) -> Tensor:
        return raw.StridedSliceAssign(
            self._variable,
            begin,
            end,
            strides,
            value,
            begin_mask=begin_mask,
            end_mask=end_mask,
            ellipsis_mask=ellipsis_mask,
            new_axis_mask=new_axis_mask,
            shrink_axis_mask=shrink_axis_mask,
            name=name,
        )


def _add_variable(shape: TensorShape, initial_value: Tensor, scope: str) -> Tensor:
    return raw.VariableV2(shape=shape, dtype=initial_value.dtype.base_dtype, name=scope)


def _augmented(method: str, sign: str, advice: str) -> Any:
    def apply(self: RefVariable, other: Any) -> Any:
        warnings.warn(
            f"Variable {sign} makes a new tensor and does not assign; use {advice}.", stacklevel=2
        )
        return getattr(self, method)(other)

    apply.__name__ = f"__i{method[2:]}"
    return apply


for _method, _sign, _advice in (
    ("__add__", "+=", "`var.assign_add(value)` or `var = var + value`"),
    ("__sub__", "-=", "`var.assign_sub(value)` or `var = var - value`"),
    ("__mul__", "*=", "`var.assign(var * value)` or `var = var * value`"),
    ("__truediv__", "/=", "`var.assign(var / value)` or `var = var / value`"),
    ("__pow__", "**=", "`var.assign(var ** value)` or `var = var ** value`"),
):
    setattr(RefVariable, f"__i{_method[2:]}", _augmented(_method, _sign, _advice))


def _to_tensor(
    variable: RefVariable, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    """The value of a variable where a tensor is needed; its reference where one is needed."""
    if dtype is not None and not dtype.is_compatible_with(variable.dtype):
        raise ValueError(
            f"Incompatible type conversion requested to type '{dtype.name}' for variable of type "
            f"'{variable.dtype.name}'"
        )
    return variable._ref() if as_ref else variable.value()


register_tensor_conversion_function(RefVariable, _to_tensor)
