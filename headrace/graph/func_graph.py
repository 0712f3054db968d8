"""Bodies of functions: graphs with inputs and outputs, which capture what they use of the graphs around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.core.dtypes import DType, as_dtype
from headrace.graph import attr_value
from headrace.graph.graph import Graph
from headrace.graph.op_def import REGISTRY, ArgSpec, Effect, OpDef, Signature, lookup
from headrace.graph.operation import Operation
from headrace.graph.tensor import Dims, Tensor

# A small constant is copied into the body, where shape rules can see its value.
_COPIED_ELEMENTS = 4096


class FuncGraph(Graph):
    """A graph under construction as the body of a function.

    A tensor of the graphs around it that is used inside becomes an input of the body (`captures`: outer -> inner).
    Names, collections and seeds are shared with the graph around, as the body's operations belong to the program there.
    """

    def __init__(self, name: str, outer_graph: Graph) -> None:
        super().__init__()
        self.name = name
        self.outer_graph = outer_graph
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.control_outputs: list[Operation] = []
        self.place = ""  # what the body is, for messages: "true_fn", "a while loop"
        self.captures: dict[Tensor, Tensor] = {}
        # Operations outside that something inside has to wait for, and what stands for them inside: the call waits.
        self.outer_control_inputs: dict[Operation, Operation] = {}
        self._collections = outer_graph._collections
        self._functions = outer_graph._functions
        self._seed = outer_graph._seed
        self._names_in_use = dict(outer_graph._names_in_use)
        self._scopes.name = outer_graph._scopes.name
        self._scopes.gradient_overrides = outer_graph._scopes.gradient_overrides
        self._scopes.gradient_functions = outer_graph._scopes.gradient_functions
        self._scopes.container = outer_graph._scopes.container
        self._scopes.devices = list(outer_graph._scopes.devices)

    @property
    def building_function(self) -> bool:
        """True: operations given tensors of other graphs capture them."""
        return True

    @property
    def _last_id(self) -> int:
        # Seeds of random operations count the operations of the whole program.
        return self.outer_graph._last_id + len(self._operations)

    def add_input(self, dtype: DType, dims: Dims, name: str) -> Tensor:
        """Adds an input of the body: a placeholder that each call binds to a value."""
        definition = lookup("Placeholder")
        attrs = {"dtype": dtype.base_dtype, "shape": attr_value.as_shape(dims)}
        tensor = self.add_operation(
            definition, [], attrs, (dtype,), self.unique_name(name)
        )._outputs[0]
        object.__setattr__(tensor, "_dims", dims)
        self.inputs.append(tensor)
        return tensor

    def capture(self, tensor: Tensor, name: str | None = None) -> Tensor:
        """The tensor that stands for `tensor` (of a graph around this one) inside the body.

        Raises ValueError: `tensor` belongs to a graph that is not around this one.
        """
        if tensor.graph is self:
            return tensor
        found = self.captures.get(tensor)
        if found is not None:
            return found
        if tensor.graph is not self.outer_graph:
            if not isinstance(self.outer_graph, FuncGraph):
                # A constant is the same wherever a program made it.
                copied = self.copy_constant(tensor) if isinstance(tensor.graph, FuncGraph) else None
                if copied is None:
                    raise Misplaced(misplaced(tensor, self, ""))
                self.captures_of_constants[tensor] = copied
                return copied
            try:
                self.outer_graph.capture(tensor)
            except Misplaced:
                raise Misplaced(misplaced(tensor, self, "")) from None
        # Of numbers that gradients may be asked for, the body gets an input; `constant_value` knows it all the same.
        if not (tensor._dtype.is_floating or tensor._dtype.is_complex):
            copied = self.copy_constant(tensor)
            if copied is not None:
                self.captures_of_constants[tensor] = copied
                return copied
        with self._at_top():
            inner = self.add_input(
                tensor._dtype, tensor._dims, name or tensor._op._name.rpartition("/")[2]
            )
        if tensor._extra is not None:
            for key, value in tensor._extra.items():
                setattr(inner, key, value)
        inner._captured_from = tensor  # type: ignore[attr-defined]
        self.captures[tensor] = inner
        return inner

    @property
    def captures_of_constants(self) -> dict[Tensor, Tensor]:
        """Constants of the graphs around, and their copies inside."""
        return self.__dict__.setdefault("_constants", {})

    def copy_constant(self, tensor: Tensor) -> Tensor | None:
        """A constant of the body with the value of `tensor`, if that is a small constant."""
        op = tensor._op
        known = self.captures_of_constants.get(tensor)
        if known is not None:
            return known
        value = op._attrs.get("value")
        if (
            not isinstance(value, attr_value.TensorValue)
            or value.array.size > _COPIED_ELEMENTS
            or op._inputs
        ):
            return None
        with self._at_top():
            name = self.unique_name(op._name.rpartition("/")[2])
            copy = self.add_operation(op._definition, [], dict(op._attrs), [tensor._dtype], name)
        return copy._outputs[0]

    def _at_top(self) -> Any:
        """Inputs wait for nothing, whatever control dependencies are in force where they come up."""
        return self.control_dependencies(None)

    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Any:
        """As Graph's; tensors of the graphs around are captured, operations around are noted for the call to wait for."""
        converted = getattr(obj, "_as_graph_element", None)
        if converted is not None and not isinstance(obj, (Tensor, Operation)):
            element = converted()
            obj = obj if element is None else element
        if isinstance(obj, Tensor) and allow_tensor and obj.graph is not self:
            return self.capture(obj)
        return super().as_graph_element(obj, allow_tensor, allow_operation)

    def control_dependencies(self, control_inputs: Any) -> Any:
        """As Graph's, for what is inside; what is outside runs before the call."""
        if control_inputs is None:
            return super().control_dependencies(None)
        inside = []
        for item in control_inputs:
            element = getattr(item, "_as_graph_element", lambda item=item: item)()
            op = element._op if isinstance(element, Tensor) else getattr(element, "op", element)
            if isinstance(op, Operation) and op._graph is not self:
                inside += self._wait_outside(op)
            else:
                inside.append(item)
        return super().control_dependencies(inside)

    def _wait_outside(self, op: Operation) -> list[Operation]:
        """What inside stands for `op` having run; nothing where all that is inside comes after it anyway."""
        if op._graph is not self.outer_graph:
            if not isinstance(self.outer_graph, FuncGraph):
                return []
            return [m for o in self.outer_graph._wait_outside(op) for m in self._wait_outside(o)]
        if any(op in block.control_inputs for block in self.outer_graph._scopes.control):
            return []
        if op not in self.outer_control_inputs:
            name = self.unique_name(f"after_{op._name.rpartition('/')[2]}")
            with self._at_top():
                self.outer_control_inputs[op] = self.add_operation(lookup("NoOp"), [], {}, [], name)
        return [self.outer_control_inputs[op]]


class Misplaced(ValueError):
    """A tensor of a body is used where that body is not around."""


def misplaced(tensor: Tensor, graph: Graph, user: str) -> str:
    """Why `tensor`, of a body, cannot be used in `graph` (by the node `user`)."""
    source, place = getattr(tensor.graph, "place", ""), getattr(graph, "place", "")
    name = tensor._op._name
    branches = [p.endswith("_fn") or p.startswith("branch ") for p in (source, place)]
    if all(branches):
        short = name.rpartition("/")[2]
        return f"Tensor {short}:{tensor._index} in {source} is accessed from {place}."
    if not source:
        return (
            f"{tensor!r} must be from the graph around the function {getattr(graph, 'name', '')!r}."
        )
    scope = graph.get_name_scope()
    node = "/".join(part for part in (scope, user) if part) or place or "the graph"
    why = f"'{name}' is in {source}" if place != source else "they are in different while loops"
    return (
        f"Cannot use '{name}' as input to '{node}' because {why}. Return it from there to use it here."
        f"{tensor._op._site_line()}"
    )


@dataclass(frozen=True, slots=True)
class BoundFunction(attr_value.FunctionRef):
    """The value of a `func` attr that comes with its function: part of one of the library, which itself is in none."""

    function: Any = None


class GraphFunction:
    """A function of the library: a name and a body. `definition` is its FunctionDef proto."""

    def __init__(self, graph: FuncGraph, grad_func_name: str | None = None) -> None:
        self.name = graph.name
        self.graph = graph
        self.grad_func_name = grad_func_name
        self.plans: dict[Any, Any] = {}  # how the body runs, by what its inputs are bound to
        # What its FunctionDef says besides the body: attrs (as protos), names of the outputs, a description.
        self.attrs: dict[str, Any] = {}
        self.output_names: Sequence[str] = ()
        self.description = ""
        self.gradient: GraphFunction | None = None  # once it has been asked for

    @property
    def definition(self) -> Any:
        """The function as a FunctionDef proto."""
        from headrace.graph.function_def import to_function_def

        # Made anew each time: asking for a gradient gives a body more outputs.
        return to_function_def(self)

    def add_to_graph(self, graph: Graph) -> None:
        """Adds the function to the library of `graph`."""
        root(graph)._functions.setdefault(self.name, self)

    def op_type(self) -> FunctionOp:
        """The type of the nodes that call the function by its name."""
        return FunctionOp.of(self.definition.signature)


def _call(op: Any, functions: Any, *inputs: Any) -> tuple[Any, ...]:
    return tuple(functions.call("f", inputs))


def _shape_of_call(op: Operation, *inputs: Dims) -> list[Dims]:
    function = op._graph._functions.get(op.type)
    if function is None or op._attrs.get("_disable_call_shape_inference"):
        return [None] * len(op._outputs)
    return [t._dims for t in function.graph.outputs]


class FunctionOp(OpDef):
    """The type of a node that calls a function of the library: its name is that of the function."""

    __slots__ = ()

    gradient_of_call: Callable[..., Any] | None = None
    """The gradient of all such nodes: set by `autodiff`, which knows how to make it."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[tuple[str, DType]],
        outputs: Sequence[tuple[str, DType]],
        is_stateful: bool = False,
    ) -> None:
        ins, outs = (", ".join(f"{n}: {t.name}" for n, t in part) for part in (inputs, outputs))
        effects = Effect.STATEFUL if is_stateful else Effect.NONE
        super().__init__(name, f"{ins} -> {outs}", "", (), effects, False, False, (), (), (), False)
        self._signature = Signature(
            tuple(ArgSpec(n, t, None, None, None, False) for n, t in inputs),
            tuple(ArgSpec(n, t, None, None, None, False) for n, t in outputs),
            {},
            frozenset(),
            tuple(n for n, _ in inputs),
        )
        self._function_attrs = ("f",)
        self.shape_rule = _shape_of_call
        self.lower_rule = self.host_rule = _call
        self.gradient_rule = FunctionOp.gradient_of_call

    @classmethod
    def of(cls, signature: Any) -> FunctionOp:
        """The type for a signature as a proto (an OpDef). Raises ValueError: one with types that calls decide."""
        for argument in (*signature.input_arg, *signature.output_arg):
            if not argument.type:
                raise ValueError(
                    f"function {signature.name!r}: the type of {argument.name!r} is an attr of the call, which is not "
                    "supported"
                )
        inputs, outputs = (
            [(a.name, as_dtype(a.type)) for a in part]
            for part in (signature.input_arg, signature.output_arg)
        )
        return cls(signature.name, inputs, outputs, signature.is_stateful)


def op_type_named(graph: Graph, name: str) -> OpDef:
    """The record of an op type, or of calls of the function `name` of the library. Raises LookupError: neither."""
    if name not in REGISTRY and name in graph._functions:
        return graph._functions[name].op_type()
    return lookup(name)


def root(graph: Graph) -> Graph:
    """The graph around all functions that `graph` is a body in."""
    while isinstance(graph, FuncGraph):
        graph = graph.outer_graph
    return graph


def new_function(graph: FuncGraph) -> attr_value.FunctionRef:
    """Files the finished body as a function of the library around it; returns the value of an attr that names it."""
    GraphFunction(graph).add_to_graph(graph.outer_graph)
    return attr_value.FunctionRef(graph.name)


def unique_function_name(graph: Graph, base: str) -> str:
    """A name that no function of the library has."""
    functions = root(graph)._functions
    base = base.replace("/", "_")
    number = len(functions)
    while f"{base}_{number}" in functions:
        number += 1
    return f"{base}_{number}"


def functions_of(op: Operation) -> list[tuple[str, GraphFunction]]:
    """(attr, function) for each function that `op` calls. Raises LookupError: one is not in the library."""
    definition = op._definition
    if isinstance(definition, FunctionOp):
        return [("f", function_named(op, definition.name))]
    found = []
    for spec in definition.function_attrs:
        value = op._attrs.get(spec)
        for reference in value if isinstance(value, list) else [value]:
            if reference is not None:
                bound = isinstance(reference, BoundFunction)
                function = reference.function if bound else function_named(op, reference.name)
                if definition.derived_rule is not None:
                    function = definition.derived_rule(op, function)
                found.append((spec, function))
    return found


def function_named(op: Operation, name: str) -> GraphFunction:
    """The function `name` of the library of the graph of `op`. Raises LookupError: there is none."""
    function = op._graph._functions.get(name)
    if function is None:
        raise LookupError(
            f"{op.type} op {op._name!r} calls the function {name!r}, which is not in the graph's library"
        )
    return function


def with_lasting_effects(graph: FuncGraph) -> list[Operation]:
    """The operations of a body that run in every call, even if no output needs them: what they do outlives the call."""
    return [
        op
        for op in graph._operations
        if op._definition.is_stateful
        and not op._definition.effects & Effect.HANDLE
        and (
            op._definition.writes
            or op._definition.host_only
            or op._definition.effects & Effect.FALLIBLE
            or op._definition.function_attrs
        )
    ]


def call_inputs(op: Operation) -> Sequence[Tensor]:
    """The inputs of `op` that its functions get: those of its variadic argument."""
    if isinstance(op._definition, FunctionOp):
        return op._inputs
    arguments = op._definition.signature.inputs
    before = sum(1 for a in arguments if not a.is_list)
    return op._inputs[before:]
