"""What the cells of contrib are made of: linear maps, normalisation, variables in pieces."""

from __future__ import annotations

from typing import Any

from headrace.api import init_ops, join_ops
from headrace.api.framework import GraphKeys
from headrace.api.get_variable import get_variable, get_variable_scope
from headrace.api.matmul_ops import matmul
from headrace.api.nn_impl import batch_normalization, moments
from headrace.api.nn_ops import bias_add
from headrace.api.variable_scope import variable_scope
from headrace.graph import default
from headrace.graph.tensor import Tensor


def depth_of(inputs: Tensor) -> int:
    """The number of columns of a matrix. Raises ValueError: not known, or no matrix."""
    depth = inputs.shape.with_rank(2).as_list()[1]
    if depth is None:
        raise ValueError("Could not infer input size from inputs.get_shape()[-1]")
    return depth


def linear(values: Any, size: int, with_bias: bool = True) -> Tensor:
    """`values` (a matrix, or several side by side) times the variable `kernel`, plus the variable `bias`."""
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    rows = sum(depth_of(v) for v in values)
    dtype = values[0].dtype
    kernel = get_variable("kernel", [rows, size], dtype)
    result = matmul(values[0] if len(values) == 1 else join_ops.concat(values, 1), kernel)
    if not with_bias:
        return result
    with variable_scope(get_variable_scope()) as scope:
        scope.set_partitioner(None)
        zeros = init_ops.Constant(0.0, dtype=dtype)
        return bias_add(result, get_variable("bias", [size], dtype, initializer=zeros))


def normalized(x: Tensor, scope: str, gain: float, shift: float) -> Tensor:
    """`x` with mean and variance over the units made 0 and 1, times the variable `gamma`, plus `beta`."""
    units = x.shape[-1:]
    with variable_scope(scope):
        gamma = get_variable("gamma", units, x.dtype, initializer=init_ops.Constant(gain))
        beta = get_variable("beta", units, x.dtype, initializer=init_ops.Constant(shift))
        mean, variance = moments(x, [1], keep_dims=True)
        return batch_normalization(x, mean, variance, beta, gamma, 1e-12)


def in_pieces(name: str, shape: list[int], dtype: Any, count: int) -> Any:
    """A matrix made of `count` variables `name_0`, `name_1`, ..., one below the other.

    Raises ValueError: more pieces than rows.
    """
    if count > shape[0]:
        raise ValueError(f"Too many shards: shape={shape}, num_shards={count}")
    rows, left = divmod(shape[0], count)
    parts = [
        get_variable(f"{name}_{i}", [rows + (i < left), *shape[1:]], dtype) for i in range(count)
    ]
    if count == 1:
        return parts[0]
    whole = join_ops.concat(parts, 0, name=f"{name}/concat")
    default.get_default_graph().add_to_collection(GraphKeys.CONCATENATED_VARIABLES, whole)
    return whole
