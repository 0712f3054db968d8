"""Iterators: resources of a session that go through a dataset, and the ops that make, start and read them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto import resource_handle_pb2

from headrace.core import dtypes, errors
from headrace.core.tensor_shape import TensorShape
from headrace.graph.op_def import Effect, define
from headrace.lowering import context as running
from headrace.ops.datasets.dataset import (
    TYPES,
    Captured,
    Dataset,
    Element,
    GetNext,
    IteratorContext,
    as_array,
    dataset_of,
    handle_definition,
    scalar_argument,
)

_SOME_TYPES = "output_types: list(type) >= 0 = [], output_shapes: list(shape) >= 0 = []"


class IteratorResource:
    """An iterator of a session. It begins with `set_dataset`, and may begin again with another dataset."""

    def __init__(self, name: str, types: Sequence[Any], shapes: Sequence[TensorShape]) -> None:
        self.name = name
        self._types, self._shapes = types, shapes
        self._lock = threading.Lock()
        self.starting = threading.Lock()  # held by who begins a one-shot iterator
        self._context: IteratorContext | None = None
        self._next: GetNext | None = None
        self._store: Any = None

    def set_dataset(self, op: Any, dataset: Dataset) -> None:
        """Begins with the first element of `dataset`. Raises InvalidArgumentError: its elements are others."""
        check_types(op, self._types, dataset.types)
        check_shapes(op, self._shapes, dataset.shapes)
        context = IteratorContext()
        following = dataset.start(context, "Iterator")
        store = context.step.resources
        with self._lock:
            old = self._context
            self._context, self._next, self._store = context, following, store
        # The session ends the threads of what is not closed by then.
        store.when_closed(self, self.close)
        if old is not None:
            old.cancel()

    def get_next(self, op: Any) -> Element:
        """The next element. Raises OutOfRangeError: there is none. FailedPreconditionError: it has not begun."""
        with self._lock:
            following = self._next
            if following is None:
                raise errors.FailedPreconditionError(
                    None,
                    op,
                    f"{op.type} op {op.name!r}: GetNext() failed because the iterator has not been initialized. Ensure "
                    "that you have run the initializer operation for this iterator before getting the next element.",
                )
            element = following()
        if element is None:
            raise errors.OutOfRangeError(None, op, f"{op.type} op {op.name!r}: End of sequence")
        return element

    def close(self) -> None:
        """Ends what runs for it."""
        context = self._context
        if context is not None:
            context.cancel()

    def handle(self) -> bytes:
        """What `IteratorFromStringHandle` finds it by."""
        message = resource_handle_pb2.ResourceHandleProto(
            device="/job:localhost/replica:0/task:0/device:CPU:0",
            container="localhost",
            name=self.name,
            maybe_type_name="N10tensorflow4data16IteratorResourceE",
        )
        return message.SerializeToString()


def check_types(op: Any, wanted: Sequence[Any], given: Sequence[Any]) -> None:
    """Raises InvalidArgumentError: other types, or another number of components."""
    if len(wanted) != len(given):
        raise op.invalid(
            f"Number of components does not match: expected {len(wanted)} types but got {len(given)}."
        )
    for i, (a, b) in enumerate(zip(wanted, given, strict=True)):
        if a.base_dtype != b.base_dtype:
            raise op.invalid(
                f"Data type mismatch at component {i}: expected {a.name} but got {b.name}."
            )


def check_shapes(op: Any, wanted: Sequence[TensorShape], given: Sequence[TensorShape]) -> None:
    """Raises InvalidArgumentError: shapes that do not fit."""
    for i, (a, b) in enumerate(zip(wanted, given, strict=False)):
        if not a.is_compatible_with(b):
            raise op.invalid(
                f"Incompatible shapes at component {i}: expected {_shown(a)} but got {_shown(b)}."
            )


def _shown(shape: TensorShape) -> str:
    dims = shape._dims
    if dims is None:
        return "<unknown>"
    return f"[{','.join('?' if d is None else str(d) for d in dims)}]"


def _key(name: str) -> Any:
    return ("iterator", name)


def _made(op: Any) -> IteratorResource:
    name = op.attr("shared_name") or op.name
    container = op.attr("container")
    name = f"{container}/{name}" if container else name
    types, shapes = op.attr("output_types"), op.attr("output_shapes")
    store = running.current_step().resources
    found = store.get_or_make(_key(name), lambda: IteratorResource(name, types, shapes))
    check_types(op, types, found._types)
    check_shapes(op, shapes, found._shapes)
    return found


def _handle_shape(op: Any, *inputs: Any) -> Any:
    return ()


for _name in ("Iterator", "IteratorV2"):
    _definition = handle_definition(
        _name, "-> handle: resource", f"shared_name: string, container: string, {TYPES}"
    )
    _definition.shape(_handle_shape)
    _definition.host(_made)


one_shot_iterator = define(
    "OneShotIterator",
    "-> handle: resource",
    f"dataset_factory: func, {TYPES}, container: string = '', shared_name: string = ''",
    effects=Effect.STATEFUL | Effect.HANDLE,
    host_only=True,
    keeps_functions=True,
)
one_shot_iterator.shape(_handle_shape)
one_shot_iterator.not_differentiable()


@one_shot_iterator.host
def _one_shot_iterator_host(op):
    iterator = _made(op)
    with iterator.starting:
        if iterator._next is not None:
            return iterator
        factory = Captured(op, "dataset_factory", ())
        (variant,) = factory.instantiate(IteratorContext())([])
        iterator.set_dataset(op, dataset_of(op, variant))
    return iterator


make_iterator = define(
    "MakeIterator",
    "dataset: variant, iterator: resource ->",
    effects=Effect.STATEFUL,
    host_only=True,
)
make_iterator.not_differentiable()


@make_iterator.shape
def _make_iterator_shape(op, dataset, iterator):
    return []


@make_iterator.host
def _make_iterator_host(op, dataset, iterator):
    _resource(op, iterator).set_dataset(op, dataset_of(op, dataset))
    return ()


def _resource(op: Any, value: Any) -> IteratorResource:
    if not isinstance(value, IteratorResource):
        raise op.invalid(f"the resource is no iterator but {value!r}")
    return value


def declared_shapes(op: Any, *inputs: Any) -> list[Any]:
    """The attr `output_shapes`: one shape for each component."""
    return [s._dims for s in op.attr("output_shapes")]


def _get_next_host(op, iterator):
    iterator = _resource(op, iterator)
    return [c if t is dtypes.variant else as_array(c) for c, t in _typed(op, iterator.get_next(op))]


def _typed(op: Any, element: Element) -> Any:
    return zip(element, op.attr("output_types"), strict=True)


for _name in ("IteratorGetNext", "IteratorGetNextSync"):
    _definition = define(
        _name,
        "iterator: resource -> components: output_types",
        TYPES,
        effects=Effect.STATEFUL,
        host_only=True,
        waits=True,
    )
    _definition.shape(declared_shapes)
    _definition.host(_get_next_host)
    _definition.not_differentiable()


iterator_to_string_handle = define(
    "IteratorToStringHandle",
    "resource_handle: resource -> string_handle: string",
    effects=Effect.STATEFUL,
    host_only=True,
)
iterator_to_string_handle.shape(_handle_shape)
iterator_to_string_handle.not_differentiable()


@iterator_to_string_handle.host
def _iterator_to_string_handle_host(op, iterator):
    return np.array(_resource(op, iterator).handle(), object)


def _from_string_handle_host(op, string_handle):
    text = scalar_argument(op, string_handle, "string_handle")
    message = resource_handle_pb2.ResourceHandleProto()
    try:
        message.ParseFromString(text if isinstance(text, bytes) else text.encode())
    except Exception:
        message.Clear()
    if not message.name:
        raise op.invalid("Could not parse string_handle as a valid ResourceHandle")
    found = running.current_step().resources.find(_key(message.name))
    if found is None:
        raise errors.NotFoundError(
            None, op, f"{op.type} op {op.name!r}: Resource {message.name} does not exist."
        )
    if op.attr("output_types"):
        check_types(op, op.attr("output_types"), found._types)
    if op.attr("output_shapes"):
        check_shapes(op, op.attr("output_shapes"), found._shapes)
    return found


for _name in ("IteratorFromStringHandle", "IteratorFromStringHandleV2"):
    _definition = handle_definition(
        _name, "string_handle: string -> resource_handle: resource", _SOME_TYPES
    )
    _definition.shape(_handle_shape)
    _definition.host(_from_string_handle_host)
