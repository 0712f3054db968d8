"""Initializers of orthogonal matrices, and of convolution kernels that keep the norm of what they are applied to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.api import array_ops, random_ops
from headrace.api.export import PUBLIC, export
from headrace.api.init_ops import Initializer
from headrace.api.source import constant
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph import raw
from headrace.graph.tensor import Tensor

# A kernel that is being put together: its matrices by their place in the window.
Kernel = dict[tuple[int, ...], Tensor]


class _OrthogonalInitializer(Initializer):
    """What the initializers of this file share: gain, seed and dtype."""

    def __init__(
        self, gain: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.gain, self.seed = gain, seed
        self.dtype = dtypes.as_dtype(dtype)
        if not self.dtype.is_floating:
            raise ValueError(f"Expected floating point type, got {self.dtype!r}.")

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "seed": self.seed, "dtype": self.dtype.name}


def _uniform_orthogonal(matrix: Tensor) -> Tensor:
    """The Q of a matrix of normals: uniform over orthogonal matrices once R's diagonal is made positive."""
    q, r = raw.Qr(matrix, full_matrices=False)
    return q * raw.Sign(raw.DiagPart(r))


@export("orthogonal_initializer", "initializers.orthogonal")
class Orthogonal(_OrthogonalInitializer):
    """A random orthogonal matrix times `gain` (Saxe et al., 2014).

    Of a shape with more than two sizes, the matrix [product of all but the last, last] is
    orthogonal.
    Raises ValueError: not a floating-point dtype, or when called, fewer than two sizes.
    """

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes = TensorShape(shape).as_list()
        if len(sizes) < 2:
            raise ValueError(
                f"The tensor to initialize must be at least two-dimensional, got shape {tuple(sizes)}"
            )
        rows, columns = math.prod(sizes[:-1]), sizes[-1]
        drawn = random_ops.random_normal(
            (max(rows, columns), min(rows, columns)),
            dtype=self._dtype_or_own(dtype),
            seed=self.seed,
        )
        q = _uniform_orthogonal(drawn)
        if rows < columns:
            q = array_ops.matrix_transpose(q)
        return self.gain * array_ops.reshape(q, shape)


@export("contrib.framework.convolutional_delta_orthogonal")
class ConvolutionDeltaOrthogonal(_OrthogonalInitializer):
    """A convolution kernel that is an orthogonal matrix at its centre, and zero elsewhere (Xiao et al., 2018).

    Raises ValueError: when called, a shape without 3 to 5 sizes, or with more inputs than outputs.
    """

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self._dtype_or_own(dtype)
        sizes = _kernel_sizes(shape, (3, 4, 5))
        inputs, outputs = sizes[-2:]
        drawn = random_ops.random_normal([outputs, outputs], dtype=dtype, seed=self.seed)
        q = _uniform_orthogonal(drawn)[:inputs, :]
        q = q * constant(self.gain, dtype)
        centre = [(size - 1) // 2 for size in sizes[:-2]]
        return raw.ScatterNd(np.array([centre], np.int32), array_ops.expand_dims(q, 0), sizes)


class _ConvolutionOrthogonal(_OrthogonalInitializer):
    """An orthogonal kernel for a convolution over `_rank` axes, a window of 2 at a time (Xiao et al., 2018)."""

    _rank: int
    _projection_first = True

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes = _kernel_sizes(shape, (self._rank + 2,))
        if len(set(sizes[: self._rank])) > 1:
            raise ValueError(f"Kernel sizes must be equal, got shape {tuple(sizes)}")
        kernel = self._kernel(sizes[0], *sizes[-2:])
        return kernel * constant(self.gain, self._dtype_or_own(dtype))

    def _kernel(self, window: int, inputs: int, outputs: int) -> Tensor:
        orthogonal = self._orthogonal_matrix(outputs)[0:inputs, :]
        if window == 1:
            for _ in range(self._rank):
                orthogonal = array_ops.expand_dims(orthogonal, 0)
            return orthogonal
        kernel = self._block(outputs)
        for _ in range(window - 2):
            kernel = _convolve(kernel, self._block(outputs), self._rank, self.dtype)
        places = itertools.product(range(window), repeat=self._rank)
        kernel = {place: raw.MatMul(orthogonal, kernel[place]) for place in places}
        return self._stack(kernel, window, ())

    def _block(self, size: int) -> Kernel:
        """A kernel with a window of 2: along each axis one entry projects, the other one keeps the rest."""
        projections = [self._projection(size) for _ in range(self._rank)]
        identity = PUBLIC["eye"](size, dtype=self.dtype)
        block = {}
        for place in itertools.product(range(2), repeat=self._rank):
            factors = [
                p if (bit == 0) == self._projection_first else identity - p
                for bit, p in zip(place, projections, strict=True)
            ]
            product = factors[0]
            for factor in factors[1:]:
                product = raw.MatMul(product, factor)
            block[place] = product
        return block

    def _orthogonal_matrix(self, size: int) -> Tensor:
        drawn = random_ops.random_normal([size, size], dtype=self.dtype, seed=self.seed)
        self._next_seed()
        return _uniform_orthogonal(drawn)

    def _projection(self, size: int) -> Tensor:
        """A symmetric projection: onto a random half of the columns of an orthogonal matrix."""
        q = self._orthogonal_matrix(size)
        mask = raw.Cast(random_ops.random_normal([size], seed=self.seed) > 0, DstT=self.dtype)
        self._next_seed()
        kept = raw.Mul(q, mask)
        return raw.MatMul(kept, array_ops.matrix_transpose(kept))

    def _next_seed(self) -> None:
        if self.seed:
            self.seed += 1

    def _stack(self, kernel: Kernel, window: int, place: tuple[int, ...]) -> Tensor:
        if len(place) == self._rank:
            return kernel[place]
        return raw.Pack([self._stack(kernel, window, (*place, i)) for i in range(window)])


@export("contrib.framework.convolutional_orthogonal_1d")
class ConvolutionOrthogonal1D(_ConvolutionOrthogonal):
    """An orthogonal kernel [width, inputs, outputs] for a 1-D convolution with circular padding (Xiao et al., 2018).

    Raises ValueError: when called, a shape of another rank, or with more inputs than outputs.
    """

    _rank = 1


@export("contrib.framework.convolutional_orthogonal_2d")
class ConvolutionOrthogonal2D(_ConvolutionOrthogonal):
    """An orthogonal kernel [size, size, inputs, outputs] for a 2-D convolution with circular padding.

    Raises ValueError: when called, a shape of another rank, unequal sizes, or more inputs than
    outputs.
    """

    _rank = 2


@export("contrib.framework.convolutional_orthogonal_3d")
class ConvolutionOrthogonal3D(_ConvolutionOrthogonal):
    """An orthogonal kernel [size, size, size, inputs, outputs] for a 3-D convolution with circular padding.

    Raises ValueError: when called, a shape of another rank, unequal sizes, or more inputs than
    outputs.
    """

    _rank = 3
    _projection_first = False


def _kernel_sizes(shape: Any, ranks: Sequence[int]) -> list[int]:
    sizes = TensorShape(shape).as_list()
    if len(sizes) not in ranks:
        needed = " or ".join(map(str, ranks))
        raise ValueError(
            f"The tensor to initialize must have {needed} dimensions, got shape {tuple(sizes)}"
        )
    if sizes[-2] > sizes[-1]:
        raise ValueError(
            f"In_filters cannot be greater than out_filters, got {sizes[-2]} and {sizes[-1]}"
        )
    return sizes


def _convolve(first: Kernel, second: Kernel, rank: int, dtype: dtypes.DType) -> Kernel:
    """The kernel of one convolution after another."""
    window = max(place[0] for place in first) + max(place[0] for place in second) + 1
    size = first[(0,) * rank].shape.as_list()[0]
    result = {}
    for place in itertools.product(range(window), repeat=rank):
        total = array_ops.zeros([size, size], dtype)
        for inner, matrix in first.items():
            other = second.get(tuple(p - i for p, i in zip(place, inner, strict=True)))
            if other is not None:
                total = total + raw.MatMul(matrix, other)
        result[place] = total
    return result
