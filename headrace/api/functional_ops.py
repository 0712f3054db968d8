"""Loops over the elements of tensors: `tf.map_fn`, `tf.foldl`, `tf.foldr`, `tf.scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.tensor_array import TensorArray
from headrace.api.while_loop import while_loop
from headrace.core import dtypes, nest
from headrace.graph import convert, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.tensor import Tensor


def _elements(elems: Any, callable_fn: Any) -> tuple[Any, list[Tensor], Tensor]:
    """(structure, tensors, their number of elements). Raises TypeError, ValueError: not a function, scalars."""
    if not callable(callable_fn):
        raise TypeError("fn must be callable.")
    flat = [convert.convert_to_tensor(e, name="elem") for e in nest.flatten(elems)]
    if not flat:
        raise ValueError("elems must hold at least one tensor")
    for tensor in flat:
        if tensor._dims is not None and not tensor._dims:
            raise ValueError(
                "elems must be a 1+ dimensional Tensor, not a scalar"
                if len(flat) == 1
                else "elements in elems must be 1+ dimensional Tensors, not scalars"
            )
    count: Any = None
    for tensor in flat:
        size = tensor._dims[0] if tensor._dims is not None else None
        if size is not None:
            if count is not None and count != size:
                raise ValueError(
                    f"elements of elems have different first sizes: {count} and {size}"
                )
            count = size
    if count is not None:
        return elems, flat, convert.constant_from_value(count, dtypes.int32, "n")
    shape = raw.Shape(flat[0])
    return elems, flat, raw.StridedSlice(shape, [0], [1], [1], shrink_axis_mask=1)


def _unstacked(flat: list[Tensor], count: Tensor) -> list[TensorArray]:
    arrays = []
    for tensor in flat:
        array = TensorArray(
            tensor.dtype.base_dtype, size=count, dynamic_size=False, infer_shape=True
        )
        arrays.append(array.unstack(tensor))
    return arrays


def _read(arrays: list[TensorArray], structure: Any, index: Any) -> Any:
    return nest.pack_sequence_as(structure, [a.read(index) for a in arrays])


def _stacked(array: TensorArray, count: Tensor) -> Tensor:
    value = array.stack()
    known = constant_value(count)
    dims = array._dims
    if dims is not None:
        value.set_shape([None if known is None else int(known), *dims])
    return value


@export("map_fn")
def map_fn(
    fn: Callable[..., Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
) -> Any:
    """`fn` of each element along the first axis of `elems`, the results stacked along a new first axis.

    elems: a tensor or a structure of tensors with the same first size, whose elements `fn` gets in that
    structure. dtype: the
    structure of the types of the results, where it differs from that of `elems`.
    Raises TypeError: fn is not callable. ValueError: scalars, structures that do not fit.
    """
    with name_scope(name, "map", nest.flatten(elems)):
        structure, flat, count = _elements(elems, fn)
        if dtype is None:
            dtype = nest.pack_sequence_as(structure, [t.dtype.base_dtype for t in flat])
        types = nest.flatten(dtype)
        inputs = _unstacked(flat, count)
        outputs = [
            TensorArray(t, size=count, dynamic_size=False, infer_shape=infer_shape) for t in types
        ]

        def compute(i: Any, arrays: list[TensorArray]) -> Any:
            result = fn(_read(inputs, structure, i))
            nest.assert_same_structure(dtype, result)
            values = nest.flatten(result)
            return i + 1, [a.write(i, v) for a, v in zip(arrays, values, strict=True)]

        _, results = while_loop(
            lambda i, _: i < count,
            compute,
            [convert.constant_from_value(0, dtypes.int32, "i"), outputs],
            parallel_iterations=parallel_iterations or 10,
            back_prop=back_prop,
            swap_memory=swap_memory,
            maximum_iterations=None,
        )
        return nest.pack_sequence_as(dtype, [_stacked(a, count) for a in results])


@export("foldl")
def foldl(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """`fn(... fn(fn(initializer, first), second) ..., last)` over the first axis of `elems`.

    initializer: the first accumulator; the first element where None. Raises TypeError: fn is not callable.
    """
    return _fold(
        fn, elems, initializer, parallel_iterations, back_prop, swap_memory, name, "foldl", False
    )


@export("foldr")
def foldr(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """As `foldl`, from the last element to the first."""
    return _fold(
        fn, elems, initializer, parallel_iterations, back_prop, swap_memory, name, "foldr", True
    )


def _fold(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any,
    parallel_iterations: int,
    back_prop: bool,
    swap_memory: bool,
    name: str | None,
    scope: str,
    backwards: bool,
) -> Any:
    with name_scope(name, scope, nest.flatten(elems)):
        structure, flat, count = _elements(elems, fn)
        inputs = _unstacked(flat, count)
        if initializer is None:
            start = _read(inputs, structure, count - 1 if backwards else 0)
            begin = count - 1 if backwards else convert.constant_from_value(1, dtypes.int32, None)
        else:
            start = initializer
            begin = count if backwards else convert.constant_from_value(0, dtypes.int32, None)

        def compute(i: Any, accumulator: Any) -> Any:
            if backwards:
                i = i - 1
                return i, fn(accumulator, _read(inputs, structure, i))
            return i + 1, fn(accumulator, _read(inputs, structure, i))

        _, result = while_loop(
            (lambda i, _: i > 0) if backwards else (lambda i, _: i < count),
            compute,
            [begin, start],
            parallel_iterations=parallel_iterations,
            back_prop=back_prop,
            swap_memory=swap_memory,
        )
        return result


@export("scan")
def scan(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """The accumulators of a fold (see `foldl`), stacked along a new first axis; `reverse` goes from the last element.

    The result has the structure of `initializer`, or of `elems` where that is None.
    Raises TypeError: fn is not callable.
    """
    with name_scope(name, "scan", nest.flatten(elems)):
        structure, flat, count = _elements(elems, fn)
        inputs = _unstacked(flat, count)
        last = count - 1
        if initializer is None:
            start = _read(inputs, structure, last if reverse else 0)
            begin = last - 1 if reverse else convert.constant_from_value(1, dtypes.int32, None)
        else:
            start = nest.map_structure(convert.convert_to_tensor, initializer)
            begin = last if reverse else convert.constant_from_value(0, dtypes.int32, None)
        flat_start = nest.flatten(start)
        outputs = [
            TensorArray(
                t.dtype.base_dtype,
                size=count,
                dynamic_size=False,
                element_shape=t.shape if infer_shape else None,
                infer_shape=infer_shape,
            )
            for t in flat_start
        ]
        if initializer is None:
            at = last if reverse else 0
            outputs = [a.write(at, t) for a, t in zip(outputs, flat_start, strict=True)]

        def compute(i: Any, accumulator: Any, arrays: list[TensorArray]) -> Any:
            new = fn(accumulator, _read(inputs, structure, i))
            nest.assert_same_structure(start, new)
            values = nest.flatten(new)
            arrays = [a.write(i, v) for a, v in zip(arrays, values, strict=True)]
            return (i - 1 if reverse else i + 1), new, arrays

        _, _, results = while_loop(
            (lambda i, *_: i >= 0) if reverse else (lambda i, *_: i < count),
            compute,
            [begin, start, outputs],
            parallel_iterations=parallel_iterations,
            back_prop=back_prop,
            swap_memory=swap_memory,
        )
        return nest.pack_sequence_as(start, [_stacked(a, count) for a in results])
