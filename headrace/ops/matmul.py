"""Matrix products."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import define

# ---- MatMul

matmul = define(
    "MatMul",
    "a: T, b: T -> product: T",
    "transpose_a: bool = false, transpose_b: bool = false, "
    "T: {bfloat16, half, float, double, int32, int64, complex64, complex128}",
)


@matmul.shape
def _matmul_shape(op, a, b):
    a, b = shapes.with_rank(op, a, 2, "a"), shapes.with_rank(op, b, 2, "b")
    rows, inner_a = reversed(a) if op.attr("transpose_a") else a
    inner_b, columns = reversed(b) if op.attr("transpose_b") else b
    shapes.merge_size(op, inner_a, inner_b, f"inner sizes of a {shapes.text(a)} and b {shapes.text(b)}")
    return (rows, columns)


@matmul.lower
def _matmul_lower(op, a, b):
    contract = (0 if op.attr("transpose_a") else 1, 1 if op.attr("transpose_b") else 0)
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((), ())), preferred_element_type=a.dtype)


@matmul.host
def _matmul_host(op, a, b):
    return np.matmul(a.T if op.attr("transpose_a") else a, b.T if op.attr("transpose_b") else b).astype(a.dtype, copy=False)


@matmul.gradient
def _matmul_gradient(op, dy):
    """With y = op(a) op(b): da = dy op(b)', db = op(a)' dy, transposed back where the op transposed."""
    transpose_a, transpose_b = op.attr("transpose_a"), op.attr("transpose_b")
    a, b = (raw.Conj(x) if x.dtype.is_complex else x for x in op.inputs)
    if not transpose_a and not transpose_b:
        return raw.MatMul(dy, b, transpose_b=True), raw.MatMul(a, dy, transpose_a=True)
    if not transpose_a:
        return raw.MatMul(dy, b), raw.MatMul(dy, a, transpose_a=True)
    if not transpose_b:
        return raw.MatMul(b, dy, transpose_b=True), raw.MatMul(a, dy)
    return (
        raw.MatMul(b, dy, transpose_a=True, transpose_b=True),
        raw.MatMul(dy, a, transpose_a=True, transpose_b=True),
    )
