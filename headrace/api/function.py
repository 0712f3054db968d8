"""`tf.function` while graphs are built: a Python function becomes a function of the graph, called by a node."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.export import export
from headrace.core import nest
from headrace.core.tensor_shape import as_shape
from headrace.graph import convert, default
from headrace.graph.func_graph import FuncGraph, call_inputs, new_function, unique_function_name
from headrace.graph.operation import Operation
from headrace.graph.ordered_graph import OrderedGraph
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import TensorSpec


class _Traced:
    """One body of a function: built for a graph, and for arguments that TensorSpecs stand for."""

    def __init__(
        self, python_function: Callable[..., Any], name: str, args: Any, kwargs: Any, outer: Any
    ) -> None:
        self.graph = OrderedGraph(unique_function_name(outer, f"__inference_{name}"), outer)
        self.arguments: list[Tensor] = []
        with self.graph.as_default(), self.graph.name_scope(None):

            def stand_in(value: Any) -> Any:
                if not isinstance(value, TensorSpec):
                    return value
                inner = self.graph.add_input(value.dtype, value.shape._dims, value.name or "args")
                self.arguments.append(inner)
                return inner

            args = nest.map_structure(stand_in, args)
            kwargs = nest.map_structure(stand_in, kwargs)
            result = python_function(*args, **kwargs)
            self.structure = nest.map_structure(self._leaf, result) if result is not None else None
            flat = (
                [t for t in nest.flatten(self.structure) if t is not None]
                if result is not None
                else []
            )
            self.graph.outputs = [self.graph.capture(t) for t in flat]
        self.reference = new_function(self.graph)

    def _leaf(self, value: Any) -> Any:
        if value is None or isinstance(value, Operation):
            return None
        return convert.convert_to_tensor(value)

    def call(self, values: Sequence[Tensor]) -> Any:
        """Adds the node that calls the body."""
        from headrace.api.function_bodies import call_op

        own = set(self.arguments)
        captured = list(self.graph.captures)
        rest = [t for t in self.graph.inputs if t not in own]
        assert len(rest) == len(captured)
        self.graph.inputs = [*self.arguments, *(self.graph.captures[t] for t in captured)]
        with default.get_default_graph().control_dependencies(self.graph.outer_control_inputs):
            op = call_op(
                "StatefulPartitionedCall",
                {"args": [*values, *captured]},
                {"Tout": [t._dtype.base_dtype for t in self.graph.outputs], "f": self.reference},
            )
        assert len(call_inputs(op)) == len(self.graph.inputs)
        if self.structure is None:
            return op
        outputs = iter(op.outputs)
        return nest.map_structure(lambda t: None if t is None else next(outputs), self.structure)


class Function:
    """A Python function that is called as a function of the graph; traced anew for arguments of other types or shapes."""

    def __init__(
        self, python_function: Callable[..., Any], name: str | None, input_signature: Any
    ) -> None:
        self.python_function = python_function
        self._name = name or getattr(python_function, "__name__", "function")
        self._input_signature = input_signature
        self._traced: dict[Any, _Traced] = {}
        self._lock = threading.RLock()
        functools.update_wrapper(self, python_function)

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        bound = functools.partial(self.python_function, instance)
        key = f"_headrace_function_{self._name}"
        found = instance.__dict__.get(key)
        if found is None:
            found = instance.__dict__[key] = Function(bound, self._name, self._input_signature)
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        traced, values = self._traced_for(args, kwargs)
        return traced.call(values)

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> ConcreteFunction:
        """The function for arguments like these: tensors, or TensorSpecs that stand for them.

        Without arguments where there is an `input_signature`: for that.
        """
        if self._input_signature is not None and not args and not kwargs:
            args = tuple(self._input_signature)
        traced, values = self._traced_for(args, kwargs)
        return ConcreteFunction(traced, self._name, len(values))

    def _traced_for(self, args: Any, kwargs: Any) -> tuple[_Traced, list[Any]]:
        """The body for these arguments, and those that it gets as inputs."""
        signature = None if self._input_signature is None else list(self._input_signature)
        if signature is not None:
            if len(args) != len(signature):
                raise TypeError(
                    f"{self._name} takes {len(signature)} arguments by its input_signature, got {len(args)}"
                )
            values = nest.flatten_up_to(signature, list(args))
            checked = [
                self._signed(v, s) for v, s in zip(values, nest.flatten(signature), strict=True)
            ]
            args = tuple(nest.pack_sequence_as(signature, checked))
        args = nest.map_structure(_as_argument, args)
        kwargs = nest.map_structure(_as_argument, kwargs)
        values = [v for v in nest.flatten([args, kwargs]) if isinstance(v, (Tensor, TensorSpec))]
        # A signature says how much is known of shapes, whatever a call brings.
        args = nest.map_structure(_as_spec, args) if signature is None else tuple(signature)
        kwargs = nest.map_structure(_as_spec, kwargs)
        outer = default.get_default_graph()
        key = (
            id(outer),
            tuple(
                (v.dtype, v.shape._dims) if isinstance(v, TensorSpec) else _hashable(v)
                for v in nest.flatten([args, kwargs])
            ),
            len(args),
        )
        with self._lock:
            traced = self._traced.get(key)
            if traced is None or traced.graph.outer_graph is not outer:
                traced = self._traced[key] = _Traced(
                    self.python_function, self._name, args, kwargs, outer
                )
        return traced, values

    @staticmethod
    def _signed(value: Any, spec: Any) -> Any:
        if not isinstance(spec, TensorSpec):
            raise TypeError(f"Invalid input_signature: {spec}; it must hold tf.TensorSpecs")
        if isinstance(value, TensorSpec):
            return value
        tensor = convert.convert_to_tensor(value, spec.dtype)
        if not as_shape(spec.shape).is_compatible_with(tensor.shape):
            raise ValueError(
                f"Python inputs incompatible with input_signature: got shape {tensor.shape}, needs {spec.shape}"
            )
        return tensor


class ConcreteFunction:
    """One body of a function: called with tensors of its types; a function of the library, by its name."""

    def __init__(self, traced: _Traced, name: str, count: int) -> None:
        self._traced, self._count = traced, count
        self.__name__ = name

    @property
    def name(self) -> str:
        """The name in the library."""
        return self._traced.graph.name

    @property
    def graph(self) -> FuncGraph:
        """The body."""
        return self._traced.graph

    @property
    def inputs(self) -> list[Tensor]:
        """The inputs of the body: its arguments, then what it captured."""
        return list(self._traced.graph.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        """The outputs of the body."""
        return list(self._traced.graph.outputs)

    @property
    def captured_inputs(self) -> list[Tensor]:
        """The tensors around that the body uses."""
        return list(self._traced.graph.captures)

    @property
    def structured_outputs(self) -> Any:
        """The outputs of the body in the structure that the Python function gave."""
        return self._traced.structure

    @property
    def function_def(self) -> Any:
        """The function as a FunctionDef proto."""
        return self._traced.graph._functions[self.name].definition

    def add_to_graph(self, graph: Any) -> None:
        """Adds the function to the library of `graph`."""
        self._traced.graph._functions[self.name].add_to_graph(graph)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The results for these tensors. Raises TypeError: another number of them."""
        values = [v for v in nest.flatten([args, kwargs]) if v is not None]
        if len(values) != self._count:
            raise TypeError(f"{self.__name__} takes {self._count} tensors, got {len(values)}")
        kinds = [t._dtype for t in self._traced.arguments]
        converted = [convert.convert_to_tensor(v, k) for v, k in zip(values, kinds, strict=True)]
        return self._traced.call(converted)


def _as_spec(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return TensorSpec(value.shape, value._dtype, value._op._name.rpartition("/")[2])


def _as_argument(value: Any) -> Any:
    import numpy as np

    return convert.convert_to_tensor(value) if isinstance(value, np.ndarray) else value


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return (type(value), value)


@export("function")
def function(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    autograph: bool = True,
    experimental_autograph_options: Any = None,
    experimental_relax_shapes: bool = False,
    experimental_compile: bool | None = None,
) -> Any:
    """Makes `func` a function of the graph: its body is built once for each kind of arguments, calls are nodes.

    input_signature: TensorSpecs of the arguments; others are refused. The remaining arguments are accepted for
    programs that give them:
    Python control flow over tensors (autograph) is not converted, and everything is compiled.
    """

    def decorate(python_function: Callable[..., Any]) -> Function:
        return Function(python_function, None, input_signature)

    return decorate(func) if func is not None else decorate
