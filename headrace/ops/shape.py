"""What is known of a tensor's shape, as tensors: Shape, ShapeN, Size, Rank.

Their `lower` rules return NumPy arrays: while an island is traced every shape is known.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.graph import shapes
from headrace.graph.op_def import define
from headrace.graph.tensor import Dims

# ---- Shape

shape_ = define(
    "Shape", "input: T -> output: out_type", "T: type, out_type: {int32, int64} = int32"
)


@shape_.shape
def _shape_shape(op, x) -> Dims:
    return (None,) if x is None else (len(x),)


@shape_.host
@shape_.lower
def _shape_lower(op, x):
    return np.array(x.shape, op.output_dtype().np_dtype)


@shape_.static
def _shape_static(op):
    dims = op._inputs[0]._dims
    return np.array(dims, op.output_dtype().np_dtype) if shapes.is_known(dims) else None


@shape_.partial
def _shape_partial(op):
    dims = op._inputs[0]._dims
    return None if dims is None else list(dims)


shape_.not_differentiable()

# ---- ShapeN

shape_n = define(
    "ShapeN",
    "input: N*T -> output: N*out_type",
    "N: int >= 1, T: type, out_type: {int32, int64} = int32",
)


@shape_n.shape
def _shape_n_shape(op, inputs) -> list[Dims]:
    return [(None,) if x is None else (len(x),) for x in inputs]


@shape_n.host
@shape_n.lower
def _shape_n_lower(op, inputs):
    return tuple(np.array(x.shape, op.output_dtype().np_dtype) for x in inputs)


@shape_n.static
def _shape_n_static(op):
    known = [t._dims for t in op._inputs]
    if not all(map(shapes.is_known, known)):
        return None
    return [np.array(dims, op.output_dtype().np_dtype) for dims in known]


shape_n.not_differentiable()

# ---- Size

size = define("Size", "input: T -> output: out_type", "T: type, out_type: {int32, int64} = int32")
size.shape(shapes.scalar)


@size.host
@size.lower
def _size_lower(op, x):
    return np.array(math.prod(x.shape), op.output_dtype().np_dtype)


@size.static
def _size_static(op):
    count = shapes.element_count(op._inputs[0]._dims)
    return None if count is None else np.array(count, op.output_dtype().np_dtype)


size.not_differentiable()

# ---- Rank

rank = define("Rank", "input: T -> output: int32", "T: type")
rank.shape(shapes.scalar)


@rank.host
@rank.lower
def _rank_lower(op, x):
    return np.array(len(x.shape), np.int32)


@rank.static
def _rank_static(op):
    dims = op._inputs[0]._dims
    return None if dims is None else np.array(len(dims), np.int32)


rank.not_differentiable()
