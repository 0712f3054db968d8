"""Several tensors to one and back: `tf.concat`, `tf.stack`, `tf.split`, `tf.unstack`, `tf.meshgrid`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import ones, reshape, size
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.source import identity
from headrace.core import dtypes
from headrace.core.tensor_shape import Dimension, TensorShape
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


@export("concat")
def concat(values: Any, axis: Any, name: str = "concat") -> Tensor:
    """The tensors `values`, one after the other along `axis`; their other sizes are the same.

    Raises ValueError: ranks or sizes differ, or the axis is out of range.
    """
    if not isinstance(values, (list, tuple)):
        values = [values]
    if len(values) == 1:
        with name_scope(name):
            axis = convert_to_tensor(axis, name="concat_dim", dtype=dtypes.int32)
            if axis._dims is not None and axis._dims != ():
                raise ValueError(f"Shape {axis.shape} of axis must have rank 0")
            return identity(values[0], name=name)
    return raw.ConcatV2(list(values), axis, name=name)


@export("stack")
def stack(values: Any, axis: int = 0, name: str = "stack") -> Tensor:
    """Tensors of one shape side by side along a new axis.

    Raises ValueError: shapes differ, or the axis is outside [-(rank + 1), rank + 1).
    """
    if axis == 0:
        try:
            return convert_to_tensor(values, name=name)
        except (TypeError, ValueError, NotImplementedError):
            pass  # Pack says what is wrong with the values.
    dims = convert_to_tensor(values[0], name=name)._dims
    if dims is not None and not -len(dims) - 1 <= axis <= len(dims):
        raise ValueError(f"axis = {axis} not in [{-len(dims) - 1}, {len(dims) + 1})")
    return raw.Pack(values, axis=axis, name=name)


@export("parallel_stack")
def parallel_stack(values: Any, name: str = "parallel_stack") -> Tensor:
    """As `stack` along a new first axis, for inputs of known shape."""
    with name_scope(name):
        first = convert_to_tensor(values[0])
        shape = TensorShape([len(values)]).concatenate(first.shape)
        return raw.ParallelConcat([raw.ExpandDims(v, 0) for v in values], shape=shape)


@export("unstack")
def unstack(
    value: Any, num: int | None = None, axis: int = 0, name: str = "unstack"
) -> list[Tensor]:
    """The slices of `value` along `axis`, without that axis. num: how many there are, where the shape does not say.

    Raises ValueError: the number is not known, or the axis is outside [-rank, rank).
    """
    if num is None:
        value = convert_to_tensor(value)
        dims = value._dims
        if dims is not None:
            if not -len(dims) <= axis < len(dims):
                raise ValueError(f"axis = {axis} not in [{-len(dims)}, {len(dims)})")
            num = dims[axis]
        if num is None:
            raise ValueError(f"Cannot infer num from shape {value.shape}")
    return raw.Unpack(value, num=num, axis=axis, name=name)


@export("split")
def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """`value` cut along `axis` into equal parts (a number) or into parts of given sizes (a vector; one may be -1).

    num: how many sizes there are, where the shape of the vector does not say.
    Raises ValueError: a scalar tensor as number; the number of sizes is not known; sizes that do not fit.
    """
    sizes = convert_to_tensor(num_or_size_splits)
    if isinstance(num_or_size_splits, (int, np.integer, Dimension)):
        return raw.Split(axis, value, num_split=int(num_or_size_splits), name=name)
    if sizes._dims == ():
        raise ValueError(
            "Rank-0 tensors are not supported as the num_or_size_splits argument to split. Argument provided: "
            f"{num_or_size_splits}"
        )
    if num is None:
        num = sizes._dims[0] if sizes._dims else None
        if num is None:
            raise ValueError(f"Cannot infer num from shape {num_or_size_splits}")
    return raw.SplitV(value, sizes, axis, num_split=num, name=name)


@export("meshgrid")
def meshgrid(*args: Any, **kwargs: Any) -> list[Tensor]:
    """The coordinates of the grid that vectors span: one tensor for each vector, all of the shape of the grid.

    indexing: "xy" (the first two axes exchanged, as in a picture) or "ij". name: of the operations.
    Raises TypeError: an unknown keyword. ValueError: another indexing.
    """
    indexing = kwargs.pop("indexing", "xy")
    name = kwargs.pop("name", "meshgrid")
    if kwargs:
        raise TypeError(f"'{next(iter(kwargs))}' is an invalid keyword argument for this function")
    if indexing not in ("xy", "ij"):
        raise ValueError("indexing parameter must be either 'xy' or 'ij'")
    with name_scope(name, "meshgrid", args):
        count = len(args)
        outputs = [
            reshape(stack(x), [-1 if k == i else 1 for k in range(count)])
            for i, x in enumerate(args)
        ]
        if not outputs:
            return []
        sizes = [size(x) for x in args]
        kind = outputs[0].dtype.base_dtype
        if indexing == "xy" and count > 1:
            outputs[0] = reshape(outputs[0], [1, -1] + [1] * (count - 2))
            outputs[1] = reshape(outputs[1], [-1, 1] + [1] * (count - 2))
            sizes[0], sizes[1] = sizes[1], sizes[0]
        full = ones(sizes, kind)
        return [x * full for x in outputs]
