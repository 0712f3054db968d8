"""A node of the graph: one application of an op type to tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from headrace.core import errors, site
from headrace.core.dtypes import DType
from headrace.core.tensor_shape import TensorShape
from headrace.graph.op_def import OpDef
from headrace.graph.tensor import Tensor

if TYPE_CHECKING:
    from headrace.graph.graph import Graph


class Operation:
    """One node: its type, name, inputs, control inputs, attrs, device and the line of the program that made it.

    Attr values are plain Python: DType, TensorShape, np.ndarray for `tensor`, str (bytes where not UTF-8) for
    `string`, `FunctionRef` for `func`, lists of these.
    """

    __slots__ = (
        "__weakref__",
        "_attrs",
        "_control_flow_context",
        "_control_inputs",
        "_control_outputs",
        "_definition",
        "_device",
        "_gradient_function",
        "_graph",
        "_id",
        "_inputs",
        "_name",
        "_original_op",
        "_outputs",
        "_scope_entries",
        "_stack",
    )

    def __init__(
        self,
        graph: Graph,
        definition: OpDef,
        name: str,
        inputs: list[Tensor],
        attrs: dict[str, Any],
        output_types: Sequence[DType],
        control_inputs: list[Operation],
        device: str,
    ) -> None:
        self._graph = graph
        self._definition = definition
        self._name = name
        self._inputs = tuple(inputs)
        self._attrs = attrs
        self._control_inputs = control_inputs
        self._control_outputs: list[Operation] | None = None
        self._device = device
        self._original_op: Operation | None = None
        self._control_flow_context: Any = None
        self._gradient_function: Any = None
        self._scope_entries: tuple[list[Any], list[Any]] = ([], [])  # of devices and colocation
        self._stack = site.capture_stack()
        self._id = 0
        self._outputs = [Tensor(self, i, dtype) for i, dtype in enumerate(output_types)]

    # ---- what it is

    @property
    def graph(self) -> Graph:
        """The graph that holds this operation."""
        return self._graph

    @property
    def name(self) -> str:
        """The full name, scopes included."""
        return self._name

    @property
    def type(self) -> str:
        """The op type, such as "MatMul"."""
        return self._definition.name

    @property
    def definition(self) -> OpDef:
        """The record of the op type."""
        return self._definition

    @property
    def device(self) -> str:
        """The device asked for; "" where the placer may choose."""
        return self._device

    def _set_device(self, device: Any) -> None:
        self._device = device if isinstance(device, str) else device.to_string()

    @property
    def inputs(self) -> Sequence[Tensor]:
        """The input tensors."""
        return InputList(self._inputs)

    @property
    def control_inputs(self) -> list[Operation]:
        """The operations that must run before this one."""
        return list(self._control_inputs)

    @property
    def _control_outputs_list(self) -> list[Operation]:
        return list(self._control_outputs or ())

    @property
    def outputs(self) -> list[Tensor]:
        """The output tensors."""
        return list(self._outputs)

    def values(self) -> tuple[Tensor, ...]:
        """The output tensors, as a tuple."""
        return tuple(self._outputs)

    @property
    def _input_types(self) -> list[DType]:
        """The types that the signature asks for: a reference type only where a reference is needed."""
        types: list[DType] = []
        for argument, group in zip(
            self._definition.signature.inputs,
            group_by_argument(self, list(self._inputs)),
            strict=True,
        ):
            tensors = group if isinstance(group, list) else [group]
            types += [t._dtype if argument.is_ref else t._dtype.base_dtype for t in tensors]
        return types

    @property
    def _output_types(self) -> list[int]:
        return [t._dtype.as_datatype_enum for t in self._outputs]

    @property
    def _is_stateful(self) -> bool:
        return self._definition.is_stateful

    @property
    def _id_value(self) -> int:
        return self._id

    # ---- attrs

    def attr(self, name: str) -> Any:
        """The attr in the system's own form. Raises ValueError: there is none of this name."""
        try:
            return self._attrs[name]
        except KeyError:
            raise ValueError(
                f"Operation {self._name!r} has no attr named {name!r}; {self.type} has {sorted(self._attrs)}"
            ) from None

    def get_attr(self, name: str) -> Any:
        """The attr as TensorFlow's API gives it: bytes for a string, protos for shapes, tensors and functions.

        Raises ValueError: there is none of this name.
        """
        from headrace.graph import attr_value

        return attr_value.public(self.attr(name))

    def _set_attr(self, name: str, value: Any) -> None:
        from headrace.graph import attr_value

        self._attrs[name] = attr_value.from_proto(value)
        self._graph._mutations += 1

    def _set_attr_value(self, name: str, value: Any) -> None:
        """Sets an attr in the system's own form."""
        self._attrs[name] = value
        self._graph._mutations += 1

    @property
    def node_def(self) -> Any:
        """This node as a NodeDef proto."""
        from headrace.graph import graph_def

        return graph_def.node_to_proto(self)

    _node_def = node_def

    @property
    def op_def(self) -> Any:
        """The signature of the op type as an OpDef proto."""
        from headrace.graph import graph_def

        return graph_def.op_def_to_proto(self._definition)

    def colocation_groups(self) -> list[bytes]:
        """The colocation groups of this node, as `loc:@name`."""
        groups = self._attrs.get("_class")
        if not groups:
            return [b"loc:@" + self._name.encode()]
        encoded = [g if isinstance(g, bytes) else g.encode() for g in groups]
        found = [g for g in encoded if g.startswith(b"loc:@")]
        return found or [b"loc:@" + self._name.encode()]

    # ---- changes (control flow and importers need them; a session notices through the graph's count)

    def _add_control_input(self, op: Operation) -> None:
        self._add_control_inputs([op])

    def _add_control_inputs(self, ops: Iterable[Operation]) -> None:
        ops = list(ops)
        for op in ops:
            if not isinstance(op, Operation):
                raise TypeError(f"op must be an Operation: {op}")
            if op._graph is not self._graph:
                raise ValueError(f"{op._name!r} and {self._name!r} must be from the same graph.")
        for op in ops:
            if op not in self._control_inputs:
                self._control_inputs.append(op)
                op._note_control_output(self)
        self._graph._mutations += 1

    def _remove_all_control_inputs(self) -> None:
        for op in self._control_inputs:
            if op._control_outputs:
                op._control_outputs.remove(self)
        self._control_inputs.clear()
        self._graph._mutations += 1

    def _note_control_output(self, op: Operation) -> None:
        if self._control_outputs is None:
            self._control_outputs = []
        self._control_outputs.append(op)

    def _update_input(self, index: int, tensor: Tensor) -> None:
        """Replaces input `index`. Raises TypeError or ValueError: not a tensor of this graph, or of another type."""
        if not isinstance(tensor, Tensor):
            raise TypeError(f"tensor must be a Tensor: {tensor}")
        if tensor.graph is not self._graph:
            raise ValueError(
                f"Tensor {tensor.name!r} must be from the same graph as operation {self._name!r}."
            )
        if not 0 <= index < len(self._inputs):
            raise errors.OutOfRangeError(
                None,
                self,
                f"Cannot update edge. Input index [{index}] is greater than the number of total inputs "
                f"[{len(self._inputs)}].",
            )
        old = self._inputs[index]
        if not tensor.shape.is_compatible_with(old.shape):
            new_dims, old_dims = (
                str(list(t._dims or ())).replace(" ", "").replace("None", "?")
                for t in (tensor, old)
            )
            raise errors.InvalidArgumentError(
                None, self, f"Cannot update edge, incompatible shapes: {new_dims} and {old_dims}."
            )
        wanted, got = old._dtype.base_dtype, tensor._dtype.base_dtype
        if wanted != got:
            # Reported when it runs, as in TensorFlow: until then the program may change it back.
            self._graph._invalid_edges[self] = (
                f"Input {index} of node {self._name} was passed {got.name} from {tensor.name} incompatible with "
                f"expected {wanted.name}."
            )
        else:
            self._graph._invalid_edges.pop(self, None)
        old._consumers.remove(self)
        inputs = list(self._inputs)
        inputs[index] = tensor
        self._inputs = tuple(inputs)
        tensor._consumers.append(self)
        self._graph._mutations += 1

    # ---- where it was made

    def site(self) -> Any:
        """The line of the program that made this operation (filename, lineno, function), or None."""
        return site.site_of(self._stack)

    @property
    def traceback(self) -> list[Any]:
        """The frames of the program that made this operation: (filename, lineno, name, line)."""
        return site.format_stack(self._stack)

    def error(self, message: str) -> ValueError:
        """The error for a rule to raise while the graph is built; adds what and which op this is."""
        return ValueError(f"{self.type} op {self._name!r}: {message}{self._site_line()}")

    def type_error(self, message: str) -> TypeError:
        """As `error`, for a wrong type."""
        return TypeError(f"{self.type} op {self._name!r}: {message}{self._site_line()}")

    def invalid(self, message: str) -> errors.InvalidArgumentError:
        """The error for a rule to raise while the graph runs."""
        return errors.InvalidArgumentError(None, self, f"{self.type} op {self._name!r}: {message}")

    def _site_line(self) -> str:
        where = self.site()
        return (
            f"\n  defined at {where.filename}:{where.lineno}, in {where.function}" if where else ""
        )

    def static(self, index: int) -> Any:
        """The value of input `index` as far as it is known while the graph is built: an array, or None."""
        from headrace.graph.constant_value import constant_value

        return constant_value(self._inputs[index])

    def output_dtype(self, index: int = 0) -> DType:
        """The type of output `index`."""
        return self._outputs[index]._dtype

    @property
    def facts(self) -> Any:
        """What the lowering rule needs to know of the graph besides attrs (see `OpDef.facts`)."""
        rule = self._definition.facts_rule
        return None if rule is None else rule(self)

    @property
    def traceback_with_start_lines(self) -> list[Any]:
        """As `traceback`, each frame with the first line of its function at the end."""
        starts = [code.co_firstlineno for code, _ in reversed(self._stack)]
        return [(*line, start) for line, start in zip(self.traceback, starts, strict=True)]

    @property
    def _device_assignments(self) -> list[Any]:
        """The blocks of `device` in force when this was made, the outermost first: obj, filename, lineno."""
        return list(self._scope_entries[0])

    @property
    def _colocation_dict(self) -> dict[str, Any]:
        """The anchors of colocation by name, with the place of the block."""
        from headrace.graph.scopes import ColocationMetadata

        return {op._name: ColocationMetadata(where) for op, where in self._scope_entries[1]}

    # ---- running

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Runs this operation in `session` or in the default session."""
        from headrace.graph.default import session_for

        session_for(session, self._graph, f"execute operation {self._name!r}").run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<tf.Operation '{self._name}' type={self.type}>"

    def __str__(self) -> str:
        return str(self.node_def)

    def output_shapes(self) -> list[TensorShape]:
        """The static shapes of the outputs."""
        return [t.shape for t in self._outputs]


class InputList(tuple):
    """The inputs of an operation: a tuple that prints and adds as TensorFlow's list of inputs."""

    __slots__ = ()

    def __add__(self, other: Any) -> list[Tensor]:  # type: ignore[override]
        return list(self) + list(other)

    def __radd__(self, other: Any) -> list[Tensor]:
        return list(other) + list(self)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return tuple.__hash__(self)


def infer_shapes(op: Operation) -> None:
    """Sets the static shapes of the outputs of `op`, by the shape rule of its record."""
    definition = op._definition
    outputs = op._outputs
    if not outputs:
        if definition.shape_rule is not None:
            definition.shape_rule(op, *_grouped_dims(op))
        return
    rule = definition.shape_rule
    if rule is None:
        raise LookupError(f"op type {definition.name} has no shape rule")
    dims = rule(op, *_grouped_dims(op))
    if dims.__class__ is list:
        if len(dims) != len(outputs):
            raise AssertionError(
                f"{definition.name}: {len(dims)} shapes for {len(outputs)} outputs"
            )
        for tensor, d in zip(outputs, dims, strict=True):
            object.__setattr__(tensor, "_dims", d)
    else:
        object.__setattr__(outputs[0], "_dims", dims)


def _grouped_dims(op: Operation) -> list[Any]:
    """The static shapes of the inputs, one entry for each argument of the signature (a list where it is variadic)."""
    return group_by_argument(op, [t._dims for t in op._inputs])


def group_by_argument(op: Any, values: list[Any]) -> list[Any]:
    """Values for the flat inputs of `op`, regrouped so that a variadic argument is one list."""
    arguments = op._definition.signature.inputs
    if len(arguments) == len(values) and not any(a.is_list for a in arguments):
        return values
    grouped: list[Any] = []
    at = 0
    for argument in arguments:
        count = argument.count(op._attrs)
        grouped.append(values[at : at + count] if argument.is_list else values[at])
        at += count
    return grouped
