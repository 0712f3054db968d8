"""`tf.data.Iterator`: goes through a dataset, in a session."""

from __future__ import annotations

import contextlib
from typing import Any

from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.core import dtypes
from headrace.data import structure
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

GLOBAL_ITERATORS = "iterators"


def _on_host() -> Any:
    """A block for a node that runs on the host, unless the program says where."""
    graph = default.get_default_graph()
    return contextlib.nullcontext() if graph._scopes.devices else graph.device("/cpu:0")


@export("data.Iterator")
class Iterator:
    """The state of going through a dataset; a session holds it."""

    def __init__(
        self,
        iterator_resource: Tensor,
        initializer: Any,
        output_types: Any,
        output_shapes: Any,
        output_classes: Any,
    ) -> None:
        """iterator_resource: the resource; initializer: the operation that begins it, None where it needs none."""
        if output_types is None or output_shapes is None or output_classes is None:
            raise ValueError(
                "If `structure` is not specified, all of `output_types`, `output_shapes`, and `output_classes` must be "
                "specified."
            )
        spec = structure.from_legacy(output_types, output_shapes, output_classes)
        self._start(iterator_resource, initializer, spec)

    def _start(self, resource: Tensor, initializer: Any, spec: Any) -> None:
        self._iterator_resource, self._initializer, self._spec = resource, initializer, spec
        self._string_handle = raw.IteratorToStringHandle(resource_handle=resource)
        default.get_default_graph().add_to_collection(GLOBAL_ITERATORS, resource)

    @classmethod
    def _of(cls, resource: Tensor, initializer: Any, spec: Any) -> Iterator:
        made = cls.__new__(cls)
        made._start(resource, initializer, spec)
        return made

    @staticmethod
    def from_structure(
        output_types: Any,
        output_shapes: Any = None,
        shared_name: str | None = None,
        output_classes: Any = None,
    ) -> Iterator:
        """An iterator for any dataset of this structure; run `make_initializer(dataset)` to begin one.

        Raises TypeError, ValueError: the structures of types and shapes differ.
        """
        spec = structure.given_structure(output_types, output_shapes, output_classes)
        with _on_host():
            resource = raw.IteratorV2(
                container="", shared_name=shared_name or "", **structure.attrs_of(spec)
            )
        return Iterator._of(resource, None, spec)

    @staticmethod
    def from_string_handle(
        string_handle: Any,
        output_types: Any,
        output_shapes: Any = None,
        output_classes: Any = None,
    ) -> Iterator:
        """The iterator of which `string_handle` (to be fed, mostly) is the handle: see `Iterator.string_handle`."""
        spec = structure.given_structure(output_types, output_shapes, output_classes)
        handle = convert_to_tensor(string_handle, dtypes.string)
        with _on_host():
            resource = raw.IteratorFromStringHandleV2(
                string_handle=handle, **structure.attrs_of(spec)
            )
        return Iterator._of(resource, None, spec)

    @property
    def initializer(self) -> Any:
        """The operation that begins the iteration, each time anew. Raises ValueError: it begins by itself."""
        if self._initializer is None:
            raise ValueError("Iterator does not have an initializer.")
        return self._initializer

    def make_initializer(self, dataset: Any, name: str | None = None) -> Any:
        """The operation that begins to go through `dataset`. Raises TypeError: it has other elements."""
        given = dataset.element_spec
        with name_scope(name, "make_initializer") as scope:
            structure.assert_same_structure(self._spec, given)
            for what, of in (
                ("types", structure.legacy_types),
                ("classes", structure.legacy_classes),
            ):
                mine, theirs = of(self._spec), of(given)
                if structure.flatten(mine) != structure.flatten(theirs):
                    raise TypeError(
                        f"Expected output {what} {mine!r} but got dataset with output {what} {theirs!r}."
                    )
            mine, theirs = structure.legacy_shapes(self._spec), structure.legacy_shapes(given)
            for a, b in zip(structure.flatten(mine), structure.flatten(theirs), strict=True):
                if not a.is_compatible_with(b):
                    raise TypeError(
                        f"Expected output shapes compatible with {mine!r} but got dataset with output shapes {theirs!r}."
                    )
            with default.get_default_graph().device(self._iterator_resource.device or None):
                return raw.MakeIterator(
                    dataset=dataset._variant_tensor, iterator=self._iterator_resource, name=scope
                )

    def get_next(self, name: str | None = None) -> Any:
        """The next element: a structure of tensors. One node serves every run; call this once, not in a loop.

        A run raises OutOfRangeError after the last element, FailedPreconditionError where the iterator has not begun.
        """
        with default.get_default_graph().device(self._iterator_resource.device or None):
            flat = raw.IteratorGetNext(
                iterator=self._iterator_resource, name=name, **structure.attrs_of(self._spec)
            )
        return structure.from_tensors(self._spec, flat)

    def string_handle(self, name: str | None = None) -> Tensor:
        """A scalar string by which `from_string_handle` finds the iterator."""
        if name is None:
            return self._string_handle
        return raw.IteratorToStringHandle(resource_handle=self._iterator_resource, name=name)

    @property
    def output_classes(self) -> Any:
        """The classes of the components, in their structure."""
        return structure.legacy_classes(self._spec)

    @property
    def output_shapes(self) -> Any:
        """The shapes of the components, in their structure."""
        return structure.legacy_shapes(self._spec)

    @property
    def output_types(self) -> Any:
        """The types of the components, in their structure."""
        return structure.legacy_types(self._spec)

    @property
    def element_spec(self) -> Any:
        """The description of an element."""
        return self._spec
