"""Bodies of functions: graphs with inputs and outputs, which capture what they use of the graphs around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.core.dtypes import DType
from headrace.graph import attr_value
from headrace.graph.graph import Graph
from headrace.graph.op_def import lookup
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
        self.captures: dict[Tensor, Tensor] = {}
        # Operations outside that something inside has to wait for: the call waits for them.
        self.outer_control_inputs: list[Operation] = []
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
                raise ValueError(
                    f"{tensor!r} must be from the graph around the function {self.name!r}."
                )
            self.outer_graph.capture(tensor)
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
            obj = converted() or obj
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
                self._wait_outside(op)
            else:
                inside.append(item)
        return super().control_dependencies(inside)

    def _wait_outside(self, op: Operation) -> None:
        if op._graph is self.outer_graph:
            if op not in self.outer_control_inputs:
                self.outer_control_inputs.append(op)
        elif isinstance(self.outer_graph, FuncGraph):
            self.outer_graph._wait_outside(op)


class GraphFunction:
    """A function of the library: a name and a body. `definition` is its FunctionDef proto."""

    def __init__(self, graph: FuncGraph, grad_func_name: str = "") -> None:
        self.name = graph.name
        self.graph = graph
        self.grad_func_name = grad_func_name
        self.plans: dict[Any, Any] = {}  # how the body runs, by what its inputs are bound to

    @property
    def definition(self) -> Any:
        """The function as a FunctionDef proto."""
        from headrace.graph.function_def import to_function_def

        # Made anew each time: asking for a gradient gives a body more outputs.
        return to_function_def(self)

    def add_to_graph(self, graph: Graph) -> None:
        """Adds the function to the library of `graph`."""
        root(graph)._functions.setdefault(self.name, self)


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
    found = []
    for spec in op._definition.function_attrs:
        value = op._attrs.get(spec)
        for reference in value if isinstance(value, list) else [value]:
            if reference is not None:
                found.append((spec, function_named(op, reference.name)))
    return found


def function_named(op: Operation, name: str) -> GraphFunction:
    """The function `name` of the library of the graph of `op`. Raises LookupError: there is none."""
    function = op._graph._functions.get(name)
    if function is None:
        raise LookupError(
            f"{op.type} op {op._name!r} calls the function {name!r}, which is not in the graph's library"
        )
    return function


def call_inputs(op: Operation) -> Sequence[Tensor]:
    """The inputs of `op` that its functions get: those of its variadic argument."""
    arguments = op._definition.signature.inputs
    before = sum(1 for a in arguments if not a.is_list)
    return op._inputs[before:]
