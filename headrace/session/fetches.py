"""What `run` is asked for: nested fetches taken apart into tensors and operations, and results put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices, IndexedSlicesValue
from headrace.graph.operation import Operation
from headrace.graph.sparse_tensor import SparseTensor, SparseTensorValue
from headrace.graph.tensor import Tensor

# type -> (fetch function, feed function, feed function of partial runs); the newest registration goes first
_conversions: list[
    tuple[type, Callable[..., Any], Callable[..., Any] | None, Callable[..., Any] | None]
] = []


def register_session_run_conversion_functions(
    tensor_type: type,
    fetch_function: Callable[..., Any],
    feed_function: Callable[..., Any] | None = None,
    feed_function_for_partial_run: Callable[..., Any] | None = None,
) -> None:
    """Lets objects of `tensor_type` be fetched and fed.

    fetch_function(obj) -> (list of tensors, function from their values to the result); feed_function(obj, value) ->
    list of (tensor, value); feed_function_for_partial_run(obj) -> list of tensors.
    Raises ValueError: the type is registered.
    """
    for known, *_ in _conversions:
        if issubclass(tensor_type, known):
            raise ValueError(f"{tensor_type} has already been registered so ignore it.")
    _conversions.insert(
        0, (tensor_type, fetch_function, feed_function, feed_function_for_partial_run)
    )


def conversion_for(value: Any) -> Any:
    """The registered (type, fetch, feed, partial feed) for `value`, or None."""
    for entry in _conversions:
        if isinstance(value, entry[0]):
            return entry
    return None


def _sparse_parts(sparse: SparseTensor) -> list[Tensor]:
    return [sparse.indices, sparse.values, sparse.dense_shape]


register_session_run_conversion_functions(
    SparseTensor,
    lambda sparse: (_sparse_parts(sparse), lambda values: SparseTensorValue(*values)),
    # Two values where the shape is a constant of the graph.
    lambda sparse, value: list(zip(_sparse_parts(sparse), value, strict=False)),
    _sparse_parts,
)


class Fetches:
    """Fetches taken apart. `tensors` and `targets` are what a step computes; `build` makes the nested result."""

    def __init__(self, graph: Graph, fetches: Any) -> None:
        self.graph = graph
        self.tensors: list[Tensor] = []
        self.targets: list[Operation] = []
        self._place: dict[Tensor, int] = {}
        self.build: Callable[[list[Any]], Any] = self._take(fetches)
        self.single = self.build.__class__ is _Leaf and self.build.index == 0

    def _take(self, fetch: Any) -> Callable[[list[Any]], Any]:
        if isinstance(fetch, (Tensor, Operation, str, bytes)):
            return self._leaf(fetch, fetch)
        if fetch is None:
            raise TypeError(
                f"Fetch argument {fetch!r} has invalid type {type(fetch)}: needs a tensor, an operation or a name "
                "(did a function forget to return it?)"
            )
        if isinstance(fetch, (list, tuple)):
            parts = [self._take(f) for f in fetch]
            return _sequence_builder(fetch, parts)
        if isinstance(fetch, Mapping):
            kind = type(fetch)
            keys = list(fetch)
            parts = [self._take(fetch[k]) for k in keys]

            def build_mapping(values: list[Any]) -> Any:
                pairs = [(k, part(values)) for k, part in zip(keys, parts, strict=True)]
                try:
                    return kind(pairs)  # type: ignore[call-arg]
                except TypeError:
                    return dict(pairs)

            return build_mapping
        if hasattr(type(fetch), "__attrs_attrs__"):
            names = [a.name for a in type(fetch).__attrs_attrs__]
            parts = [self._take(getattr(fetch, n)) for n in names]
            kind = type(fetch)
            return lambda values: kind(*[part(values) for part in parts])
        entry = conversion_for(fetch)
        if entry is not None:
            pieces, contract = entry[1](fetch)
            parts = [self._take(p) for p in pieces]
            return lambda values: contract([part(values) for part in parts])
        return self._leaf(fetch, fetch)

    def _leaf(self, element: Any, fetch: Any) -> Callable[[list[Any]], Any]:
        try:
            found = self.graph.as_graph_element(element, allow_tensor=True, allow_operation=True)
        except TypeError as error:
            raise TypeError(
                f"Fetch argument {fetch!r} has invalid type {type(fetch)}, must be a string or Tensor. ({error})"
            ) from None
        except (ValueError, KeyError) as error:
            text, newline, place = str(error.args[0] if error.args else error).partition("\n")
            raise ValueError(
                f"Fetch argument {fetch!r} cannot be interpreted as a Tensor. ({text}){newline}{place}"
            ) from None
        if not self.graph.is_fetchable(found):
            raise ValueError(f"Operation {found.name!r} has been marked as not fetchable.")
        if isinstance(found, Operation):
            if found not in self.targets:
                self.targets.append(found)
            return _nothing
        place = self._place.get(found)
        if place is None:
            place = self._place[found] = len(self.tensors)
            self.tensors.append(found)
        return _Leaf(place)


class _Leaf:
    """Picks one value."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, values: list[Any]) -> Any:
        return values[self.index]


def _nothing(values: list[Any]) -> None:
    """The result of an operation."""


def _sequence_builder(
    fetch: Any, parts: list[Callable[[list[Any]], Any]]
) -> Callable[[list[Any]], Any]:
    if isinstance(fetch, list):
        return lambda values: [part(values) for part in parts]
    if hasattr(fetch, "_fields"):
        kind = type(fetch)
        return lambda values: kind(*[part(values) for part in parts])
    return lambda values: tuple(part(values) for part in parts)


def _slices_parts(slices: IndexedSlices) -> list[Tensor]:
    return [t for t in (slices.values, slices.indices, slices.dense_shape) if t is not None]


def _fetch_slices(slices: IndexedSlices) -> tuple[list[Tensor], Callable[[list[Any]], Any]]:
    return _slices_parts(slices), lambda got: IndexedSlicesValue(
        got[0], got[1], got[2] if len(got) == 3 else None
    )


def _feed_slices(slices: IndexedSlices, value: Any) -> list[tuple[Tensor, Any]]:
    return list(zip(_slices_parts(slices), value, strict=False))


register_session_run_conversion_functions(IndexedSlices, _fetch_slices, _feed_slices, _slices_parts)
