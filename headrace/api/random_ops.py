"""Random tensors: `tf.random_normal`, `tf.random_uniform`, `tf.multinomial`, `tf.random.stateless_normal`, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api import array_ops
from headrace.api.control_flow_basic import with_dependencies
from headrace.api.diagnostic import Assert
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.random_seed import get_seed
from headrace.api.source import constant
from headrace.core import dtypes
from headrace.core.tensor_shape import Dimension
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


@export("random.normal", "random_normal")
def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """A tensor of normally distributed numbers.

    shape: sizes, or a vector of them. mean, stddev: scalars of `dtype`, or what broadcasts with
    `shape`.
    """
    with name_scope(name, "random_normal", [shape, mean, stddev]) as scope:
        sizes = _shape_tensor(shape)
        mean = convert_to_tensor(mean, dtype, "mean")
        stddev = convert_to_tensor(stddev, dtype, "stddev")
        drawn = _seeded(raw.RandomStandardNormal, seed, sizes, dtype=dtype)
        return raw.Add(raw.Mul(drawn, stddev, name="mul"), mean, name=scope)


@export("random.truncated_normal", "truncated_normal")
def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """A tensor of normally distributed numbers, those beyond two standard deviations drawn again.

    shape: sizes, or a vector of them. mean, stddev: scalars of `dtype`, or what broadcasts with
    `shape`.
    """
    with name_scope(name, "truncated_normal", [shape, mean, stddev]) as scope:
        sizes = _shape_tensor(shape)
        mean = convert_to_tensor(mean, dtype, "mean")
        stddev = convert_to_tensor(stddev, dtype, "stddev")
        drawn = _seeded(raw.TruncatedNormal, seed, sizes, dtype=dtype)
        return raw.Add(raw.Mul(drawn, stddev, name="mul"), mean, name=scope)


@export("random.uniform", "random_uniform")
def random_uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """A tensor of numbers that are uniformly distributed in [minval, maxval).

    shape: sizes, or a vector of them. dtype: a floating-point type (maxval is 1 where None), int32
    or int64.
    Raises ValueError: another dtype, or an integer one without maxval.
    """
    dtype, maxval = _uniform_arguments(dtype, maxval)
    with name_scope(name, "random_uniform", [shape, minval, maxval]) as scope:
        sizes = _shape_tensor(shape)
        minval = convert_to_tensor(minval, dtype, "min")
        maxval = convert_to_tensor(maxval, dtype, "max")
        if dtype.is_integer:
            return _seeded(raw.RandomUniformInt, seed, sizes, minval, maxval, name=scope)
        drawn = _seeded(raw.RandomUniform, seed, sizes, dtype=dtype)
        return _scaled(drawn, minval, maxval, scope)


@export("random.shuffle", "random_shuffle")
def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """The rows of `value` (its slices along axis 0) in random order."""
    return _seeded(raw.RandomShuffle, seed, value, name=name)


@export("image.random_crop", "random_crop")
def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """A part of `value`, of the shape `size`, from a random place.

    The run fails with InvalidArgumentError where `value` is smaller than `size` along an axis.
    """
    with name_scope(name, "random_crop", [value, size]) as scope:
        value = convert_to_tensor(value, name="value")
        size = convert_to_tensor(size, dtypes.int32, "size")
        shape = array_ops.shape(value)
        is_large_enough = raw.All(
            raw.GreaterEqual(shape, size, name="GreaterEqual"),
            constant([0]),
        )
        check = Assert(is_large_enough, ["Need value.shape >= size, got ", shape, size], 1000)
        shape = with_dependencies([check], shape)
        places = raw.AddV2(raw.Sub(shape, size, name="sub"), 1, name="add")
        drawn = random_uniform(
            array_ops.shape(shape), dtype=dtypes.int32, maxval=dtypes.int32.max, seed=seed
        )
        return raw.Slice(value, raw.FloorMod(drawn, places, name="mod"), size, name=scope)


@export("random.multinomial", "multinomial")
def multinomial(
    logits: Any,
    num_samples: Any,
    seed: int | None = None,
    name: str | None = None,
    output_dtype: Any = None,
) -> Tensor:
    """Class numbers drawn from unnormalised log-probabilities.

    logits: [batch, classes]. num_samples: scalar. Returns [batch, num_samples], int64 where
    output_dtype is None.
    """
    with name_scope(name, "multinomial", [logits]):
        return _categorical(logits, num_samples, output_dtype, seed)


@export("random.categorical")
def categorical(
    logits: Any,
    num_samples: Any,
    dtype: Any = None,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Class numbers drawn from unnormalised log-probabilities.

    logits: [batch, classes]. num_samples: scalar. Returns [batch, num_samples], int64 where dtype
    is None.
    """
    with name_scope(name, "categorical", [logits]):
        return _categorical(logits, num_samples, dtype, seed)


@export("random.gamma", "random_gamma")
def random_gamma(
    shape: Any,
    alpha: Any,
    beta: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Numbers from gamma distributions, differentiable by their parameters.

    alpha, beta: concentration and rate (1 where None), of `dtype`; they broadcast. Where a number
    underflows it is the smallest normal number, never 0. Returns `shape` numbers for each pair:
    shape + (alpha + beta).shape.
    """
    with name_scope(name, "random_gamma", [shape, alpha, beta]):
        shape = convert_to_tensor(shape, dtypes.int32, "shape")
        alpha = convert_to_tensor(alpha, dtype, "alpha")
        beta = convert_to_tensor(1 if beta is None else beta, dtype, "beta")
        alpha = raw.AddV2(alpha, array_ops.zeros_like(beta), name="add")
        drawn = _seeded(raw.RandomGamma, seed, shape, alpha)
        smallest = np.finfo(alpha.dtype.as_numpy_dtype).tiny
        return raw.Maximum(smallest, raw.RealDiv(drawn, beta, name="truediv"))


@export("random.poisson", "random_poisson")
def random_poisson(
    lam: Any,
    shape: Any,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Numbers from Poisson distributions: shape + lam.shape of them, `shape` for each rate in `lam`."""
    with name_scope(name, "random_poisson", [lam, shape]):
        shape = convert_to_tensor(shape, dtypes.int32, "shape")
        return _seeded(raw.RandomPoissonV2, seed, shape, lam, dtype=dtype)


@export("random.stateless_uniform")
def stateless_uniform(
    shape: Any,
    seed: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """As `random_uniform`; the numbers depend on `seed` (two integers) and on nothing else."""
    dtype, maxval = _uniform_arguments(dtype, maxval)
    with name_scope(name, "stateless_random_uniform", [shape, seed, minval, maxval]) as scope:
        sizes = _shape_tensor(shape)
        minval = convert_to_tensor(minval, dtype, "min")
        maxval = convert_to_tensor(maxval, dtype, "max")
        if dtype.is_integer:
            return raw.StatelessRandomUniformInt(sizes, seed, minval, maxval, name=scope)
        drawn = raw.StatelessRandomUniform(sizes, seed, dtype=dtype)
        return _scaled(drawn, minval, maxval, scope)


@export("random.stateless_normal")
def stateless_normal(
    shape: Any,
    seed: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """As `random_normal`; the numbers depend on `seed` (two integers) and on nothing else."""
    with name_scope(name, "stateless_random_normal", [shape, seed, mean, stddev]) as scope:
        sizes = _shape_tensor(shape)
        mean = convert_to_tensor(mean, dtype, "mean")
        stddev = convert_to_tensor(stddev, dtype, "stddev")
        drawn = raw.StatelessRandomNormal(sizes, seed, dtype=dtype)
        return raw.Add(raw.Mul(drawn, stddev, name="mul"), mean, name=scope)


@export("random.stateless_truncated_normal")
def stateless_truncated_normal(
    shape: Any,
    seed: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """As `truncated_normal`; the numbers depend on `seed` (two integers) and on nothing else."""
    with name_scope(name, "stateless_truncated_normal", [shape, seed, mean, stddev]) as scope:
        sizes = _shape_tensor(shape)
        mean = convert_to_tensor(mean, dtype, "mean")
        stddev = convert_to_tensor(stddev, dtype, "stddev")
        drawn = raw.StatelessTruncatedNormal(sizes, seed, dtype=dtype)
        return raw.Add(raw.Mul(drawn, stddev, name="mul"), mean, name=scope)


@export("random.stateless_multinomial")
def stateless_multinomial(
    logits: Any,
    num_samples: Any,
    seed: Any,
    output_dtype: Any = dtypes.int64,
    name: str | None = None,
) -> Tensor:
    """As `multinomial`; the numbers depend on `seed` (two integers) and on nothing else."""
    with name_scope(name, "stateless_multinomial", [logits, seed]):
        logits = convert_to_tensor(logits, name="logits")
        return raw.StatelessMultinomial(logits, num_samples, seed, output_dtype=output_dtype)


@export("random.stateless_categorical")
def stateless_categorical(
    logits: Any,
    num_samples: Any,
    seed: Any,
    dtype: Any = dtypes.int64,
    name: str | None = None,
) -> Tensor:
    """As `random.categorical`; the numbers depend on `seed` (two integers) and on nothing else."""
    with name_scope(name, "stateless_categorical", [logits, seed]):
        logits = convert_to_tensor(logits, name="logits")
        return raw.StatelessMultinomial(logits, num_samples, seed, output_dtype=dtype)


def _seeded(op: Callable[..., Tensor], seed: int | None, *inputs: Any, **others: Any) -> Tensor:
    """Adds a random operation with the seeds that follow from `seed`, taken after its inputs were made."""
    graph_seed, op_seed = get_seed(seed)
    return op(*inputs, seed=graph_seed or 0, seed2=op_seed or 0, **others)


def _shape_tensor(shape: Any) -> Tensor:
    """Sizes (Dimensions among them) as a vector of integers."""
    if not isinstance(shape, list | tuple):
        return convert_to_tensor(shape, name="shape")
    sizes = [size.value if isinstance(size, Dimension) else size for size in shape]
    return convert_to_tensor(sizes, None if sizes else dtypes.int32, "shape")


def _uniform_arguments(dtype: Any, maxval: Any) -> tuple[dtypes.DType, Any]:
    dtype = dtypes.as_dtype(dtype)
    if not dtype.is_floating and dtype not in (dtypes.int32, dtypes.int64):
        raise ValueError(f"Invalid dtype {dtype!r}: needs a floating-point type, int32 or int64")
    if maxval is None:
        if dtype.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {dtype!r}")
        maxval = 1
    return dtype, maxval


def _scaled(drawn: Tensor, minval: Tensor, maxval: Tensor, scope: str) -> Tensor:
    """Numbers in [0, 1) brought to [minval, maxval)."""
    width = raw.Sub(maxval, minval, name="sub")
    return raw.Add(raw.Mul(drawn, width, name="mul"), minval, name=scope)


def _categorical(logits: Any, num_samples: Any, dtype: Any, seed: int | None) -> Tensor:
    logits = convert_to_tensor(logits, name="logits")
    return _seeded(raw.Multinomial, seed, logits, num_samples, output_dtype=dtype or dtypes.int64)
