"""Datasets that apply a function to elements: map, filter, flat_map, interleave, scan, take_while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.core import errors
from headrace.ops.datasets.background import AUTOTUNE, parallel_map, processors
from headrace.ops.datasets.batching import batch_size_of, batches, stacked, take
from headrace.ops.datasets.dataset import (
    TYPES,
    UNKNOWN,
    Captured,
    Dataset,
    Element,
    GetNext,
    IteratorContext,
    as_array,
    dataset_of,
    define_dataset,
    scalar_argument,
)
from headrace.ops.datasets.order import optimized

_ARGUMENTS = "input_dataset: variant, other_arguments: Targuments"
_FUNCTION = f"f: func, Targuments: list(type) >= 0, {TYPES}"
_PREDICATE = f"predicate: func, Targuments: list(type) >= 0, {TYPES}"


class _Map(Dataset):
    """count: how many calls at once; None: one after the other."""

    def __init__(self, op, source, captured, count=None):
        super().__init__(op, source)
        self._function = Captured(op, "f", captured)
        self._count = count

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        apply, step = self._function.step(context)
        call = one_element(apply, self.op.attr("preserve_cardinality"))
        if self._count is not None and self._count != 1:
            in_order = not (context.any_order or self.op.attr("sloppy"))
            return parallel_map(context, source, call, self._count, step, in_order)

        def get_next():
            element = source()
            return None if element is None else call(element)

        return get_next

    def cardinality(self) -> int:
        return self.source.cardinality()


def one_element(
    apply: Callable[[Any], list[Any]], keeps_count: bool
) -> Callable[[Element], Element | None]:
    """The function on an element. An OutOfRangeError inside is the end, or where the number is to stay an error."""

    def call(element: Element) -> Element | None:
        try:
            return tuple(apply(element))
        except errors.OutOfRangeError as error:
            if not keeps_count:
                return None
            raise errors.InvalidArgumentError(
                None, error.op, f"Function invocation produced OutOfRangeError: {error.message}"
            ) from error

    return call


@define_dataset(
    "MapDataset",
    _ARGUMENTS,
    f"{_FUNCTION}, use_inter_op_parallelism: bool = true, preserve_cardinality: bool = false",
)
def _map_dataset(op, source, captured):
    return _Map(op, dataset_of(op, source), captured)


def _parallel_calls(op, value):
    count = scalar_argument(op, value, "num_parallel_calls")
    if count <= 0 and count != AUTOTUNE:
        raise op.invalid("num_parallel_calls must be greater than zero.")
    return count


@define_dataset(
    "ParallelMapDataset",
    f"{_ARGUMENTS}, num_parallel_calls: int32",
    f"{_FUNCTION}, use_inter_op_parallelism: bool = true, sloppy: bool = false, preserve_cardinality: bool = false",
)
def _parallel_map_dataset(op, source, captured, count):
    return _Map(op, dataset_of(op, source), captured, _parallel_calls(op, count))


class _MapAndBatch(Dataset):
    def __init__(self, op, source, captured, batch_size, count, drop_remainder):
        super().__init__(op, source)
        self._function = Captured(op, "f", captured)
        self._size = batch_size_of(op, batch_size)
        self._count = _parallel_calls(op, count)
        self._drop = bool(scalar_argument(op, drop_remainder, "drop_remainder"))

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        apply, step = self._function.step(context)
        mapped = parallel_map(
            context,
            source,
            one_element(apply, self.op.attr("preserve_cardinality")),
            self._count,
            step,
        )
        ended = False

        def get_next():
            nonlocal ended
            if ended:
                return None
            elements, ended = take(mapped, self._size)
            if ended and (not elements or self._drop):
                return None
            return stacked(self.op, elements)

        return get_next

    def cardinality(self) -> int:
        return batches(self.source.cardinality(), self._size, self._drop)


def _map_and_batch_dataset(op, source, captured, batch_size, count, drop_remainder):
    return _MapAndBatch(op, dataset_of(op, source), captured, batch_size, count, drop_remainder)


for _name in ("MapAndBatchDataset", "ExperimentalMapAndBatchDataset"):
    define_dataset(
        _name,
        f"{_ARGUMENTS}, batch_size: int64, num_parallel_calls: int64, drop_remainder: bool",
        f"{_FUNCTION}, preserve_cardinality: bool = false",
    )(_map_and_batch_dataset)


def truth(op: Any, results: list[Any]) -> bool:
    """What a predicate says. Raises InvalidArgumentError: not one scalar."""
    value = results[0] if len(results) == 1 else None
    if value is None or value.size != 1 or value.dtype != bool or value.ndim:
        raise op.invalid("predicate must return a scalar bool.")
    return bool(value[()])


class _Filter(Dataset):
    """The elements that a function says yes to; stops: with the first one that it says no to the dataset ends."""

    def __init__(self, op, source, captured, stops=False):
        super().__init__(op, source)
        self._predicate = Captured(op, "predicate", captured)
        self._stops = stops

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        predicate = self._predicate.instantiate(context)
        ended = False

        def get_next():
            nonlocal ended
            while not ended:
                element = source()
                if element is None or truth(self.op, predicate(element)):
                    return element
                ended = self._stops
            return None

        return get_next


@define_dataset("FilterDataset", _ARGUMENTS, _PREDICATE)
def _filter_dataset(op, source, captured):
    return _Filter(op, dataset_of(op, source), captured)


def _take_while_dataset(op, source, captured):
    return _Filter(op, dataset_of(op, source), captured, stops=True)


for _name in ("TakeWhileDataset", "ExperimentalTakeWhileDataset"):
    define_dataset(_name, _ARGUMENTS, _PREDICATE)(_take_while_dataset)


class Flattening(Dataset):
    """The function makes a dataset of each element."""

    def __init__(self, op, source, captured):
        super().__init__(op, source)
        self._function = Captured(op, "f", captured)

    def maker(self, context: IteratorContext, prefix: str) -> Callable[[Element, int], GetNext]:
        """What begins the dataset of an element; the number tells apart the seeds of those at one place."""
        apply = self._function.instantiate(context)

        def make(element: Element, number: int) -> GetNext:
            results = apply(element)
            inner = dataset_of(self.op, results[0])
            if context.optimize:
                inner = optimized(inner)
            return inner.start(context, f"{prefix}[{number}]")

        return make


class _FlatMap(Flattening):
    """One after the other."""

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        make = self.maker(context, prefix)
        current: GetNext | None = None
        number = 0

        def get_next():
            nonlocal current, number
            while True:
                if current is None:
                    element = source()
                    if element is None:
                        return None
                    number += 1
                    current = make(element, number - 1)
                found = current()
                if found is not None:
                    return found
                current = None

        return get_next


@define_dataset("FlatMapDataset", _ARGUMENTS, _FUNCTION)
def _flat_map_dataset(op, source, captured):
    return _FlatMap(op, dataset_of(op, source), captured)


class _Interleave(Flattening):
    """Several at a time, in turn a few elements of each."""

    def __init__(self, op, source, captured, cycle_length, block_length):
        super().__init__(op, source, captured)
        self._cycle = scalar_argument(op, cycle_length, "cycle_length")
        if self._cycle == AUTOTUNE:
            self._cycle = processors()
        self._block = scalar_argument(op, block_length, "block_length")
        for name, value in (("cycle_length", self._cycle), ("block_length", self._block)):
            if value <= 0:
                raise op.invalid(f"`{name}` must be > 0: {name} must be greater than zero.")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        make = self.maker(context, prefix)
        current: list[GetNext | None] = [None] * self._cycle
        place = taken = opened = 0
        ended = False

        def advance() -> None:
            nonlocal place, taken
            place, taken = (place + 1) % self._cycle, 0

        def get_next():
            nonlocal taken, opened, ended
            while not ended or opened:
                inner = current[place]
                if inner is not None:
                    found = inner()
                    if found is not None:
                        taken += 1
                        if taken == self._block:
                            advance()
                        return found
                    current[place] = None
                    opened -= 1
                    advance()
                elif not ended:
                    element = source()
                    if element is None:
                        ended = True
                    else:
                        current[place] = make(element, place)
                        opened += 1
                else:
                    advance()
            return None

        return get_next


@define_dataset(
    "InterleaveDataset", f"{_ARGUMENTS}, cycle_length: int64, block_length: int64", _FUNCTION
)
def _interleave_dataset(op, source, captured, cycle_length, block_length):
    return _Interleave(op, dataset_of(op, source), captured, cycle_length, block_length)


@define_dataset(
    "ParallelInterleaveDatasetV2",
    f"{_ARGUMENTS}, cycle_length: int64, block_length: int64, num_parallel_calls: int64",
    f"{_FUNCTION}, sloppy: bool = false",
)
def _parallel_interleave_dataset_v2(op, source, captured, cycle_length, block_length, calls):
    made = _Interleave(op, dataset_of(op, source), captured, cycle_length, block_length)
    count = _parallel_calls(op, calls)
    if count > made._cycle:
        raise op.invalid("num_parallel_calls must less than or equal to cycle_length.")
    return made


def _parallel_interleave_dataset(op, source, captured, cycle, block, sloppy, buffered, prefetched):
    for name, value in (
        ("buffer_output_elements", buffered),
        ("prefetch_input_elements", prefetched),
    ):
        least = 1 if name == "buffer_output_elements" else 0
        if scalar_argument(op, value, name) < least:
            raise op.invalid(f"`{name}` must be {'> 0' if least else '>= 0'}")
    return _Interleave(op, dataset_of(op, source), captured, cycle, block)


for _name in ("ParallelInterleaveDataset", "ExperimentalParallelInterleaveDataset"):
    define_dataset(
        _name,
        f"{_ARGUMENTS}, cycle_length: int64, block_length: int64, sloppy: bool, buffer_output_elements: int64, "
        "prefetch_input_elements: int64",
        _FUNCTION,
    )(_parallel_interleave_dataset)


class _Scan(Dataset):
    """A function of a state and an element gives the next state and an output."""

    def __init__(self, op, source, state, captured):
        super().__init__(op, source)
        self._state = [as_array(s) for s in state]
        self._function = Captured(op, "f", captured)

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        apply = self._function.instantiate(context)
        state = self._state

        def get_next():
            nonlocal state
            element = source()
            if element is None:
                return None
            results = apply([*state, *element])
            state = results[: len(state)]
            return tuple(results[len(state) :])

        return get_next

    def cardinality(self) -> int:
        return self.source.cardinality() if self.op.attr("preserve_cardinality") else UNKNOWN


def _scan_dataset(op, source, state, captured):
    return _Scan(op, dataset_of(op, source), state, captured)


for _name in ("ScanDataset", "ExperimentalScanDataset"):
    define_dataset(
        _name,
        "input_dataset: variant, initial_state: Tstate, other_arguments: Targuments",
        f"f: func, Tstate: list(type) >= 1, Targuments: list(type) >= 0, {TYPES}, preserve_cardinality: bool = false",
    )(_scan_dataset)
