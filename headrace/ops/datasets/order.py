"""Datasets that choose, repeat and join elements as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.ops.datasets.dataset import (
    INFINITE,
    TYPES,
    UNKNOWN,
    Dataset,
    GetNext,
    IteratorContext,
    dataset_of,
    define_dataset,
    scalar_argument,
)
from headrace.ops.datasets.shuffle import Shuffle

_COUNT = "input_dataset: variant, count: int64"


class Repeat(Dataset):
    """The input, `count` times; for ever if that is negative."""

    def __init__(self, op, source, count):
        super().__init__(op, source)
        self.count = scalar_argument(op, count, "count")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        return self._repeated(lambda: self.source.start(context, prefix))

    @property
    def row_arrays(self) -> list[np.ndarray] | None:
        return self.source.row_arrays

    def iterate_rows(self, context: IteratorContext, prefix: str) -> Callable[[], int | None]:
        return self._repeated(lambda: self.source.start_rows(context, prefix))

    def _repeated(self, start: Callable[[], Callable[[], Any]]) -> Any:
        """What `start` begins, be it elements or rows, again and again."""
        source: Callable[[], Any] | None = None
        rest = self.count
        is_first = True

        def get_next():
            nonlocal source, rest, is_first
            while rest:
                if source is None:
                    source = start()
                    is_first = True
                element = source()
                if element is not None:
                    is_first = False
                    return element
                source = None
                if rest > 0:
                    rest -= 1
                elif is_first:  # an empty input would be repeated without end
                    rest = 0
            return None

        return get_next

    def cardinality(self) -> int:
        inner = self.source.cardinality()
        if self.count < 0:
            return 0 if inner == 0 else INFINITE
        if self.count == 0:
            return 0
        return inner if inner < 0 else inner * self.count


@define_dataset("RepeatDataset", _COUNT, TYPES)
def _repeat_dataset(op, source, count):
    return Repeat(op, dataset_of(op, source), count)


class _Take(Dataset):
    def __init__(self, op, source, count):
        super().__init__(op, source)
        self._count = scalar_argument(op, count, "count")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        if self._count == 0:
            return lambda: None
        source = self.source.start(context, prefix)
        if self._count < 0:
            return source
        rest = self._count

        def get_next():
            nonlocal rest
            if rest <= 0:
                return None
            element = source()
            rest = rest - 1 if element is not None else 0
            return element

        return get_next

    def cardinality(self) -> int:
        inner = self.source.cardinality()
        if self._count < 0 or inner == UNKNOWN:
            return inner
        return self._count if inner == INFINITE else min(inner, self._count)


@define_dataset("TakeDataset", _COUNT, TYPES)
def _take_dataset(op, source, count):
    return _Take(op, dataset_of(op, source), count)


class _Skip(Dataset):
    def __init__(self, op, source, count):
        super().__init__(op, source)
        self._count = scalar_argument(op, count, "count")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        if self._count < 0:
            return lambda: None
        source = self.source.start(context, prefix)
        rest = self._count

        def get_next():
            nonlocal rest
            while rest:
                rest -= 1
                if source() is None:
                    rest = 0
                    return None
            return source()

        return get_next

    def cardinality(self) -> int:
        inner = self.source.cardinality()
        if self._count < 0:
            return 0
        return inner if inner < 0 else max(0, inner - self._count)


@define_dataset("SkipDataset", _COUNT, TYPES)
def _skip_dataset(op, source, count):
    return _Skip(op, dataset_of(op, source), count)


class _Shard(Dataset):
    """Every `count`-th element, from number `index` on."""

    def __init__(self, op, source, count, index):
        super().__init__(op, source)
        self._count = scalar_argument(op, count, "num_shards")
        self._index = scalar_argument(op, index, "index")
        if self._count <= 0:
            raise op.invalid(
                f"Number of shards must be greater than zero (currently num_shards = {self._count})."
            )
        if not 0 <= self._index < self._count:
            raise op.invalid(
                f"Index must be between 0 and {self._count - 1} (currently index = {self._index})."
            )

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        number = -1

        def get_next():
            nonlocal number
            while True:
                element = source()
                number += 1
                if element is None:
                    if self.op.attr("require_non_empty") and number < self._count:
                        raise self.op.invalid(
                            "There aren't enough elements in this dataset for each shard to have at least one "
                            f"element (# elems = {number}, # shards = {self._count})."
                        )
                    return None
                if number % self._count == self._index:
                    return element

        return get_next

    def cardinality(self) -> int:
        inner = self.source.cardinality()
        return inner if inner < 0 else inner // self._count + (self._index < inner % self._count)


@define_dataset(
    "ShardDataset",
    "input_dataset: variant, num_shards: int64, index: int64",
    f"require_non_empty: bool = false, {TYPES}",
)
def _shard_dataset(op, source, count, index):
    return _Shard(op, dataset_of(op, source), count, index)


class _Zip(Dataset):
    """Elements of several datasets side by side, as long as each has one."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        sources = [d.start(context, f"{prefix}[{i}]") for i, d in enumerate(self.inputs)]
        ended = False

        def get_next():
            nonlocal ended
            if ended:
                return None
            found = []
            for source in sources:
                element = source()
                if element is None:
                    ended = True
                    return None
                found += element
            return tuple(found)

        return get_next

    def cardinality(self) -> int:
        counts = [d.cardinality() for d in self.inputs]
        if UNKNOWN in counts:
            return UNKNOWN
        return min((c for c in counts if c != INFINITE), default=INFINITE)


@define_dataset("ZipDataset", "input_datasets: N*variant", f"{TYPES}, N: int >= 1")
def _zip_dataset(op, inputs):
    return _Zip(op, *[dataset_of(op, i) for i in inputs])


class _Concatenate(Dataset):
    """One dataset after the other."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        number = 0
        source = self.inputs[0].start(context, f"{prefix}[0]")

        def get_next():
            nonlocal number, source
            while number < len(self.inputs):
                element = source()
                if element is not None:
                    return element
                number += 1
                if number < len(self.inputs):
                    source = self.inputs[number].start(context, f"{prefix}[{number}]")
            return None

        return get_next

    def cardinality(self) -> int:
        counts = [d.cardinality() for d in self.inputs]
        if INFINITE in counts:
            return INFINITE
        return UNKNOWN if UNKNOWN in counts else sum(counts)


@define_dataset("ConcatenateDataset", "input_dataset: variant, another_dataset: variant", TYPES)
def _concatenate_dataset(op, first, second):
    first, second = dataset_of(op, first), dataset_of(op, second)
    if [t.base_dtype for t in first.types] != [t.base_dtype for t in second.types]:
        raise op.invalid(
            f"the two datasets have different types of elements: {list(first.types)} and {list(second.types)}"
        )
    return _Concatenate(op, first, second)


class _PassOn(Dataset):
    """The input as it is: what the node stands for concerns how it runs in TensorFlow."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        return self.source.start(context, prefix)

    def cardinality(self) -> int:
        return self.source.cardinality()


@define_dataset(
    "ModelDataset",
    "input_dataset: variant",
    f"algorithm: int = 0, cpu_budget: int = 0, {TYPES}",
)
def _model_dataset(op, source):
    return _PassOn(op, dataset_of(op, source))


def _threads_dataset(op, source, count):
    name = op._definition.signature.inputs[1].name
    if scalar_argument(op, count, name) <= 0:
        raise op.invalid(f"`{name}` must be greater than 0")
    return _PassOn(op, dataset_of(op, source))


def _non_serializable_dataset(op, source):
    return _PassOn(op, dataset_of(op, source))


for _prefix in ("", "Experimental"):
    define_dataset(
        f"{_prefix}MaxIntraOpParallelismDataset",
        "input_dataset: variant, max_intra_op_parallelism: int64",
        TYPES,
    )(_threads_dataset)
    define_dataset(
        f"{_prefix}PrivateThreadPoolDataset", "input_dataset: variant, num_threads: int64", TYPES
    )(_threads_dataset)
    define_dataset(f"{_prefix}NonSerializableDataset", "input_dataset: variant", TYPES)(
        _non_serializable_dataset
    )


class _Optimized(_PassOn):
    """The input, with shuffling and repeating fused, also where functions make datasets; or in any order."""

    def __init__(self, op, source, names):
        super().__init__(op, source)
        self._fuses = b"shuffle_and_repeat_fusion" in names
        self._any_order = b"make_sloppy" in names

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        context.optimize, context.any_order = self._fuses, self._any_order
        source = optimized(self.source) if self._fuses else self.source
        return source.start(context, prefix)


def optimized(dataset: Dataset) -> Dataset:
    """The pipeline as TensorFlow's default optimizations change it, as far as that can be seen."""
    inputs = [optimized(d) for d in dataset.inputs]
    if isinstance(dataset, Repeat) and isinstance(inputs[0], Shuffle) and inputs[0].reshuffle:
        if dataset.count == 0 or dataset.count < -1:
            raise errors.InvalidArgumentError(
                None,
                dataset.op,
                f"{dataset.op.type} op {dataset.op.name!r}: count must be greater than zero or equal to -1.",
            )
        return inputs[0].repeated(dataset.count)
    if all(a is b for a, b in zip(inputs, dataset.inputs, strict=True)):
        return dataset
    return dataset.with_inputs(inputs)


@define_dataset(
    "OptimizeDataset",
    "input_dataset: variant, optimizations: string",
    f"{TYPES}, optimization_configs: list(string) = []",
)
def _optimize_dataset(op, source, optimizations):
    source = dataset_of(op, source)
    wanted = [o if isinstance(o, bytes) else o.encode() for o in optimizations.tolist()]
    return _Optimized(op, source, wanted)
