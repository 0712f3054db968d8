"""Functions of the program as functions of the graph that take and return elements."""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import Callable
from typing import Any

from headrace.data import structure
from headrace.graph import attr_value, default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.func_graph import FuncGraph, GraphFunction, root, with_lasting_effects
from headrace.graph.graph import Graph
from headrace.graph.tensor import Tensor


class _Body(FuncGraph):
    """The body: names begin anew, and so does the count of operations that seeds follow from."""

    def __init__(self, name: str, outer: Graph) -> None:
        super().__init__(name, outer)
        self.place = name
        self._names_in_use = {}
        self._scopes.name = ""
        self._scopes.devices = []

    @property
    def _last_id(self) -> int:
        return len(self._operations)


class StructuredFunction:
    """A function on elements. The attr `ref` of a node names it; `captured` are the tensors that the node hands it.

    transformation: what it is for, in its name and in messages ("Dataset.map()").
    Raises TypeError: it returns what no tensors can be made of.
    """

    def __init__(self, function: Callable[..., Any], transformation: str, spec: Any) -> None:
        outer = default.get_default_graph()
        base = f"{transformation.replace('.', '_')[:-2]}_{_name_of(function)}"
        self.graph = _Body(_unique_name(outer, f"__inference_{base}"), outer)
        with self.graph.as_default():
            inputs = [
                self.graph.add_input(s.dtype, s.shape._dims, f"args_{i}")
                for i, s in enumerate(structure.flat_specs(spec))
            ]
            arguments = structure.from_tensors(spec, inputs)
            unpacked = arguments if type(arguments) is tuple else (arguments,)
            result = function(*unpacked)
            if isinstance(result, list):  # of tensors that need not fit together
                result = tuple(result)
            try:
                self.output_spec = structure.spec_of(result)
            except (ValueError, TypeError) as error:
                raise TypeError(
                    f"Unsupported return value from function passed to {transformation}: {result}."
                ) from error
            flat = structure.to_tensors(self.output_spec, result)
            self.graph.outputs = [raw.Identity(convert_to_tensor(t)) for t in flat]
        writers = [op for op in self.graph.get_operations() if op._definition.writes]
        self.graph.control_outputs = [*dict.fromkeys((*with_lasting_effects(self.graph), *writers))]
        self.function = GraphFunction(self.graph)
        self.function.add_to_graph(outer)
        self.ref = attr_value.FunctionRef(self.graph.name)

    @property
    def captured(self) -> list[Tensor]:
        """The tensors around that the body uses."""
        return list(self.graph.captures)


def _unique_name(graph: Graph, base: str) -> str:
    """A name that no function of the library has, nor one that is being built (with this one inside)."""
    graph = root(graph)
    numbers = graph.__dict__.setdefault("_data_function_numbers", itertools.count())
    return next(n for i in numbers if (n := f"{base}_{i}") not in graph._functions)


def _name_of(function: Any) -> str:
    """The name of a Python function as TensorFlow puts it into that of the graph's function."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, (types.FunctionType, types.MethodType)):
        return function.__name__
    return str(getattr(function, "__name__", None) or type(function).__name__)
