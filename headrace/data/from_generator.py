"""Datasets of what Python generators yield."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from headrace.api.diagnostic import numpy_function
from headrace.core import dtypes
from headrace.core.tensor_shape import as_shape
from headrace.data import nodes, structure
from headrace.graph.convert import convert_to_tensor


class _Running:
    """The generators that are under way, by number."""

    def __init__(self, generator: Callable[..., Any]) -> None:
        self._generator = generator
        self._numbers = itertools.count()
        self._arguments: dict[int, tuple[Any, ...]] = {}
        self._iterators: dict[int, Iterator[Any]] = {}
        self._lock = threading.Lock()

    def begin(self, *arguments: Any) -> np.ndarray:
        """The number of a new one; it is called when its first element is asked for."""
        with self._lock:
            number = next(self._numbers)
            self._arguments[number] = arguments
        return np.array(number, np.int64)

    def following(self, number: int) -> Any:
        """The next element. Raises StopIteration."""
        iterator = self._iterators.get(number)
        if iterator is None:
            iterator = iter(self._generator(*self._arguments.pop(number)))
            self._iterators[number] = iterator
        return next(iterator)

    def end(self, number: int) -> None:
        """Forgets one."""
        self._arguments.pop(number, None)
        self._iterators.pop(number, None)


def from_generator(
    dataset_class: Any,
    generator: Callable[..., Any],
    output_types: Any,
    output_shapes: Any,
    args: Any,
) -> Any:
    """See `Dataset.from_generator`."""
    if not callable(generator):
        raise TypeError("`generator` must be callable.")
    types = [dtypes.as_dtype(t) for t in structure.flatten(output_types)]
    if output_shapes is None:
        shapes = [as_shape(None)] * len(types)
    else:
        shapes = [as_shape(s) for s in structure.flatten_up_to(output_types, output_shapes)]
    arguments = [convert_to_tensor(a, name="args") for a in (() if args is None else args)]
    running = _Running(generator)

    def begin(_: Any) -> Any:
        number = numpy_function(running.begin, arguments, dtypes.int64)
        number.set_shape(())
        return number

    def following(number: Any) -> Any:
        def element(index: np.ndarray) -> list[np.ndarray]:
            return _arrays(running.following(int(index)), output_types, types, shapes)

        found = numpy_function(element, [number], types)
        for tensor, shape in zip(found, shapes, strict=True):
            tensor.set_shape(shape)
        return structure.pack_sequence_as(output_types, found)

    def finalize(number: Any) -> Any:
        def end(index: np.ndarray) -> np.ndarray:
            running.end(int(index))
            return np.array(0, np.int64)

        return numpy_function(end, [number], dtypes.int64)

    def elements(state: Any) -> Any:
        return dataset_class.of(nodes.generator(state, begin, following, finalize))

    return dataset_class.from_tensors(0).flat_map(elements)


def _arrays(values: Any, output_types: Any, types: Any, shapes: Any) -> list[np.ndarray]:
    """What a generator yielded as arrays. Raises TypeError, ValueError: of another structure, type or shape."""
    try:
        flat = structure.flatten_up_to(output_types, values)
    except (TypeError, ValueError):
        raise TypeError(
            "`generator` yielded an element that did not match the expected structure. The expected structure was "
            f"{output_types}, but the yielded element was {values}."
        ) from None
    found = []
    for value, dtype, shape in zip(flat, types, shapes, strict=True):
        try:
            array = _converted(value, dtype)
        except (TypeError, ValueError):
            raise TypeError(
                "`generator` yielded an element that could not be converted to the expected type. The expected type "
                f"was {dtype.name}, but the yielded element was {value}."
            ) from None
        if array.dtype != dtype.as_numpy_dtype:
            raise TypeError(
                f"`generator` yielded an element of type {array.dtype} where an element of type "
                f"{np.dtype(dtype.as_numpy_dtype)} was expected."
            )
        if not shape.is_compatible_with(array.shape):
            raise ValueError(
                f"`generator` yielded an element of shape {array.shape} where an element of shape {shape} was expected."
            )
        found.append(array)
    return found


def _converted(value: Any, dtype: dtypes.DType) -> np.ndarray:
    if dtype == dtypes.string:
        array = np.asarray(value)
        if array.dtype.kind not in "OSU":
            raise TypeError(f"{value!r} is no string")
        texts = [v.encode() if isinstance(v, str) else bytes(v) for v in array.reshape(-1)]
        out = np.empty(len(texts), object)
        out[:] = texts
        return out.reshape(array.shape)
    wanted = np.dtype(dtype.as_numpy_dtype)
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)  # an array has a type of its own
    array = np.asarray(value)
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise TypeError(f"{array.dtype} is not {wanted}")
    return array.astype(wanted)
