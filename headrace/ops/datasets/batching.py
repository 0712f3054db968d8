"""Datasets of batches: plain, padded, sparse; windows, and batches taken apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.ops.datasets.dataset import (
    INFINITE,
    TYPES,
    Dataset,
    Element,
    GetNext,
    Held,
    IteratorContext,
    as_array,
    dataset_of,
    define_dataset,
    scalar_argument,
)


def stacked(op: Any, elements: Sequence[Element]) -> Element:
    """Elements (at least one) as one. Raises InvalidArgumentError: the shapes of a component differ."""
    if len(elements) == 1 and all(isinstance(c, np.ndarray) for c in elements[0]):
        return tuple([c[None] for c in elements[0]])
    return tuple(
        [stack(op, number, parts) for number, parts in enumerate(zip(*elements, strict=True))]
    )


def stack(op: Any, number: int, parts: Sequence[Any]) -> np.ndarray:
    """Component `number` of several elements as one array."""
    first = parts[0]
    if first.__class__ is np.ndarray:
        shape = first.shape
        for part in parts:
            if part.__class__ is not np.ndarray or part.shape != shape:
                break
        else:
            if not shape and first.dtype != object:
                return np.array([p[()] for p in parts], first.dtype)
            out = np.empty((len(parts), *shape), first.dtype)
            if first.size >= 4096:
                for i, part in enumerate(parts):
                    out[i] = part
                return out
            if first.size and first.dtype != object:
                return np.concatenate(parts, axis=None, out=out.reshape(-1)).reshape(out.shape)
            for i, part in enumerate(parts):
                out[i] = part if shape else part[()]
            return out
    if not isinstance(as_array(first), np.ndarray):
        lists = np.empty(len(parts), object)
        lists[:] = parts
        return lists
    arrays = [as_array(p) for p in parts]
    for array in arrays:
        if array.shape != arrays[0].shape:
            raise op.invalid(
                "Cannot batch tensors with different shapes in component "
                f"{number}. First element had shape {_shown(arrays[0].shape)} and element "
                f"{next(i for i, a in enumerate(arrays) if a.shape != arrays[0].shape)} had shape "
                f"{_shown(array.shape)}."
            )
    return np.stack(arrays)


def _shown(shape: Any) -> str:
    return f"[{','.join(map(str, shape))}]"


def take(source: Callable[[], Any], count: int) -> tuple[list[Any], bool]:
    """The next elements, up to `count`, and whether these were the last."""
    found: list[Any] = []
    append = found.append
    for _ in range(count):
        element = source()
        if element is None:
            return found, True
        append(element)
    return found, False


def in_batches(
    source: Callable[[], Any] | None,
    size: int,
    drop_remainder: bool,
    batch: Callable[[list[Any]], Element],
) -> GetNext:
    """What gives `batch` of each `size` elements of `source`, the last one of those that are left."""

    def get_next():
        nonlocal source
        if source is None:
            return None
        elements, ended = take(source, size)
        if ended:
            source = None  # which lets go of what it holds
            if drop_remainder or not elements:
                return None
        return batch(elements)

    return get_next


def batch_size_of(op: Any, value: Any, name: str = "batch_size") -> int:
    """A size of batches. Raises InvalidArgumentError: not positive."""
    size = scalar_argument(op, value, name)
    if size <= 0:
        raise op.invalid(
            f"{name[0].upper() + name[1:]} must be greater than zero.".replace("_", " ")
        )
    return size


def batches(inner: int, size: int, drop_remainder: bool) -> int:
    """How many batches `inner` elements make."""
    if inner < 0:
        return inner
    return inner // size + (bool(inner % size) and not drop_remainder)


class _Batch(Dataset):
    def __init__(self, op, source, batch_size, drop_remainder):
        super().__init__(op, source)
        self._size = batch_size_of(op, batch_size)
        self._drop = bool(scalar_argument(op, drop_remainder, "drop_remainder"))

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        arrays = self.source.row_arrays
        start = self.source.start if arrays is None else self.source.start_rows
        source = start(context, prefix)

        def batch(elements):
            if arrays is not None:
                return tuple([a.take(elements, 0) for a in arrays])
            return stacked(self.op, elements)

        return in_batches(source, self._size, self._drop, batch)

    def cardinality(self) -> int:
        return batches(self.source.cardinality(), self._size, self._drop)


@define_dataset("BatchDataset", "input_dataset: variant, batch_size: int64", TYPES)
def _batch_dataset(op, source, batch_size):
    return _Batch(op, dataset_of(op, source), batch_size, False)


@define_dataset(
    "BatchDatasetV2",
    "input_dataset: variant, batch_size: int64, drop_remainder: bool",
    f"parallel_copy: bool = false, {TYPES}",
)
def _batch_dataset_v2(op, source, batch_size, drop_remainder):
    return _Batch(op, dataset_of(op, source), batch_size, drop_remainder)


class _PaddedBatch(Dataset):
    """Batches in which each element is padded to the largest of its batch, or to a given shape."""

    def __init__(self, op, source, batch_size, shapes, values, drop_remainder):
        super().__init__(op, source)
        self._size = batch_size_of(op, batch_size)
        self._drop = bool(scalar_argument(op, drop_remainder, "drop_remainder"))
        self._shapes = [np.asarray(s).tolist() for s in shapes]
        self._values = [as_array(v) for v in values]
        if any(v.ndim for v in self._values):
            raise op.invalid("All padding values must be scalars")
        if any(np.asarray(s).ndim != 1 for s in shapes):
            raise op.invalid("All padded shapes must be vectors")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        def batch(elements):
            return tuple(
                self._padded(i, [as_array(p) for p in parts])
                for i, parts in enumerate(zip(*elements, strict=True))
            )

        return in_batches(self.source.start(context, prefix), self._size, self._drop, batch)

    def _padded(self, number: int, parts: list[np.ndarray]) -> np.ndarray:
        wanted, value = self._shapes[number], self._values[number][()]
        for part in parts:
            if part.ndim != len(wanted):
                raise self.op.invalid(
                    f"All elements in a batch must have the same rank as the padded shape for component{number}: "
                    f"expected rank {len(wanted)} but got element with rank {part.ndim}"
                )
        shape = [max(p.shape[axis] for p in parts) if w < 0 else w for axis, w in enumerate(wanted)]
        out = np.full((len(parts), *shape), value, parts[0].dtype)
        for i, part in enumerate(parts):
            if any(n > w for n, w in zip(part.shape, shape, strict=True)):
                axis = next(a for a in range(part.ndim) if part.shape[a] > shape[a])
                raise errors.DataLossError(
                    None,
                    self.op,
                    f"{self.op.type} op {self.op.name!r}: Attempted to pad to a smaller size than the input element: "
                    f"component {number}, dimension {axis} is {part.shape[axis]}, padded to {shape[axis]}",
                )
            out[(i, *(slice(0, n) for n in part.shape))] = part
        return out

    def cardinality(self) -> int:
        return batches(self.source.cardinality(), self._size, self._drop)


_PADDED = "input_dataset: variant, batch_size: int64, padded_shapes: N*int64, padding_values: Toutput_types"
_PADDED_ATTRS = "Toutput_types: list(type) >= 1, output_shapes: list(shape) >= 1, N: int >= 1"


@define_dataset("PaddedBatchDataset", _PADDED, _PADDED_ATTRS)
def _padded_batch_dataset(op, source, batch_size, shapes, values):
    return _PaddedBatch(op, dataset_of(op, source), batch_size, shapes, values, False)


@define_dataset(
    "PaddedBatchDatasetV2",
    f"{_PADDED}, drop_remainder: bool",
    f"parallel_copy: bool = false, {_PADDED_ATTRS}",
)
def _padded_batch_dataset_v2(op, source, batch_size, shapes, values, drop_remainder):
    return _PaddedBatch(op, dataset_of(op, source), batch_size, shapes, values, drop_remainder)


class _SparseBatch(Dataset):
    """Batches of tensors of one rank, of any sizes up to a shape, as sparse tensors."""

    def __init__(self, op, source, batch_size, row_shape):
        super().__init__(op, source)
        self._size = batch_size_of(op, batch_size)
        self._row_shape = np.asarray(row_shape, np.int64)
        if self._row_shape.ndim != 1:
            raise op.invalid("row_shape must be a vector")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        return in_batches(
            source, self._size, False, lambda es: self._sparse([as_array(e[0]) for e in es])
        )

    def _sparse(self, parts: list[np.ndarray]) -> Element:
        row_shape = self._row_shape
        sizes = np.where(row_shape < 0, 0, row_shape)
        for part in parts:
            if part.ndim != len(row_shape):
                raise self.op.invalid(
                    f"Input element had shape ({_shown(part.shape)}) that is incompatible with the row shape "
                    f"({_shown(row_shape)})."
                )
            if np.any((part.shape > row_shape) & (row_shape >= 0)):
                raise errors.DataLossError(
                    None,
                    self.op,
                    f"Input element had shape ({_shown(part.shape)}) that is larger than the row shape "
                    f"({_shown(row_shape)}).",
                )
            sizes = np.maximum(sizes, part.shape)
        rows = [
            np.insert(np.indices(p.shape).reshape(p.ndim, -1).T, 0, i, axis=1)
            for i, p in enumerate(parts)
        ]
        packed = np.empty(3, object)
        packed[0] = np.concatenate(rows).astype(np.int64)
        packed[1] = np.concatenate([p.reshape(-1) for p in parts])
        packed[2] = np.array([len(parts), *sizes], np.int64)
        return (packed,)

    def cardinality(self) -> int:
        return batches(self.source.cardinality(), self._size, False)


@define_dataset(
    "ExperimentalDenseToSparseBatchDataset",
    "input_dataset: variant, batch_size: int64, row_shape: int64",
    TYPES,
)
@define_dataset(
    "DenseToSparseBatchDataset",
    "input_dataset: variant, batch_size: int64, row_shape: int64",
    TYPES,
)
def _dense_to_sparse_batch_dataset(op, source, batch_size, row_shape):
    return _SparseBatch(op, dataset_of(op, source), batch_size, row_shape)


class _Unbatch(Dataset):
    """The rows of the elements."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        element: Sequence[np.ndarray] = ()
        row = count = 0

        def get_next():
            nonlocal element, row, count
            while row >= count:
                following = source()
                if following is None:
                    return None
                element = [as_array(c) for c in following]
                if any(c.ndim == 0 for c in element):
                    raise self.op.invalid(
                        "Input element must have a non-scalar value in each component."
                    )
                row, count = 0, len(element[0])
                if any(len(c) != count for c in element):
                    count = 0
                    raise self.op.invalid(
                        "Input element must have the same batch size in each component."
                    )
            row += 1
            return tuple([c[row - 1, ...] for c in element])

        return get_next

    def cardinality(self) -> int:
        inner = self.source.cardinality()
        return inner if inner in (0, INFINITE) else -2


@define_dataset("ExperimentalUnbatchDataset", "input_dataset: variant", TYPES)
@define_dataset("UnbatchDataset", "input_dataset: variant", TYPES)
def _unbatch_dataset(op, source):
    return _Unbatch(op, dataset_of(op, source))


class _Window(Dataset):
    """Datasets of elements that follow one another; windows may overlap, and leave elements out."""

    def __init__(self, op, source, size, shift, stride, drop_remainder):
        super().__init__(op, source)
        self._size = batch_size_of(op, size, "window size")
        self._shift = batch_size_of(op, shift, "window shift")
        self._stride = batch_size_of(op, stride, "window stride")
        self._drop = bool(scalar_argument(op, drop_remainder, "drop_remainder"))

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        buffer: list[Any] = []
        span = (self._size - 1) * self._stride + 1
        gap = 0  # elements to leave out before the next window
        ended = False

        def get_next():
            nonlocal ended, gap
            while not ended and gap:
                ended = source() is None
                gap -= 1
            while not ended and len(buffer) < span:
                try:
                    element = source()
                except errors.OpError as error:
                    buffer.append(error)  # of the windows that it is in
                    continue
                if element is None:
                    ended = True
                else:
                    buffer.append(element)
            if not buffer or (self._drop and len(buffer) < span):
                return None
            window = buffer[: span : self._stride]
            gap = max(0, self._shift - len(buffer)) if not ended else 0
            del buffer[: self._shift]
            for element in window:
                if isinstance(element, errors.OpError):
                    context.check()
                    raise element
            types, shapes = self.source.types, self.source.shapes
            return tuple(
                as_array(Held(self.op, [(c,) for c in parts], types[i : i + 1], shapes[i : i + 1]))
                for i, parts in enumerate(zip(*window, strict=True))
            )

        return get_next

    def cardinality(self) -> int:
        inner = self.source.cardinality()
        if inner < 0:
            return inner
        span = (self._size - 1) * self._stride
        if self._drop:
            return 0 if inner <= span else (inner - span + self._shift - 1) // self._shift
        return -(-inner // self._shift)


@define_dataset(
    "WindowDataset",
    "input_dataset: variant, size: int64, shift: int64, stride: int64, drop_remainder: bool",
    TYPES,
)
def _window_dataset(op, source, size, shift, stride, drop_remainder):
    return _Window(op, dataset_of(op, source), size, shift, stride, drop_remainder)
