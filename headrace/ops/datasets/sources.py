"""Datasets that begin a pipeline: of tensors, of ranges, of functions, of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.lowering import philox
from headrace.ops.datasets.dataset import (
    INFINITE,
    TYPES,
    Captured,
    Dataset,
    GetNext,
    IteratorContext,
    as_array,
    define_dataset,
    scalar_argument,
)
from headrace.ops.datasets.random_words import Words

_GIVEN = "Toutput_types: list(type) >= 1, output_shapes: list(shape) >= 1"


class _Tensors(Dataset):
    """One element."""

    def __init__(self, op, components):
        super().__init__(op)
        self._element = tuple(map(as_array, components))

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        rest = [self._element]
        return lambda: rest.pop() if rest else None

    def cardinality(self) -> int:
        return 1


@define_dataset("TensorDataset", "components: Toutput_types", _GIVEN, stateful=True)
def _tensor_dataset(op, components):
    return _Tensors(op, components)


class Slices(Dataset):
    """The slices of tensors along their first axis."""

    def __init__(self, op, components):
        super().__init__(op)
        self.arrays = [as_array(c) for c in components]
        if any(a.ndim == 0 for a in self.arrays):
            raise op.invalid("All components must be at least 1-dimensional")
        self.count = len(self.arrays[0])
        if any(len(a) != self.count for a in self.arrays):
            raise op.invalid("All components must have the same size in the 0th dimension")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        numbers = iter(range(self.count))
        if len(self.arrays) == 1:
            (only,) = self.arrays

            def slice_of_one():
                for i in numbers:
                    return (only[i, ...],)
                return None

            return slice_of_one
        arrays = self.arrays

        def slice_of_each():
            for i in numbers:
                return tuple([a[i, ...] for a in arrays])
            return None

        return slice_of_each

    @property
    def row_arrays(self) -> list[np.ndarray]:
        return self.arrays

    def iterate_rows(self, context: IteratorContext, prefix: str) -> Callable[[], int | None]:
        numbers = iter(range(self.count))
        return lambda: next(numbers, None)

    def cardinality(self) -> int:
        return self.count


@define_dataset("TensorSliceDataset", "components: Toutput_types", _GIVEN, stateful=True)
def _tensor_slice_dataset(op, components):
    return Slices(op, components)


class _SparseSlices(Dataset):
    """The slices of a sparse tensor along its first axis: indices, values and shape of each."""

    def __init__(self, op, indices, values, dense_shape):
        super().__init__(op)
        self._indices, self._values, self._shape = indices, values, dense_shape
        if indices.ndim != 2 or values.ndim != 1 or dense_shape.ndim != 1:
            raise op.invalid(
                "needs a matrix of indices, a vector of values and a vector as dense shape"
            )
        if len(indices) != len(values) or indices.shape[1] != len(dense_shape):
            raise op.invalid(
                f"{indices.shape} indices do not fit {values.shape} values and a shape of {dense_shape.shape}"
            )
        rows = indices[:, 0]
        if np.any(rows[1:] < rows[:-1]):
            raise errors.UnimplementedError(
                None, op, "The SparseTensor must be ordered in the batch dimension"
            )
        if len(rows) and (rows[0] < 0 or rows[-1] >= dense_shape[0]):
            raise op.invalid(
                f"indices lie outside of the first dimension, which is {dense_shape[0]}"
            )

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        count = int(self._shape[0])
        bounds = np.searchsorted(self._indices[:, 0], np.arange(count + 1)).tolist()
        numbers = iter(range(count))

        def get_next():
            for i in numbers:
                part = slice(bounds[i], bounds[i + 1])
                return self._indices[part, 1:], self._values[part], self._shape[1:]
            return None

        return get_next

    def cardinality(self) -> int:
        return int(self._shape[0])


@define_dataset(
    "SparseTensorSliceDataset",
    "indices: int64, values: Tvalues, dense_shape: int64",
    "Tvalues: type",
    stateful=True,
)
def _sparse_tensor_slice_dataset(op, indices, values, dense_shape):
    return _SparseSlices(op, indices, values, dense_shape)


class _Range(Dataset):
    def __init__(self, op, start, stop, step):
        super().__init__(op)
        bounds = (
            scalar_argument(op, v, n) for v, n in ((start, "start"), (stop, "stop"), (step, "step"))
        )
        start, stop, step = bounds
        if step == 0:
            raise op.invalid("step must be a non-zero integer.")
        self._range = range(start, stop, step)

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        numbers = iter(self._range)
        array, int64 = np.array, np.int64

        def get_next():
            for i in numbers:
                return (array(i, int64),)
            return None

        return get_next

    def cardinality(self) -> int:
        return len(self._range)


@define_dataset("RangeDataset", "start: int64, stop: int64, step: int64", TYPES, stateful=True)
def _range_dataset(op, start, stop, step):
    return _Range(op, start, stop, step)


class _Generator(Dataset):
    """Elements that a function makes of a state until it says that there are no more."""

    def __init__(self, op, init, following, finalize):
        super().__init__(op)
        self._init = Captured(op, "init_func", init)
        self._next = Captured(op, "next_func", following)
        self._finalize = Captured(op, "finalize_func", finalize)

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        following = self._next.instantiate(context)
        state: list[Any] = []
        finished = False

        def finish() -> None:
            nonlocal finished
            if state and not finished:
                finished = True
                self._finalize.instantiate(context)(state[0])

        def get_next():
            if finished:
                return None
            if not state:
                state.append(self._init.instantiate(context)([]))
                context.when_cancelled(finish)
            try:
                return tuple(following(state[0]))
            except errors.OutOfRangeError:
                finish()
                return None

        return get_next


@define_dataset(
    "GeneratorDataset",
    "init_func_other_args: Tinit_func_args, next_func_other_args: Tnext_func_args, "
    "finalize_func_other_args: Tfinalize_func_args",
    "init_func: func, next_func: func, finalize_func: func, Tinit_func_args: list(type) >= 0, "
    f"Tnext_func_args: list(type) >= 0, Tfinalize_func_args: list(type) >= 0, {TYPES}",
    stateful=True,
)
def _generator_dataset(op, init, following, finalize):
    return _Generator(op, init, following, finalize)


class _Random(Dataset):
    """Pseudorandom numbers without end."""

    def __init__(self, op, seed, seed2):
        super().__init__(op)
        seeds = scalar_argument(op, seed, "seed"), scalar_argument(op, seed2, "seed2")
        self._state = philox.initial_state(*seeds)

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        words: Callable[[], int] = Words(self._state).next
        return lambda: (np.array(words(), np.int64),)

    def cardinality(self) -> int:
        return INFINITE


@define_dataset("ExperimentalRandomDataset", "seed: int64, seed2: int64", TYPES, stateful=True)
@define_dataset("RandomDataset", "seed: int64, seed2: int64", TYPES, stateful=True)
def _random_dataset(op, seed, seed2):
    return _Random(op, seed, seed2)
