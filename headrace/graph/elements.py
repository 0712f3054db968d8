"""What of a graph a name or an object stands for: see `Graph.as_graph_element`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

if TYPE_CHECKING:
    from headrace.graph.graph import Graph


def find_element(graph: Graph, obj: Any, allow_tensor: bool, allow_operation: bool) -> Any:
    """The Tensor or Operation of `graph` that `obj` names or is.

    Raises TypeError: neither. ValueError: of another graph. KeyError: no such name.
    """
    if not (allow_tensor or allow_operation):
        raise ValueError("allow_tensor and allow_operation can't both be False.")
    types = " or ".join(
        word
        for word, allowed in (("Tensor", allow_tensor), ("Operation", allow_operation))
        if allowed
    )
    convert = getattr(obj, "_as_graph_element", None)
    if convert is not None and not isinstance(obj, (Tensor, Operation)):
        converted = convert()
        if converted is not None:
            obj = converted
    if isinstance(obj, bytes):
        obj = obj.decode()
    if isinstance(obj, str):
        return _element_of_name(graph, obj, allow_tensor, allow_operation)
    if isinstance(obj, Tensor) and allow_tensor:
        if obj.graph is not graph:
            raise ValueError(f"Tensor {obj} is not an element of this graph.{obj._op._site_line()}")
        return obj
    if isinstance(obj, Operation) and allow_operation:
        if obj._graph is not graph:
            raise ValueError(
                f"Operation {obj.name!r} is not an element of this graph.{obj._site_line()}"
            )
        return obj
    raise TypeError(f"Can not convert a {type(obj).__name__} into a {types}.")


def _element_of_name(graph: Graph, name: str, allow_tensor: bool, allow_operation: bool) -> Any:
    if ":" in name and allow_tensor:
        op_name, _, index = name.rpartition(":")
        if not index.isdigit() or ":" in op_name:
            raise ValueError(
                f"The name {name!r} looks a like a Tensor name, but is not a valid one. Tensor names must be of "
                'the form "<op_name>:<output_index>".'
            )
        op = graph._by_name.get(op_name)
        if op is None:
            raise KeyError(
                f"The name {name!r} refers to a Tensor which does not exist. The operation, {op_name!r}, does not "
                f"exist in the graph.{_nearest(graph, op_name)}"
            )
        if int(index) >= len(op._outputs):
            raise KeyError(
                f"The name {name!r} refers to a Tensor which does not exist. The operation, {op_name!r}, exists "
                f"but only has {len(op._outputs)} outputs."
            )
        return op._outputs[int(index)]
    if ":" in name:
        raise ValueError(f"Name {name!r} appears to refer to a Tensor, not a Operation.")
    if not allow_operation:
        if name in graph._by_name:
            raise ValueError(
                f"The name {name!r} refers to an Operation, not a Tensor. Tensor names must be of the form "
                '"<op_name>:<output_index>".'
            )
        raise ValueError(
            f"The name {name!r} looks like an (invalid) Operation name, not a Tensor. Tensor names must be of the "
            'form "<op_name>:<output_index>".'
        )
    op = graph._by_name.get(name)
    if op is None:
        raise KeyError(
            f"The name {name!r} refers to an Operation not in the graph.{_nearest(graph, name)}"
        )
    return op


def _nearest(graph: Graph, name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, graph._by_name, n=3)
    return f" The nearest names are {', '.join(map(repr, close))}." if close else ""
