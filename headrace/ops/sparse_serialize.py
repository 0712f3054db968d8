"""Sparse tensors packed as strings or variants, and kept by number in a session: SerializeSparse and its kin."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from tensorboard.compat.proto import tensor_pb2

from headrace.core import dtypes
from headrace.core.tensor_proto import array_to_proto, make_ndarray
from headrace.graph import shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import context
from headrace.ops.sparse import check_sparse, row_order

_INPUTS = "sparse_indices: int64, sparse_values: T, sparse_shape: int64"
_OUTPUTS = "sparse_indices: int64, sparse_values: dtype, sparse_shape: int64"

Sparse = tuple[np.ndarray, np.ndarray, np.ndarray]

# ---- packing


def _pack(op: Any, sparse: Sparse) -> np.ndarray:
    """The three parts as serialized TensorProtos, or as arrays in variants."""
    out = np.empty(3, object)
    as_text = op.output_dtype(0) is dtypes.string
    for i, part in enumerate(sparse):
        out[i] = array_to_proto(np.asarray(part)).SerializeToString() if as_text else part
    return out


def _check_parts(op, indices, values, shape):
    shapes.with_rank(op, indices, 2, "sparse_indices")
    shapes.with_rank(op, values, 1, "sparse_values")
    shapes.with_rank(op, shape, 1, "sparse_shape")


def _rows_of(op: Any, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> list[Sparse]:
    """The slices along the first axis."""
    check_sparse(op, indices, values, shape, "sparse_")
    if shape.size < 2:
        raise op.invalid(f"Rank of input SparseTensor should be > 1, but saw rank: {shape.size}")
    count = int(shape[0])
    first = indices[:, 0]
    bad = (first < 0) | (first >= count)
    if bad.any():
        raise op.invalid(
            f"Received unexpected column 0 value in input SparseTensor: {first[bad][0]} < 0 or >= N (= {count})"
        )
    found = []
    for row in range(count):
        mine = first == row
        found.append((indices[mine][:, 1:], values[mine], shape[1:]))
    return found


serialize_sparse = define(
    "SerializeSparse",
    f"{_INPUTS} -> serialized_sparse: out_type",
    "T: type, out_type: {string, variant} = string",
    host_only=True,
)


@serialize_sparse.shape
def _serialize_sparse_shape(op, indices, values, shape):
    _check_parts(op, indices, values, shape)
    return (3,)


@serialize_sparse.host
def _serialize_sparse_host(op, indices, values, shape):
    check_sparse(op, indices, values, shape, "sparse_")
    return _pack(op, (indices, values, shape))


serialize_sparse.not_differentiable()

serialize_many_sparse = define(
    "SerializeManySparse",
    f"{_INPUTS} -> serialized_sparse: out_type",
    "T: type, out_type: {string, variant} = string",
    host_only=True,
)


@serialize_many_sparse.shape
def _serialize_many_sparse_shape(op, indices, values, shape):
    _check_parts(op, indices, values, shape)
    return (None, 3)


@serialize_many_sparse.host
def _serialize_many_sparse_host(op, indices, values, shape):
    rows = _rows_of(op, indices, values, shape)
    return np.stack([_pack(op, row) for row in rows]) if rows else np.empty((0, 3), object)


serialize_many_sparse.not_differentiable()

# ---- unpacking


def _unpack_part(op: Any, packed: Any) -> np.ndarray:
    if isinstance(packed, np.ndarray):
        return packed
    proto = tensor_pb2.TensorProto()
    try:
        proto.ParseFromString(packed)
        return make_ndarray(proto)
    except Exception as error:
        raise op.invalid(f"Could not parse serialized proto: {error}") from error


def _unpack(op: Any, packed: np.ndarray, number: int) -> Sparse:
    indices, values, shape = (_unpack_part(op, part) for part in packed)
    if indices.ndim != 2 or values.ndim != 1 or shape.ndim != 1 or len(indices) != len(values):
        raise op.invalid(
            f"Expected serialized_sparse[{number}] to hold a matrix of indices, a vector of as many values and a vector, "
            f"got shapes {list(indices.shape)}, {list(values.shape)} and {list(shape.shape)}"
        )
    _check_type(op, values, number)
    return indices, values, shape


def _check_type(op: Any, values: np.ndarray, number: int) -> None:
    wanted, got = op.output_dtype(1), dtypes.as_dtype(values.dtype)
    if got is not wanted:
        raise op.invalid(
            f"Requested SparseTensor of type {wanted.name} but SparseTensor[{number}].values.dtype() == {got.name}"
        )


def _stack(op: Any, many: list[Sparse], outer: tuple[int, ...], what: str, added: int) -> Sparse:
    """Sparse tensors as one with the axes `outer` before theirs; the other sizes are the greatest of each."""
    if not many:
        raise op.invalid(
            "Must have at least 1 serialized SparseTensor, but input matrix has 0 rows"
        )
    rank = many[0][2].size
    for i, (_, _, shape) in enumerate(many):
        if shape.size != rank:
            raise op.invalid(
                f"Inconsistent {what} across SparseTensors: rank prior to SparseTensor[{i}] was: {rank + added} but rank of "
                f"SparseTensor[{i}] is: {shape.size + added}"
            )
    places = []
    for at, (own, _, _) in zip(np.ndindex(outer), many, strict=True):
        before = np.broadcast_to(np.array(at, np.int64), (len(own), len(outer)))
        places.append(np.concatenate([before, own], axis=1))
    indices = np.concatenate(places)
    order = row_order(indices)
    sizes = np.max([shape for _, _, shape in many], axis=0)
    values = np.concatenate([v for _, v, _ in many])
    return indices[order], values[order], np.array([*outer, *sizes], np.int64)


def _three_unknown(op, *inputs):
    return [(None, None), (None,), (None,)]


deserialize_sparse = define(
    "DeserializeSparse",
    f"serialized_sparse: Tserialized -> {_OUTPUTS}",
    "dtype: type, Tserialized: {string, variant} = string",
    host_only=True,
)


@deserialize_sparse.shape
def _deserialize_sparse_shape(op, packed):
    shapes.at_least_rank(op, packed, 1, "serialized_sparse")
    if packed is not None:
        shapes.merge_size(op, packed[-1], 3, "the last size of serialized_sparse must be 3")
    return _three_unknown(op)


@deserialize_sparse.host
def _deserialize_sparse_host(op, packed):
    if not packed.ndim or packed.shape[-1] != 3:
        raise op.invalid(
            f"Serialized sparse should have 3 as the last dimension but received shape {list(packed.shape)}"
        )
    many = [_unpack(op, row, i) for i, row in enumerate(packed.reshape(-1, 3))]
    return many[0] if packed.ndim == 1 else _stack(op, many, packed.shape[:-1], "shape", 0)


deserialize_sparse.not_differentiable()

deserialize_many_sparse = define(
    "DeserializeManySparse",
    f"serialized_sparse: string -> {_OUTPUTS}",
    "dtype: type",
    host_only=True,
)


@deserialize_many_sparse.shape
def _deserialize_many_sparse_shape(op, packed):
    packed = shapes.with_rank(op, packed, 2, "serialized_sparse")
    shapes.merge_size(op, packed[1], 3, "the last size of serialized_sparse must be 3")
    return _three_unknown(op)


@deserialize_many_sparse.host
def _deserialize_many_sparse_host(op, packed):
    if packed.ndim != 2 or packed.shape[1] != 3:
        raise op.invalid(
            f"serialized_sparse must be a matrix of 3 columns but received shape {list(packed.shape)}"
        )
    many = [_unpack(op, row, i) for i, row in enumerate(packed)]
    return _stack(op, many, packed.shape[:1], "shape", 0)


deserialize_many_sparse.not_differentiable()

# ---- kept by number in the session


class _SparseTensorsMap:
    """Sparse tensors by number; each is taken once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._kept: dict[int, Sparse] = {}

    def add(self, sparse: Sparse) -> int:
        with self._lock:
            number = self._next
            self._next += 1
            self._kept[number] = sparse
            return number

    def take(self, number: int) -> Sparse | None:
        with self._lock:
            return self._kept.pop(number, None)


def _map_of(op: Any) -> _SparseTensorsMap:
    name = op.attr("shared_name") or op.name
    key = ("SparseTensorsMap", op.attr("container"), name)
    return context.current_step().resources.get_or_make(key, _SparseTensorsMap)


_MAP_ATTRS = "container: string = '', shared_name: string = ''"

add_sparse_to_map = define(
    "AddSparseToTensorsMap",
    f"{_INPUTS} -> sparse_handle: int64",
    f"T: type, {_MAP_ATTRS}",
    effects=Effect.STATEFUL,
    host_only=True,
)


@add_sparse_to_map.shape
def _add_sparse_to_map_shape(op, indices, values, shape):
    _check_parts(op, indices, values, shape)
    return ()


@add_sparse_to_map.host
def _add_sparse_to_map_host(op, indices, values, shape):
    check_sparse(op, indices, values, shape, "sparse_")
    return np.int64(_map_of(op).add((indices, values, shape)))


add_sparse_to_map.not_differentiable()

add_many_sparse_to_map = define(
    "AddManySparseToTensorsMap",
    f"{_INPUTS} -> sparse_handles: int64",
    f"T: type, {_MAP_ATTRS}",
    effects=Effect.STATEFUL,
    host_only=True,
)


@add_many_sparse_to_map.shape
def _add_many_sparse_to_map_shape(op, indices, values, shape):
    _check_parts(op, indices, values, shape)
    return (None,)


@add_many_sparse_to_map.host
def _add_many_sparse_to_map_host(op, indices, values, shape):
    kept = _map_of(op)
    return np.array([kept.add(row) for row in _rows_of(op, indices, values, shape)], np.int64)


add_many_sparse_to_map.not_differentiable()

take_many_sparse = define(
    "TakeManySparseFromTensorsMap",
    f"sparse_handles: int64 -> {_OUTPUTS}",
    f"dtype: type, {_MAP_ATTRS}",
    effects=Effect.STATEFUL,
    host_only=True,
)


@take_many_sparse.shape
def _take_many_sparse_shape(op, handles):
    shapes.with_rank(op, handles, 1, "sparse_handles")
    return _three_unknown(op)


@take_many_sparse.host
def _take_many_sparse_host(op, handles):
    kept, many = _map_of(op), []
    for i, number in enumerate(handles.tolist()):
        found = kept.take(number)
        if found is None:
            name = op.attr("shared_name") or op.name
            raise op.invalid(f"Unable to find SparseTensor: {number} in map: {name}")
        _check_type(op, found[1], i)
        many.append(found)
    return _stack(op, many, (len(many),), "rank", 1)


take_many_sparse.not_differentiable()
