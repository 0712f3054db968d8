"""The Philox 4x32-10 stream of random bits that TensorFlow's random ops draw from.

A *state* is a uint32[6] array: two key words, then the four words of a 128-bit counter, least
significant first. One *block* is the four 32-bit words that Philox makes from one value of the
counter. Every op owns a state; a draw reads the blocks after it and moves the counter on by as many
blocks as TensorFlow reserves.

Everything here exists once and runs in two ways: where the state is a `np.ndarray`, NumPy computes
at once; where it is a JAX array (or a tracer), the same code traces. 64-bit types must be on in JAX
(`jax.enable_x64`).
"""

import os
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

# An ndarray or a JAX array. What is random is either; what is static stays NumPy.
Array = Any

# Multipliers and key increments of the Philox paper (Salmon et al., 2011, table 2).
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)

# TensorFlow's fixed key, under which the seeds of a stateless op are scrambled.
_SCRAMBLE_KEY = 0x3EC8F720, 0x02461E29

# NumPy works through this many blocks at a time, so that intermediate arrays stay in the cache.
_NUMPY_CHUNK = 8192

# Shorter draws than this are left to XLA to fuse with what consumes them.
_BARRIER_SIZE = 4096


def initial_state(seed: int, seed2: int) -> np.ndarray:
    """The state of a stateful random op with attributes `seed` (graph level) and `seed2` (op level).

    seed, seed2: signed 64-bit. Where both are 0 the state is seeded from the operating system.
    Returns uint32[6].
    """
    if seed == 0 and seed2 == 0:
        seed, seed2 = np.frombuffer(os.urandom(16), np.int64).tolist()
    key, counter = seed % 2**64, seed2 % 2**64
    return np.array(
        [key & 0xFFFFFFFF, key >> 32, 0, 0, counter & 0xFFFFFFFF, counter >> 32], np.uint32
    )


def stateless_state(seed: Array) -> Array:
    """The state of a stateless random op.

    seed: [2] int32 or int64.
    Returns uint32[6], of the kind (NumPy or JAX) that `seed` is.
    """
    seed = seed.astype(np.int64).astype(np.uint64)
    zero = seed[:1] ^ seed[:1]
    fixed = [zero + np.uint64(word) for word in _SCRAMBLE_KEY]
    mixed = _philox(fixed[0], fixed[1], seed[:1], seed[1:])
    words = [mixed[0], mixed[1], zero, zero, mixed[2], mixed[3]]
    return concatenate(words).astype(np.uint32)


def advance(state: Array, blocks: int | Array) -> Array:
    """The state `blocks` (less than 2**64) blocks further on."""
    wide = state.astype(np.uint64)
    low, high = _counter(wide)
    step = blocks % 2**64 if isinstance(blocks, int) else blocks
    moved = low + (np.uint64(step) if isinstance(step, int) else step.astype(np.uint64))
    high = high + (moved < low)
    words = [wide[:2], moved & _LOW, moved >> _32, high & _LOW, high >> _32]
    return concatenate(words).astype(np.uint32)


def words_at(state: Array, block: Array) -> tuple[Array, Array, Array, Array]:
    """The four words of the blocks that lie `block` after the state's counter.

    block: uint64, any shape but scalar.
    Returns four arrays of that shape, uint64 with values below 2**32: wider than needed, because
    the products inside are 64 bits wide and a compiler keeps one vector width throughout.
    """
    wide = state.astype(np.uint64)
    low, high = _counter(wide)
    first = low + block
    return _philox(wide[0:1], wide[1:2], first, high + (first < low))


def generate(
    state: Array,
    size: int,
    dtype: Any,
    convert: Callable[[Array, Array], Array],
    stride: int = 1,
) -> Array:
    """Makes numbers of 32 or 64 bits from successive pairs of words of the stream.

    convert: takes the two words of each of n pairs (uint64[n] each) and returns uint64[n]: the bits
    of the one 64-bit number, or of the two 32-bit numbers (the first one in the low half), that a
    pair gives.
    stride: distance of successive blocks in the stream; a block gives two pairs.
    Returns the first `size` numbers: [size], of type `dtype`.
    """
    dtype = np.dtype(dtype)
    pairs = -(-size * dtype.itemsize // 8)
    if isinstance(state, np.ndarray):
        numbers = np.empty((-(-pairs // 2), 2), np.uint64)
        for start in range(0, len(numbers), _NUMPY_CHUNK):
            part = numbers[start : start + _NUMPY_CHUNK]
            block = np.arange(start, start + len(part), dtype=np.uint64) * np.uint64(stride)
            words = words_at(state, block)
            part[:, 0] = convert(words[0], words[1])
            part[:, 1] = convert(words[2], words[3])
        return numbers.reshape(-1).view(dtype)[:size]

    def packed(state):
        # One element per pair: each block is computed twice, and still in less time than it takes
        # to interleave the four words of a block that was computed once.
        index = lax.iota(np.uint64, pairs)
        words = words_at(state, (index >> np.uint64(1)) * np.uint64(stride))
        odd = (index & np.uint64(1)) != 0
        return convert(where(odd, words[2], words[0]), where(odd, words[3], words[1]))

    return bitcast(_computed_once(packed, state, pairs), dtype).reshape(-1)[:size]


def pack(low: Array, high: Array) -> Array:
    """Two arrays of a 32-bit type as one uint64 array."""
    low, high = (bitcast(x, np.uint32).astype(np.uint64) for x in (low, high))
    return low | (high << _32)


def bitcast(x: Array, dtype) -> Array:
    """The bits of `x` as `dtype`; a narrower type adds a last axis, low part first."""
    if not isinstance(x, np.ndarray):
        return x if x.dtype == dtype else lax.bitcast_convert_type(x, dtype)
    narrower = x.dtype.itemsize // np.dtype(dtype).itemsize
    return x.view(dtype).reshape(x.shape + ((narrower,) if narrower > 1 else ()))


def where(condition: Array, x: Array, y: Array) -> Array:
    """`np.where` or `jnp.where`, as the condition is NumPy's or not."""
    return (np if isinstance(condition, np.ndarray) else jnp).where(condition, x, y)


def concatenate(arrays: list[Array]) -> Array:
    """`np.concatenate`, or `jnp.concatenate` where any part is not NumPy's."""
    host = all(isinstance(x, np.ndarray) for x in arrays)
    return (np if host else jnp).concatenate(arrays)


def _counter(wide: Array) -> tuple[Array, Array]:
    """The low and the high 64 bits of the counter, uint64[1] each."""
    return wide[2:3] | (wide[3:4] << _32), wide[4:5] | (wide[5:6] << _32)


def _philox(key0: Array, key1: Array, low: Array, high: Array) -> tuple[Array, ...]:
    """Ten rounds over the counters `low`, `high` (uint64) under one key (uint64[1] words)."""
    c0, c1, c2, c3 = low & _LOW, low >> _32, high & _LOW, high >> _32
    for r in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        k0 = (key0 + np.uint64(r * _WEYL[0])) & _LOW
        k1 = (key1 + np.uint64(r * _WEYL[1])) & _LOW
        c0, c2 = (product1 >> _32) ^ c1 ^ k0, (product0 >> _32) ^ c3 ^ k1
        c1, c3 = product1 & _LOW, product0 & _LOW
    return c0, c1, c2, c3


def _computed_once(fn: Callable[[Array], Array], state: Array, size: int) -> Array:
    """`fn(state)`, a uint64[size], kept by XLA's CPU compiler from being fused into what consumes it.

    A pass of XLA's that finds arithmetic cheap would otherwise recompute all of it for each
    consumer and for each half of a packed number. It does not look into a conditional;
    `lax.optimization_barrier` is gone before it runs.
    """
    if size < _BARRIER_SIZE:
        return fn(state)

    def opaque(state):
        # Always true, in a way that no simplifier sees.
        always = (state[0] | np.uint32(1)) != np.uint32(0)
        return lax.cond(always, fn, lambda _: jnp.zeros(size, np.uint64), state)

    return lax.platform_dependent(state, cpu=opaque, default=fn)
