"""Parts of tensors: `x[...]`, `tf.slice`, `tf.strided_slice`, `tf.boolean_mask`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from headrace.api.array_ops import ones_like, reshape, shape
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.join_ops import concat, stack
from headrace.core import dtypes
from headrace.core.tensor_shape import Dimension, TensorShape
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor, override_operator

_INDEX_ERROR = (
    "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar tf.int32/tf.int64 tensors are valid "
    "indices"
)


def _check_index(index: Any) -> None:
    """Raises TypeError: not an integer, nor a scalar of integers."""
    if isinstance(index, (int, Dimension)):
        return
    dtype = getattr(index, "dtype", None)
    if dtype is not None:
        try:
            kind = dtypes.as_dtype(dtype).base_dtype
        except TypeError:
            kind = None
        if kind in (dtypes.int32, dtypes.int64):
            found = getattr(index, "shape", None)
            rank = found.ndims if isinstance(found, TensorShape) else len(found or ())
            if rank != 1:
                return
    raise TypeError(f"{_INDEX_ERROR}, got {index!r}")


def _is_given(bound: Any) -> bool:
    """Whether a slice has this bound; Python 2 wrote sys.maxsize for a missing one."""
    return bound is not None and (
        isinstance(bound, Tensor) or not isinstance(bound, int) or bound != sys.maxsize
    )


def slice_helper(tensor: Any, slice_spec: Any, var: Any = None) -> Tensor:
    """`tensor[slice_spec]`: integers, slices, `...`, `tf.newaxis` and scalar tensors, or a mask of booleans.

    var: the variable that the part is of, for `x[...].assign(value)`.
    Raises TypeError: anything else as index.
    """
    if (
        isinstance(slice_spec, bool)
        or (isinstance(slice_spec, Tensor) and slice_spec.dtype.base_dtype is dtypes.bool)
        or (isinstance(slice_spec, np.ndarray) and slice_spec.dtype == bool)
    ):
        return boolean_mask(tensor, slice_spec)
    if not isinstance(slice_spec, (list, tuple)):
        slice_spec = (slice_spec,)
    begin: list[Any] = []
    end: list[Any] = []
    strides: list[Any] = []
    masks = dict.fromkeys(
        ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0
    )
    for position, item in enumerate(slice_spec):
        bit = 1 << position
        start: Any = 0
        stop: Any = 0
        step: Any = 1
        if isinstance(item, slice):
            if _is_given(item.start):
                _check_index(item.start)
                start = item.start
            else:
                masks["begin_mask"] |= bit
            if _is_given(item.stop):
                _check_index(item.stop)
                stop = item.stop
            else:
                masks["end_mask"] |= bit
            if item.step is not None:
                _check_index(item.step)
                step = item.step
        elif item is Ellipsis:
            masks["ellipsis_mask"] |= bit
        elif item is None:
            masks["new_axis_mask"] |= bit
        else:
            _check_index(item)
            start, stop = item, item + 1
            masks["shrink_axis_mask"] |= bit
        begin.append(start)
        end.append(stop)
        strides.append(step)
    with name_scope(None, "strided_slice", [tensor, *begin, *end, *strides]) as scope:
        if begin:
            packed = [stack(begin), stack(end), stack(strides)]
            if any(t.dtype.base_dtype is dtypes.int64 for t in packed):
                packed = [
                    t if t.dtype.base_dtype is dtypes.int64 else raw.Cast(t, DstT=dtypes.int64)
                    for t in packed
                ]
        else:
            packed = [convert_to_tensor([], dtype=dtypes.int32)] * 3
        return strided_slice(tensor, *packed, **masks, var=var, name=scope)


override_operator("__getitem__", slice_helper)


@export("strided_slice")
def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """The part of `input_` that `input_[begin:end:strides]` takes, one element of the vectors for each axis.

    Bit i of a mask says of entry i: take all from the beginning (begin_mask), to the end (end_mask), it is `...`
    (ellipsis_mask), it adds an axis (new_axis_mask), it drops the axis (shrink_axis_mask).
    var: the variable behind `input_`; then the result's `assign(value)` writes to the part.
    Raises ValueError: the entries do not fit `input_`.
    """
    if strides is None:
        strides = ones_like(begin)
    masks = {
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "ellipsis_mask": ellipsis_mask,
        "new_axis_mask": new_axis_mask,
        "shrink_axis_mask": shrink_axis_mask,
    }
    result = raw.StridedSlice(input_, begin, end, strides, **masks, name=name)

    def assign(val: Any, name: str | None = None) -> Any:
        """Writes `val` to this part of the variable."""
        if var is None:
            raise ValueError("Sliced assignment is only supported for variables")
        if name is None:
            name = parent_name + "_assign"
        return var._strided_slice_assign(
            begin=begin, end=end, strides=strides, value=val, name=name, **masks
        )

    parent_name = name if name is not None else "strided_slice"
    result.assign = assign
    return result


@export("slice")
def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """The part of `input_` that begins at `begin` and has shape `size`, where -1 means all the rest of an axis.

    Raises ValueError (InvalidArgumentError when it runs): the part does not lie inside `input_`.
    """
    return raw.Slice(input_, begin, size, name=name)


slice_.__name__ = slice_.__qualname__ = "slice"


@export("boolean_mask")
def boolean_mask(tensor: Any, mask: Any, name: str = "boolean_mask", axis: Any = None) -> Tensor:
    """The elements (rows, ...) of `tensor` where `mask` is true, in order.

    mask: booleans of the shape of the axes of `tensor` from `axis` (0) on; its rank is known.
    Returns: those axes become one. Raises ValueError: shapes differ, or the mask is a scalar or of unknown rank.
    """
    with name_scope(name, values=[tensor, mask]):
        tensor = convert_to_tensor(tensor, name="tensor")
        mask = convert_to_tensor(mask, name="mask")
        rank = mask.shape.ndims
        if rank == 0:
            raise ValueError("mask cannot be scalar.")
        if rank is None:
            raise ValueError(
                "Number of mask dimensions must be specified, even if some dimensions are None.  E.g. shape=[None] is "
                "ok, but shape=None is not."
            )
        if axis is None:
            axis = 0
        elif isinstance(axis, Tensor):
            from headrace.graph.constant_value import constant_value

            axis = int(constant_value(axis))
        known = tensor.shape
        known[axis : axis + rank].assert_is_compatible_with(mask.shape)
        count = raw.Prod(shape(tensor)[axis : axis + rank], [0])
        flat = reshape(
            tensor, concat([shape(tensor)[:axis], [count], shape(tensor)[axis + rank :]], 0)
        )
        first = known[axis : axis + rank].num_elements()
        flat.set_shape(known[:axis].concatenate([first]).concatenate(known[axis + rank :]))
        chosen = raw.Squeeze(raw.Where(reshape(mask, [-1])), squeeze_dims=[1])
        return raw.GatherV2(flat, chosen, axis)
