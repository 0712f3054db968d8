"""Sparse tensors cut, joined, reshaped and reordered: `tf.sparse.concat`, `slice`, `split`, `transpose`, `reshape`."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

from headrace.api import check_ops
from headrace.api.array_ops import expand_dims, rank, reshape, shape, transpose
from headrace.api.control_flow_basic import with_dependencies
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.math_ops import cast
from headrace.api.reduction import range as range_of
from headrace.api.reduction import reduce_max
from headrace.api.renamed_argument import renamed
from headrace.api.sparse_ops import as_sparse, parts, sparse_tensor_to_dense
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.constant_value import constant_value, constant_value_as_shape
from headrace.graph.convert import convert_to_tensor
from headrace.graph.sparse_tensor import SparseTensor, is_sparse
from headrace.graph.tensor import Tensor

# ---- several to one, one to several


@export("sparse_concat", "sparse.concat")
def sparse_concat(
    axis: Any,
    sp_inputs: Any,
    name: str | None = None,
    expand_nonconcat_dim: bool = False,
    concat_dim: Any = None,
    expand_nonconcat_dims: Any = None,
) -> SparseTensor:
    """Sparse tensors joined along `axis` (concat_dim is its older name).

    sp_inputs: a list or tuple of them, of equal shape but for `axis`, unless expand_nonconcat_dims (or
    expand_nonconcat_dim): then each takes the greatest size along the other axes. Values come in row-major order.
    """
    if expand_nonconcat_dims is not None:
        expand_nonconcat_dim = expand_nonconcat_dims
    axis = renamed("axis", axis, "concat_dim", concat_dim)
    if not isinstance(sp_inputs, (list, tuple)):
        raise TypeError(f"Inputs must be a list or tuple, got {sp_inputs!r}")
    inputs = [as_sparse(sp) for sp in sp_inputs]
    if len(inputs) == 1:
        return inputs[0]
    indices, values, sizes = ([*part] for part in zip(*map(parts, inputs), strict=True))
    if expand_nonconcat_dim:
        rows = [reshape(size, [1, -1]) for size in sizes]
        greatest = reduce_max(raw.ConcatV2(rows, 0), 0)
        after = [] if axis == -1 else [greatest[axis + 1 :]]
        sizes = [
            raw.ConcatV2(
                [greatest[:axis], size[-1:] if axis == -1 else size[axis : axis + 1], *after], 0
            )
            for size in sizes
        ]
    out = raw.SparseConcat(indices, values, sizes, concat_dim=axis, name=name)
    total = out.output_shape
    known = [constant_value(size) for size in sizes]
    if all(size is not None for size in known):
        total = np.array(known[0])
        total[axis] = sum(size[axis] for size in known)
    return SparseTensor(out.output_indices, out.output_values, total)


class KeywordRequired:
    """The default of an argument that stands only for "give the others by name"."""

    def __repr__(self) -> str:
        return "KeywordRequired()"


@export("sparse_split", "sparse.split")
def sparse_split(
    keyword_required: Any = KeywordRequired(),  # noqa: B008 (as TensorFlow's signature has it)
    sp_input: Any = None,
    num_split: int | None = None,
    axis: Any = None,
    name: str | None = None,
    split_dim: Any = None,
) -> list[SparseTensor]:
    """`num_split` pieces of `sp_input` along `axis`; the first ones are longer by 1 where the size does not divide.

    Arguments are given by name. Raises ValueError: one is missing, or they are not given by name.
    """
    if not isinstance(keyword_required, KeywordRequired):
        raise ValueError("Keyword arguments are required for this function.")
    for what, value in (("sp_input", sp_input), ("num_split", num_split)):
        if value is None:
            raise ValueError(f"{what} is required")
    axis = renamed("axis", axis, "split_dim", split_dim)
    if axis is None:
        raise ValueError("axis is required")
    pieces = raw.SparseSplit(axis, *parts(as_sparse(sp_input)), num_split=num_split, name=name)
    return [SparseTensor(*piece) for piece in zip(*pieces, strict=True)]


@export("sparse_slice", "sparse.slice")
def sparse_slice(sp_input: Any, start: Any, size: Any, name: str | None = None) -> SparseTensor:
    """The block of `sp_input` that begins at `start` and has at most `size`, both vectors."""
    sparse = as_sparse(sp_input)
    start = convert_to_tensor(start, dtypes.int64)
    size = convert_to_tensor(size, dtypes.int64)
    with name_scope(name, "SparseSlice", list(parts(sparse))) as scope:
        return SparseTensor(*raw.SparseSlice(*parts(sparse), start, size, name=scope))


@export("sparse_retain", "sparse.retain")
def sparse_retain(sp_input: Any, to_retain: Any) -> SparseTensor:
    """The values of `sp_input` where the vector `to_retain` is true."""
    sparse = as_sparse(sp_input)
    to_retain = convert_to_tensor(to_retain)
    known = to_retain.shape
    known.assert_has_rank(1)
    sparse.values.shape.dims[0].merge_with(known.dims[0])
    where = reshape(raw.Where(to_retain), [-1])
    indices = raw.GatherV2(sparse.indices, where, 0)
    return SparseTensor(
        indices, raw.GatherV2(sparse.values, where, 0), raw.Identity(sparse.dense_shape)
    )


@export("sparse_fill_empty_rows", "sparse.fill_empty_rows")
def sparse_fill_empty_rows(
    sp_input: Any, default_value: Any, name: str | None = None
) -> tuple[SparseTensor, Tensor]:
    """`sp_input` with `default_value` at [row, 0] of each row without values, and which rows these were."""
    sparse = as_sparse(sp_input)
    with name_scope(name, "SparseFillEmptyRows", list(parts(sparse))):
        default_value = convert_to_tensor(default_value, sparse.values.dtype.base_dtype)
        out = raw.SparseFillEmptyRows(*parts(sparse), default_value)
        filled = SparseTensor(out.output_indices, out.output_values, sparse.dense_shape)
        return filled, out.empty_row_indicator


# ---- order and shape


@export("sparse_reorder", "sparse.reorder")
def sparse_reorder(sp_input: Any, name: str | None = None) -> SparseTensor:
    """`sp_input` with its values in row-major order."""
    sparse = as_sparse(sp_input)
    indices, values = raw.SparseReorder(*parts(sparse), name=name)
    known = sparse.shape
    dense_shape = known.as_list() if known.is_fully_defined() else raw.Identity(sparse.dense_shape)
    return SparseTensor(indices, values, dense_shape)


@export("sparse_reshape", "sparse.reshape")
def sparse_reshape(sp_input: Any, shape: Any, name: str | None = None) -> SparseTensor:
    """`sp_input` in another shape of as many elements; one size may be -1.

    Raises ValueError: the shapes are known and do not fit.
    """
    sparse = as_sparse(sp_input)
    shape = cast(shape, dtypes.int64)
    with name_scope(name, "SparseReshape", list(parts(sparse))) as scope:
        indices, new_shape = raw.SparseReshape(
            sparse.indices, sparse.dense_shape, shape, name=scope
        )
        known = _reshaped(sparse, shape)
        if known is not None:
            new_shape = convert_to_tensor(known, dtypes.int64)
        return SparseTensor(indices, raw.Identity(sparse.values), new_shape)


def _reshaped(sparse: SparseTensor, shape: Tensor) -> list[int] | None:
    """The new sizes, if they are known. Raises ValueError: they do not fit the old ones."""
    sizes = constant_value_as_shape(shape)
    if sizes is None or not sparse.shape.is_fully_defined():
        return None
    given = constant_value(shape)
    if given is not None and (given == -1).sum() > 1:
        raise ValueError(f"At most one dimension can be inferred (-1). Found: {given}")
    total = int(np.prod(sparse.shape.as_list(), dtype=np.int64))
    implied = [i for i, size in enumerate(sizes) if size is None]
    if len(implied) > 1:
        return None
    new = list(sizes)
    if implied:
        others = int(np.prod([size for size in sizes if size is not None], dtype=np.int64))
        new[implied[0]] = total // others if others else 0
    count = int(np.prod(new, dtype=np.int64))
    if count != total:
        raise ValueError(
            f"Cannot reshape a tensor with {total} elements to shape {list(sizes)} ({count} elements)."
        )
    return new  # type: ignore[return-value]


@export("sparse_reset_shape", "sparse.reset_shape")
def sparse_reset_shape(sp_input: Any, new_shape: Any = None) -> SparseTensor:
    """`sp_input` with the shape `new_shape`, nowhere smaller than its own; the smallest that holds its values if None.

    Raises ValueError: a shape that is known to be too small, or of another rank.
    """
    sparse = as_sparse(sp_input)
    indices, values, old = (raw.Identity(part) for part in parts(sparse))
    if new_shape is None:
        limits = raw.AddV2(reduce_max(indices, 0), raw.OnesLike(old))
        return SparseTensor(indices, values, raw.Maximum(np.int64(0), limits))
    new = convert_to_tensor(new_shape)
    new.shape.assert_has_rank(1)
    new = cast(new, dtypes.int64)
    if new.shape.ndims is not None:
        new.shape.dims[0].merge_with(old.shape.dims[0])
    known = constant_value(new)
    if known is not None and sparse.shape.is_fully_defined():
        sizes = np.array(sparse.shape.as_list())
        if not np.all(sizes <= known):
            raise ValueError(
                "Requested new_shape should have dimension sizes >= sp_input.shape.  Found new_shape "
                f"({known}), sp_input.shape ({sizes})."
            )
        return SparseTensor(indices, values, known)
    new = with_dependencies([check_ops.assert_equal(shape(old), shape(new))], new)
    new = with_dependencies([check_ops.assert_less_equal(old, new)], new)
    return SparseTensor(indices, values, new)


@export("sparse_transpose", "sparse.transpose")
def sparse_transpose(sp_input: Any, perm: Any = None, name: str | None = None) -> SparseTensor:
    """`sp_input` with its axes in the order `perm` (reversed where None)."""
    with name_scope(name, "SparseTranspose", list(parts(sp_input))):
        if perm is None:
            count = rank(sp_input)
            perm = count - 1 - range_of(0, count, 1)
        indices = transpose(raw.GatherV2(transpose(sp_input.indices), perm, 0))
        order = constant_value(convert_to_tensor(perm))
        if order is not None and sp_input.shape.is_fully_defined():
            sizes = sp_input.shape.as_list()
            dense_shape: Any = [sizes[axis] for axis in order]
        else:
            dense_shape = raw.GatherV2(sp_input.dense_shape, perm, 0)
        return sparse_reorder(SparseTensor(indices, sp_input.values, dense_shape))


@export("sparse.expand_dims")
def sparse_expand_dims(sp_input: Any, axis: Any = None, name: str | None = None) -> SparseTensor:
    """`sp_input` with an axis of size 1 at `axis` (the end where None). Raises TypeError: no integer."""
    count = sp_input.dense_shape.shape.as_list()[0]
    axis = -1 if axis is None else axis
    with name_scope(name, "expand_dims", list(parts(sp_input))):
        if isinstance(axis, numbers.Integral):
            if count is not None and not -count - 1 <= axis <= count:
                raise ValueError(
                    f"axis must be an integer value in range [-rank(sp_input) - 1, rank(sp_input)], got {axis}"
                )
            axis = convert_to_tensor(axis, dtypes.int32, name="axis")
        elif not isinstance(axis, Tensor):
            raise TypeError(
                f"axis must be an integer value in range [-rank(sp_input) - 1, rank(sp_input)], got {axis!r}"
            )
        known = count if count is not None else rank(sp_input)
        axis = raw.Select(raw.GreaterEqual(axis, 0), axis, axis + known + 1)
        height = shape(sp_input.indices)[0]
        zeros = raw.Fill(raw.Pack([height, 1]), np.int64(0))
        before = raw.Slice(sp_input.indices, [0, 0], raw.Pack([-1, axis]))
        after = raw.Slice(sp_input.indices, raw.Pack([0, axis]), [-1, -1])
        indices = raw.ConcatV2([before, zeros, after], 1)
        axis_1d = raw.Pack([axis])
        sizes = [
            raw.Slice(sp_input.dense_shape, [0], axis_1d),
            np.ones(1, np.int64),
            raw.Slice(sp_input.dense_shape, axis_1d, [-1]),
        ]
        return SparseTensor(indices, sp_input.values, raw.ConcatV2(sizes, 0))


# ---- ids as indices


@export("sparse_merge", "sparse.merge")
def sparse_merge(
    sp_ids: Any,
    sp_values: Any,
    vocab_size: Any,
    name: str | None = None,
    already_sorted: bool = False,
) -> SparseTensor:
    """A sparse tensor whose last index is the id in `sp_ids`, with the values of `sp_values`.

    sp_ids: a SparseTensor [D0, ..., Dn, K] of ids, or a list of them for several last indices. vocab_size: a number
    (or a list): one more than the greatest id. Returns [D0, ..., Dn, vocab_size]. Raises TypeError: of another type.
    """
    if is_sparse(sp_ids):
        sp_ids, vocab_size = [sp_ids], [_size(vocab_size)]
    else:
        if not isinstance(sp_ids, Iterable):
            raise TypeError(
                f"sp_ids has to be a SparseTensor or list thereof. Found {type(sp_ids)}"
            )
        if not isinstance(vocab_size, Iterable) or isinstance(vocab_size, Tensor):
            raise TypeError(
                f"vocab_size has to be a list of Tensors or Python ints. Found {type(vocab_size)}"
            )
        vocab_size = [_size(size) for size in vocab_size]
    if len(sp_ids) != len(vocab_size):
        raise ValueError("sp_ids and vocab_size have to have equal lengths.")
    with name_scope(name, "SparseMerge"):
        all_ids = [as_sparse(ids) for ids in sp_ids]
        values = as_sparse(sp_values).values
        columns = [expand_dims(cast(ids.values, dtypes.int64), 1) for ids in all_ids]
        sizes = [expand_dims(cast(size, dtypes.int64), 0) for size in vocab_size]
        indices = raw.ConcatV2([all_ids[0].indices[:, :-1], *columns], 1)
        dense_shape = raw.ConcatV2([all_ids[0].dense_shape[:-1], *sizes], 0)
        merged = SparseTensor(indices, values, dense_shape)
        if already_sorted:
            return merged
        ordered = sparse_reorder(merged)
        return SparseTensor(ordered.indices, ordered.values, dense_shape)


def _size(value: Any) -> Any:
    if not isinstance(value, (Tensor, numbers.Integral)):
        raise TypeError(f"vocab_size has to be a Tensor or Python int. Found {type(value)}")
    return value


@export("sparse_to_indicator", "sparse.to_indicator")
def sparse_to_indicator(sp_input: Any, vocab_size: Any, name: str | None = None) -> Tensor:
    """A bool tensor [D0, ..., Dn, vocab_size] that is true where `sp_input` [D0, ..., Dn, K] names the id."""
    sparse = as_sparse(sp_input)
    with name_scope(name, "SparseToIndicator", list(parts(sparse))) as scope:
        count = shape(sparse.indices)[0]
        true = raw.Fill(expand_dims(count, 0), True)
        marks = SparseTensor(sparse.indices, true, sparse.dense_shape)
        merged = sparse_merge(sparse, marks, vocab_size, scope)
        return sparse_tensor_to_dense(merged, False, validate_indices=False, name=scope)


# ---- as strings


@export("serialize_sparse", "io.serialize_sparse")
def serialize_sparse(
    sp_input: Any, name: str | None = None, out_type: Any = dtypes.string
) -> Tensor:
    """`sp_input` as a vector of three strings (or variants): its indices, values and shape."""
    return raw.SerializeSparse(*parts(as_sparse(sp_input)), out_type=out_type, name=name)


@export("serialize_many_sparse", "io.serialize_many_sparse")
def serialize_many_sparse(
    sp_input: Any, name: str | None = None, out_type: Any = dtypes.string
) -> Tensor:
    """The slices of `sp_input` along its first axis, each as a row of three strings (or variants)."""
    return raw.SerializeManySparse(*parts(as_sparse(sp_input)), out_type=out_type, name=name)


@export("deserialize_many_sparse", "io.deserialize_many_sparse")
def deserialize_many_sparse(
    serialized_sparse: Any, dtype: Any, rank: int | None = None, name: str | None = None
) -> SparseTensor:
    """The sparse tensors that `serialized_sparse` [n, 3] holds as one, with n as its first size.

    dtype: of the values. rank: of the result, if known. Other sizes are the greatest among the n.
    """
    return _of_rank(raw.DeserializeManySparse(serialized_sparse, dtype=dtype, name=name), rank)


def deserialize_sparse(
    serialized_sparse: Any, dtype: Any, rank: int | None = None, name: str | None = None
) -> SparseTensor:
    """As `deserialize_many_sparse`, for any number of axes before the last one of size 3 (also none)."""
    return _of_rank(raw.DeserializeSparse(serialized_sparse, dtype=dtype, name=name), rank)


def _of_rank(three: Any, rank: int | None) -> SparseTensor:
    indices, values, dense_shape = three
    indices.set_shape([None, rank])
    dense_shape.set_shape([rank])
    return SparseTensor(indices, values, dense_shape)
