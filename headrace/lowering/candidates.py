"""Draws of class numbers for sampled losses, as TensorFlow's candidate samplers make them.

They are drawn on the host, or in a program by a kernel (`native/sample.py`). A sampler reads the stream of 32-bit words
from its start, as many as it needs: `Draw` is the function that turns the first words of the stream into class numbers.
`pick` takes what a batch needs, and says how often each class is expected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from headrace.lowering.philox import Array, advance, generate, where

# Class numbers from words of the stream (uint32[n]): all that these words are enough for.
Draw = Callable[[np.ndarray], np.ndarray]

# 32-bit words that TensorFlow sets aside for each number of a batch.
_RESERVED_WORDS = 2048


def pick(state: np.ndarray, count: int, unique: bool, draw: Draw) -> tuple[np.ndarray, int]:
    """The first `count` class numbers (distinct ones if `unique`), and how many were drawn for them."""
    words = 4 * count
    while True:
        values = draw(generate(state, words, np.uint32, lambda x, y: x | (y << np.uint64(32))))
        if not unique and len(values) >= count:
            return values[:count], count
        if unique:
            first = np.sort(np.unique(values, return_index=True)[1])
            if len(first) >= count:
                return values[first[:count]], int(first[count - 1]) + 1
        words *= 2


def after_batch(state: np.ndarray, count: int) -> np.ndarray:
    """The state after TensorFlow's reservation for a batch of `count` numbers."""
    return advance(state, (_RESERVED_WORDS * count + 3) // 4)


def expected_count(probability: Array, count: int, tries: Array) -> Array:
    """How often classes of these probabilities (float32) are expected in a batch of `count` made by `tries` draws."""
    if not isinstance(tries, (int, np.integer)):
        once = probability * np.float32(count)
        several = -jnp.expm1(tries.astype(np.float32) * jnp.log1p(-probability))
        return jnp.where(tries == count, once, several)
    if tries == count:
        return probability * np.float32(count)
    # 1 - (1 - p) ** tries, as if every batch took that many draws
    return -np.expm1(np.float32(tries) * np.log1p(-probability))


def uniform(classes: int) -> Draw:
    """Every class has the same probability."""

    def draw(words: np.ndarray) -> np.ndarray:
        bits = words[: len(words) // 2 * 2].view(np.uint64)
        if classes & (classes - 1) == 0:
            return (bits & np.uint64(classes - 1)).astype(np.int64)
        # The lowest numbers are dropped, so that what is left is a multiple of `classes`.
        bits = bits[bits > np.uint64((2**64 - 1) % classes)]
        return (bits % np.uint64(classes)).astype(np.int64)

    return draw


def log_uniform(classes: int) -> Draw:
    """Class k has a probability proportional to log((k + 2) / (k + 1))."""

    def draw(words: np.ndarray) -> np.ndarray:
        pairs = words[: len(words) // 2 * 2].reshape(-1, 2).astype(np.uint64)
        mantissa = ((pairs[:, 0] & np.uint64(0xFFFFF)) << np.uint64(32)) | pairs[:, 1]
        u = (mantissa | np.uint64(0x3FF << 52)).view(np.float64) - 1.0
        return (np.exp(u * np.log1p(classes)).astype(np.int64) - 1) % classes

    return draw


def log_uniform_probability(values: Array, classes: int) -> Array:
    """The probability of each class under `log_uniform`, float32."""
    log = np.log if isinstance(values, np.ndarray) else jnp.log
    return (log((values + 2.0) / (values + 1.0)) / np.log1p(classes)).astype(np.float32)


def weighted(counts: np.ndarray) -> Draw:
    """Class k has a probability proportional to counts[k], an integer."""
    cumulative = np.cumsum(counts, dtype=np.int64)
    total = int(cumulative[-1])

    def draw(words: np.ndarray) -> np.ndarray:
        if total & (total - 1) == 0:
            position = words & np.uint32(total - 1)
        else:
            position = words[words > np.uint32((2**32 - 1) % total)] % np.uint32(total)
        return np.searchsorted(cumulative, position, side="right")

    return draw


class AliasTable:
    """Draws class k with a probability proportional to weights[k] (Walker's alias method)."""

    def __init__(self, weights: np.ndarray) -> None:
        """weights: float32[n], not all 0."""
        n = len(weights)
        total = float(np.cumsum(weights, dtype=np.float64)[-1])
        # float32 times the number of classes, as TensorFlow rounds it
        share = ((weights * np.float32(n)).astype(np.float64) / total).tolist()
        alias = [-1] * n
        low = [i for i, p in enumerate(share) if p < 1.0]
        high = [i for i, p in enumerate(share) if not p < 1.0]
        while high and low:
            small, large = low.pop(), high.pop()
            alias[small] = large
            share[large] -= 1.0 - share[small]
            (low if share[large] < 1.0 else high).append(large)
        for i in (*high, *low):
            share[i], alias[i] = 1.0, i
        self.weights = weights
        # The sum that probabilities are relative to: float32, one after the other.
        self.total = np.cumsum(weights, dtype=np.float32)[-1]
        self.share = np.array(share, np.float32)
        self.alias = np.array(alias, np.int64)

    def probability(self, values: Array) -> Array:
        """The probability of each class, float32; 0 for what is no class."""
        inside = (values >= 0) & (values < len(self.weights))
        known = where(inside, values, 0)
        if isinstance(values, np.ndarray):
            return np.where(inside, self.weights[known], 0) / self.total
        return jnp.where(inside, jnp.asarray(self.weights)[known], 0) / self.total

    def draw(self, words: np.ndarray) -> np.ndarray:
        """A `Draw`: of two words the first decides between class and alias, the second says which class."""
        n = len(self.weights)
        power_of_two = n & (n - 1) == 0
        lowest = 0 if power_of_two else (2**32 - 1) % n + 1
        parts, start = [], 0
        while start + 1 < len(words):
            pairs = words[start : start + (len(words) - start) // 2 * 2].reshape(-1, 2)
            dropped = np.flatnonzero(pairs[:, 1] < lowest)
            stop = len(pairs) if not len(dropped) else int(dropped[0])
            parts.append(pairs[:stop])
            start += 2 * stop
            if len(dropped):
                # The pair keeps its first word, and takes the first later word that is large
                # enough.
                later = np.flatnonzero(words[start + 1 :] >= lowest)
                if not len(later):
                    break
                last = start + 1 + int(later[0])
                parts.append(words[[start, last]].reshape(1, 2))
                start = last + 1
        pairs = np.concatenate(parts) if parts else np.zeros((0, 2), np.uint32)
        u = (pairs[:, 0] & np.uint32(0x7FFFFF) | np.uint32(0x3F800000)).view(
            np.float32
        ) - np.float32(1)
        index = (
            pairs[:, 1] & np.uint32(n - 1) if power_of_two else pairs[:, 1] % np.uint32(n)
        ).astype(np.int64)
        return np.where(u < self.share[index], index, self.alias[index])


@functools.lru_cache(maxsize=16)
def alias_table(
    unigrams: tuple[float, ...], distortion: float, reserved: int, shards: int, shard: int
) -> AliasTable:
    """The table of a fixed unigram sampler: weights to the power `distortion`, after `reserved` classes of weight 0.

    Of `shards` parts, number `shard`: every class whose number leaves that remainder.
    """
    powers = np.array(unigrams, np.float32) ** np.float32(distortion)
    # The numbers of the classes go on from what this shard has of the reserved ones.
    own_reserved = len(range(shard, reserved, shards))
    number = own_reserved + np.arange(len(powers))
    weights = [np.zeros(own_reserved, np.float32), powers[number % shards == shard]]
    return AliasTable(np.concatenate(weights))
