"""`tensorflow.python.ops.sparse_ops`: what has no public name."""

from __future__ import annotations

from typing import Any

from headrace.api.sparse_ops import as_sparse, parts
from headrace.api.sparse_ops import as_sparse as _convert_to_sparse_tensor
from headrace.api.sparse_structure import deserialize_sparse
from headrace.graph import default, raw
from headrace.graph.operation import Operation
from headrace.graph.sparse_tensor import SparseTensor
from headrace.graph.tensor import Tensor

__all__ = ["_convert_to_sparse_tensor", "deserialize_sparse", "sparse_dense_cwise_add"]


def sparse_dense_cwise_add(sp_t: SparseTensor, dense_t: Any) -> SparseTensor:
    """The given values of `sp_t` plus the elements of `dense_t`, which broadcasts."""
    values = raw.SparseDenseCwiseAdd(*parts(sp_t), dense_t)
    return SparseTensor(sp_t.indices, values, sp_t.dense_shape)


def _add_sparse_to_tensors_map(
    sp_input: Any,
    container: str | None = None,
    shared_name: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The number under which the session keeps `sp_input`."""
    return raw.AddSparseToTensorsMap(
        *parts(as_sparse(sp_input)), container=container, shared_name=shared_name, name=name
    )


def _add_many_sparse_to_tensors_map(
    sp_input: Any,
    container: str | None = None,
    shared_name: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The numbers under which the session keeps the slices of `sp_input` along its first axis."""
    return raw.AddManySparseToTensorsMap(
        *parts(as_sparse(sp_input)), container=container, shared_name=shared_name, name=name
    )


def _take_many_sparse_from_tensors_map(
    sparse_map_op: Operation, sparse_handles: Any, rank: int | None = None, name: str | None = None
) -> SparseTensor:
    """The sparse tensors of these numbers as one; the session forgets them.

    sparse_map_op: the operation that put them there. rank: of the result, if known. Raises TypeError: no such operation.
    """
    if not isinstance(sparse_map_op, Operation):
        raise TypeError(f"sparse_map_op be an Operation, got {sparse_map_op!r}")
    if sparse_map_op.type not in ("AddSparseToTensorsMap", "AddManySparseToTensorsMap"):
        raise TypeError(
            "sparse_map_op must be one of AddSparseToTensorsMap or AddManySparseToTensorsMap. Instead, found "
            f"`{sparse_map_op.type}`."
        )
    with default.get_default_graph().colocate_with(sparse_map_op):
        indices, values, dense_shape = raw.TakeManySparseFromTensorsMap(
            sparse_handles,
            dtype=sparse_map_op.get_attr("T"),
            container=sparse_map_op.get_attr("container"),
            shared_name=sparse_map_op.get_attr("shared_name") or sparse_map_op.name,
            name=name,
        )
    indices.set_shape([None, rank])
    dense_shape.set_shape([rank])
    return SparseTensor(indices, values, dense_shape)
