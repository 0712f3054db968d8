"""Shuffling, with TensorFlow's own algorithm and random numbers: the same seeds give the same order."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.lowering import philox
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
from headrace.ops.datasets.random_words import SeedGenerator, Words

# The buffer spans at most so many epochs.
_MOST_EPOCHS = 3


def _new_seeds() -> tuple[int, int]:
    key = philox.initial_state(0, 0)
    return int(key[0]) | int(key[1]) << 32, int(key[4]) | int(key[5]) << 32


class Shuffle(Dataset):
    """Draws each element from a buffer.

    count: the number of epochs, -1 for ever. reshuffle: whether each iteration has another order.
    """

    def __init__(self, op, source, buffer_size, seed, seed2, count, reshuffle):
        super().__init__(op, source)
        self._buffer_size = scalar_argument(op, buffer_size, "buffer_size")
        if self._buffer_size <= 0:
            raise op.invalid("buffer_size must be greater than zero.")
        seeds = scalar_argument(op, seed, "seed"), scalar_argument(op, seed2, "seed2")
        self._seeds = seeds if seeds != (0, 0) else _new_seeds()
        self._count, self.reshuffle = count, reshuffle

    def cardinality(self) -> int:
        inner = self.source.cardinality()
        if self._count == -1 or inner == INFINITE:
            return 0 if inner == 0 else INFINITE
        return UNKNOWN if inner == UNKNOWN else inner * self._count

    def repeated(self, count: int) -> Shuffle:
        """Shuffling and repeating in one: the buffer spans epochs."""
        fused = self.with_inputs(self.inputs)
        assert isinstance(fused, Shuffle)
        fused._count, fused.reshuffle, fused.kind = count, False, "ShuffleAndRepeat"
        return fused

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        return self._shuffled(context, prefix, lambda: self.source.start(context, prefix))

    @property
    def row_arrays(self) -> list[np.ndarray] | None:
        return self.source.row_arrays

    def iterate_rows(self, context: IteratorContext, prefix: str) -> Callable[[], int | None]:
        return self._shuffled(context, prefix, lambda: self.source.start_rows(context, prefix))

    def _shuffled(
        self, context: IteratorContext, prefix: str, start: Callable[[], Callable[[], Any]]
    ) -> Any:
        """What `start` begins, be it elements or rows, in random order."""
        seeds = self._seeds
        if self.reshuffle:
            seeds = context.share(
                (prefix, "seeds"), lambda: SeedGenerator(*self._seeds)
            ).next_seeds()
        words = Words(philox.initial_state(*seeds)).next
        return self._one_epoch(start, words) if self._count == 1 else self._epochs(start, words)

    def _one_epoch(self, start_source: Callable[[], Callable[[], Any]], words: Any) -> Any:
        source: Callable[[], Any] | None = None
        buffer: list[Any] = []
        size = self._buffer_size
        start = held = 0
        ended = False

        def get_next():
            nonlocal source, start, held, ended
            if source is None:
                source = start_source()
            while not ended and held < size:
                element = source()
                if element is None:
                    ended = True
                    # As in TensorFlow the input begins once more than needed, which counts where it is shuffled itself.
                    start_source()
                    break
                if len(buffer) < size:
                    buffer.append(element)
                else:
                    buffer[(start + held) % size] = element
                held += 1
            if not held:
                return None
            # The oldest element takes the place of the chosen one, so that what is held is a stretch of the ring.
            index, first = (start + words() % held) % size, start % size
            chosen, buffer[index] = buffer[index], buffer[first]
            buffer[first] = None
            start += 1
            held -= 1
            return chosen

        return get_next

    def _epochs(self, start_source: Callable[[], Callable[[], Any]], words: Any) -> Any:
        source: Callable[[], Any] | None = None
        size = self._buffer_size
        buffer: dict[int, Any] = {}
        slices: collections.deque[list[int]] = collections.deque([[0, 0]])
        epoch, started, ended = 0, False, False

        def fill() -> bool:
            """Fills the buffer; False: the input is empty, and would be so for ever."""
            nonlocal source, epoch, started, ended
            first_call = False
            if not started:
                started = first_call = True
                source = start_source()
            while not ended and len(buffer) < size:
                element = None
                while self._count == -1 or epoch < self._count:
                    element = source()  # type: ignore[misc]
                    if element is not None:
                        first_call = False
                        break
                    if first_call and self._count == -1:
                        ended = True
                        return False
                    epoch += 1
                    end = slices[-1][1]
                    slices.append([end, end])
                    source = start_source()
                if element is None:
                    ended = True
                else:
                    end = slices[-1][1]
                    buffer[end % size] = element
                    slices[-1][1] = end + 1
                if len(slices) > _MOST_EPOCHS:
                    break
            return True

        def get_next():
            if not fill() or not buffer:
                return None
            while slices[0][0] == slices[0][1]:
                slices.popleft()
            start, end = slices[0]
            index = (start + words() % (end - start)) % size
            chosen, first = buffer[index], buffer.pop(start % size)
            if index != start % size:
                buffer[index] = first
            slices[0][0] = start + 1
            return chosen

        return get_next


@define_dataset(
    "ShuffleDataset",
    "input_dataset: variant, buffer_size: int64, seed: int64, seed2: int64",
    f"reshuffle_each_iteration: bool = true, {TYPES}",
)
def _shuffle_dataset(op, source, buffer_size, seed, seed2):
    reshuffle = op.attr("reshuffle_each_iteration")
    return Shuffle(op, dataset_of(op, source), buffer_size, seed, seed2, 1, reshuffle)


@define_dataset(
    "ShuffleAndRepeatDataset",
    "input_dataset: variant, buffer_size: int64, seed: int64, seed2: int64, count: int64",
    TYPES,
)
def _shuffle_and_repeat_dataset(op, source, buffer_size, seed, seed2, count):
    count = scalar_argument(op, count, "count")
    if count == 0 or count < -1:
        raise op.invalid("count must be greater than zero or equal to -1.")
    return Shuffle(op, dataset_of(op, source), buffer_size, seed, seed2, count, False)
