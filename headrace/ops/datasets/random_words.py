"""Random words one at a time, from the stream that TensorFlow's kernels of datasets draw them from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headrace.lowering import philox

_BLOCKS = 1024


class Words:
    """The 32-bit words of a Philox stream in order."""

    def __init__(self, state: np.ndarray) -> None:
        self._state = state
        self._words = self._generate()
        self.next = self._words.__next__

    def _generate(self) -> Iterator[int]:
        count = 16  # most streams are short
        while True:
            words = philox.words_at(self._state, np.arange(count, dtype=np.uint64))
            self._state = philox.advance(self._state, count)
            yield from np.stack(words, 1).reshape(-1).tolist()
            count = _BLOCKS


class SeedGenerator:
    """The seeds of one iteration after the other."""

    def __init__(self, seed: int, seed2: int) -> None:
        self._words = Words(philox.initial_state(seed, seed2))

    def next_seeds(self) -> tuple[int, int]:
        """Two seeds."""
        return self._words.next(), self._words.next()
