"""Draws of TensorFlow's random ops: the same numbers from the same seeds, on every device.

Each function takes a state (see `philox`) and returns what was drawn together with the state to go
on from, moved by as many blocks as TensorFlow's CPU kernel reserves. Stateless ops draw from
`stateless_state(seed)` and drop the new state. NumPy states give NumPy results, traced states
traced results; shapes are static. Uniforms and integers equal TensorFlow's exactly, what goes
through a logarithm or a sine to the last bit or two.

Distributions that accept and reject at length are in `random_rejection`.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from headrace import native
from headrace.lowering.philox import (
    Array,
    advance,
    bitcast,
    generate,
    pack,
    where,
    words_at,
)

# Blocks that a kernel sets aside for each number it returns, whether or not it reads them.
RESERVED_PER_OUTPUT = 256

# A truncated normal lies less than this many standard deviations from the mean.
_TRUNCATION = 2.0

# TensorFlow keeps the logarithm of Box and Muller's method away from 0.
_SMALLEST_UNIFORM = 1e-7

# Groups of a truncated normal that are filled together.
_GROUPS_AT_ONCE = 16384

_HALF_TYPES = {np.dtype(np.float16): 10, np.dtype(ml_dtypes.bfloat16): 7}


def uniform(state: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """Uniform numbers in [0, 1).

    dtype: float16, bfloat16, float32 (as many random bits as the mantissa has) or float64 (52
    bits).
    Returns the numbers, of `shape`, and the new state.
    """
    dtype, size = np.dtype(dtype), math.prod(shape)
    if dtype == np.float64:
        numbers = uniform64(state, size)
    elif (fast := _by_kernel(state, size, dtype, normal=False)) is not None:
        numbers = fast
    else:
        mantissa = _HALF_TYPES.get(dtype, 23)

        def one_to_two(x: Array, y: Array) -> Array:
            low, high = (_mantissa32(w, mantissa) for w in (x, y))
            return low | (high << np.uint64(32))

        numbers = generate(state, size, np.float32, one_to_two) - np.float32(1)
    return numbers.astype(dtype).reshape(shape), after_outputs(state, size)


def normal(state: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """Normal numbers of mean 0 and deviation 1, by Box and Muller's method.

    dtype: float16, bfloat16, float32 or float64; the short types round a float32.
    Returns the numbers, of `shape`, and the new state.
    """
    dtype, size = np.dtype(dtype), math.prod(shape)
    numbers = normal64(state, size) if dtype == np.float64 else _normal32(state, size)
    return numbers.astype(dtype).reshape(shape), after_outputs(state, size)


def truncated_normal(state: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """Normal numbers of mean 0 and deviation 1, drawn again where they are 2 or more from 0.

    dtype: float16, bfloat16, float32 or float64; the short types round a float32.
    Returns the numbers, of `shape`, and the new state.
    """
    dtype, size = np.dtype(dtype), math.prod(shape)
    # TensorFlow fills groups of as many numbers as a block gives. Each group has 256 words per
    # number to itself, and keeps the first numbers in range.
    per_group, draw = (2, normal64) if dtype == np.float64 else (4, _normal32)
    stride = per_group * RESERVED_PER_OUTPUT // 4
    groups = -(-size // per_group)
    if isinstance(state, np.ndarray):
        numbers = _fill_groups_numpy(state, groups, per_group, stride, draw)
    elif groups <= _GROUPS_AT_ONCE:
        numbers = _fill_groups(state, groups, per_group, stride, draw)
    else:
        # In parts, so that the rare third round costs one part and not all of them; and they stay
        # in the cache.
        starts = np.arange(0, groups, _GROUPS_AT_ONCE, dtype=np.uint64) * np.uint64(stride)
        numbers = lax.map(
            lambda start: _fill_groups(
                advance(state, start), _GROUPS_AT_ONCE, per_group, stride, draw
            ),
            starts,
        )
    numbers = numbers.reshape(-1)[:size]
    return numbers.astype(dtype).reshape(shape), after_outputs(state, size)


def uniform_int(
    state: Array, shape: tuple[int, ...], minval: Array, maxval: Array, dtype: Any
) -> tuple[Array, Array]:
    """Uniform integers in [minval, maxval).

    minval, maxval: scalars of `dtype`, int32 or int64, minval < maxval (not checked here).
    Returns the numbers, of `shape`, and the new state.
    """
    unsigned = np.dtype(f"u{np.dtype(dtype).name}")
    bits, state = uniform_full_int(state, shape, unsigned)
    low, high = (_as_vector(v, dtype).astype(unsigned) for v in (minval, maxval))
    numbers = bits.reshape(-1) % (high - low) + low
    return numbers.astype(dtype).reshape(shape), state


def uniform_full_int(state: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """Uniform integers over the whole range of `dtype`: int32, uint32, int64 or uint64.

    Returns the numbers, of `shape`, and the new state.
    """
    size = math.prod(shape)
    numbers = generate(state, size, dtype, lambda x, y: x | (y << np.uint64(32)))
    return numbers.reshape(shape), after_outputs(state, size)


def permutation(state: Array, size: int) -> tuple[Array, Array]:
    """The order in which `RandomShuffle` puts `size` rows: row i of the result is row `permutation[i]`.

    Returns int64[size], and the new state. A size of 0 or 1 draws nothing.
    """
    if size <= 1:
        return np.arange(size, dtype=np.int64), state
    # Row i, in ascending order, changes places with row target[i] >= i. That is sequential; but the
    # element that step i finds in its target was put there by the latest earlier step with the same
    # target, if any, and was what that step found in its own row. So "what step i finds in its own
    # row" is a forest over the steps, whose roots are found by pointer doubling.
    words = generate(state, size - 1, np.uint32, lambda x, y: x | (y << np.uint64(32)))
    host = isinstance(state, np.ndarray)
    xp = np if host else jnp
    step = np.arange(size, dtype=np.int64)
    left = np.arange(size, 1, -1).astype(np.uint32)
    target = xp.concatenate([(words % left).astype(np.int64) + step[:-1], step[-1:]])

    # Steps ordered by target, then by time; `latest[i]` is the step before i in that order, -1 if
    # with another target.
    sorted_keys = xp.sort((target << np.int64(32)) | step)
    by_target, found = sorted_keys & np.int64(0xFFFFFFFF), sorted_keys >> np.int64(32)
    previous = xp.where(found[1:] == found[:-1], by_target[:-1], np.int64(-1))
    previous = xp.concatenate([np.full(1, -1, np.int64), previous])
    if host:
        latest = np.empty(size, np.int64)
        latest[by_target] = previous
        # The latest step before i that wrote to row i: the last one of row i's group that is not i
        # itself.
        root = step.copy()
        last = np.append(found[1:] != found[:-1], True)
        writer = np.where(by_target == found, previous, by_target)[last]
        row = found[last]
        root[row] = np.where(writer >= 0, writer, row)
        while (root != (nearer := root[root])).any():
            root = nearer
    else:
        latest = jnp.zeros(size, np.int64).at[by_target].set(previous)
        last = jnp.append(found[1:] != found[:-1], True)
        writer = jnp.where(by_target == found, previous, by_target)
        writer = jnp.where(writer >= 0, writer, found)
        root = jnp.asarray(step).at[jnp.where(last, found, size)].set(writer, mode="drop")
        root = lax.while_loop(lambda r: (r != r[r]).any(), lambda r: r[r], root)
    order = xp.where(target == step, root, xp.where(latest >= 0, root[latest], target))
    return order, advance(state, (size + 2) // 4)


def multinomial(state: Array, logits: Array, samples: int, dtype: Any) -> tuple[Array, Array]:
    """Draws class numbers from unnormalised log-probabilities.

    logits: [batch, classes], any real type; what is not finite has probability 0.
    Returns [batch, samples] of `dtype`, and the new state. A row without a finite logit gives
    `classes`.

    The stream is TensorFlow's where one thread does the work: with more, it starts each thread's
    rows at a place that depends on the number of threads.
    """
    batch = logits.shape[0]
    if batch * samples == 0:
        return np.zeros((batch, samples), dtype), state
    host = isinstance(state, np.ndarray) and isinstance(logits, np.ndarray)
    xp = np if host else jnp
    wide = logits.astype(np.float64)
    finite = xp.isfinite(wide)
    largest = xp.where(finite, wide, -np.inf).max(axis=1, keepdims=True)
    weights = xp.where(finite, xp.exp(xp.where(finite, wide - largest, 0.0)), 0.0)
    cumulative = xp.cumsum(weights, axis=1)
    level = uniform64(state, batch * samples).reshape(batch, samples) * cumulative[:, -1:]
    if host:
        rows = [np.searchsorted(c, x, side="right") for c, x in zip(cumulative, level)]
        numbers = np.stack(rows)
    else:
        # vmap of a binary search; a comparison of all samples with all classes would be batch *
        # samples * classes.
        numbers = jax.vmap(partial(jnp.searchsorted, side="right"))(cumulative, level)
    blocks = batch * (-(-samples // 4) * 4 * 2) * RESERVED_PER_OUTPUT
    return numbers.astype(dtype), advance(state, blocks)


def uniform64(state: Array, size: int, stride: int = 1) -> Array:
    """`size` float64 uniforms in [0, 1), two from a block; `stride` as in `generate`."""
    return generate(state, size, np.float64, _one_to_two64, stride) - 1.0


def normal64(state: Array, size: int, stride: int = 1) -> Array:
    """`size` float64 normals, two from a block; `stride` as in `generate`."""
    uniforms = uniform64(state, size + size % 2, stride).reshape(-1, 2)
    return box_muller(uniforms[:, :1], uniforms[:, 1:])[:size]


def uniform64_at(state: Array, block: Array) -> tuple[Array, Array]:
    """The two float64 uniforms that each of the blocks (uint64[n], counted from `state`) gives."""
    words = words_at(state, block)
    first, second = _one_to_two64(*words[:2]), _one_to_two64(*words[2:])
    return bitcast(first, np.float64) - 1.0, bitcast(second, np.float64) - 1.0


def box_muller(radius: Array, angle: Array) -> Array:
    """Two float64 normals from two float64 uniforms.

    radius, angle: [n, 1], the first and the second uniform.
    Returns [2 * n]: the sine's, the cosine's, and so on.
    """
    xp = np if isinstance(radius, np.ndarray) else jnp
    angle = 2 * np.pi * angle
    wave = xp.where(np.array([True, False]), xp.sin(angle), xp.cos(angle))
    return (wave * xp.sqrt(-2.0 * xp.log(xp.maximum(radius, _SMALLEST_UNIFORM)))).reshape(-1)


def after_outputs(state: Array, size: int) -> Array:
    """The state after TensorFlow's reservation for `size` numbers."""
    return advance(state, size * RESERVED_PER_OUTPUT)


def _one_to_two64(x: Array, y: Array) -> Array:
    """The bits of a float64 in [1, 2)."""
    return ((x & np.uint64(0xFFFFF)) << np.uint64(32)) | y | np.uint64(0x3FF << 52)


def _normal32(state: Array, size: int, stride: int = 1) -> Array:
    """`size` float32 normals, four from a block."""
    numbers = _by_kernel(state, size, np.dtype(np.float32), normal=True, stride=stride)
    return (
        numbers if numbers is not None else generate(state, size, np.float32, _box_muller32, stride)
    )


def _by_kernel(
    state: Array, size: int, dtype: np.dtype, normal: bool, stride: int = 1
) -> Array | None:
    """The same float32 numbers from a compiled kernel; None where there is none for them."""
    if dtype != np.float32:
        return None
    return native.random_numbers(state, size, normal, stride)


def _box_muller32(x: Array, y: Array) -> Array:
    """The bits of the two float32 normals that a pair of words gives.

    All steps are in float64 and rounded where TensorFlow's float32 arithmetic rounds. That is as
    fast: the words come in 64-bit lanes, and one polynomial each is shared by the whole range. It
    must stay one fusion for XLA, which
    is why there is no division and no call to its logarithm here: it ends a fusion at both, and
    would start the next one by computing the words again.
    """
    u, turn = (_bits23_to_float64(w) for w in (x, y))
    if isinstance(u, np.ndarray):
        log, angle = (
            np.log(np.maximum(u, np.float32(_SMALLEST_UNIFORM))),
            _round32(2 * np.pi * turn),
        )
        sine, cosine = np.sin(angle), np.cos(angle)
        radius = np.sqrt(-2.0 * _round32(log))
    else:
        log = _log(jnp.maximum(u, np.float64(np.float32(_SMALLEST_UNIFORM))))
        sine, cosine = _sine_and_cosine(_round32(2 * np.pi * turn))
        radius = jnp.sqrt(-2.0 * _round32(log))
    radius = _round32(radius)
    low, high = ((_round32(w) * radius).astype(np.float32) for w in (sine, cosine))
    return pack(low, high)


def _bits23_to_float64(word: Array) -> Array:
    """The float32 uniform of a word, as a float64."""
    mantissa = (word & np.uint64(0x7FFFFF)) << np.uint64(29)
    return bitcast(mantissa | np.uint64(0x3FF << 52), np.float64) - 1.0


def _round32(x: Array) -> Array:
    return x.astype(np.float32).astype(np.float64)


# Coefficients from the constant term up, by Chebyshev interpolation; relative errors below 2**-32.
_LOG1P_OVER_X = (  # of x in [sqrt(1/2) - 1, sqrt(2) - 1]
    0.9999999999858771, -0.5000000002882408, 0.33333334338477116, -0.24999994197377412,
    0.1999988075480308, -0.16666936656288683, 0.1429099582493979, -0.12497648847113184,
    0.11005071520432493, -0.09921063511045573, 0.10031801918771478, -0.09908106983634325,
    0.05372976474365345,
)  # fmt: skip
_SIN_OVER_X = (  # of x**2, for x in [0, pi / 4]
    0.9999999999956751, -0.1666666663159932, 0.008333328782898318, -0.0001983920226810245,
    2.7173456641495986e-06,
)  # fmt: skip
_COS = (  # of x**2, for x in [0, pi / 4]
    0.9999999999999448, -0.49999999999350614, 0.041666666543843184, -0.001388888039029297,
    2.4798928024181734e-05, -2.7173376389398616e-07,
)  # fmt: skip

_SQRT_HALF_BITS = np.float64(0.5**0.5).view(np.int64)


def _log(x: Array) -> Array:
    """The natural logarithm of positive normal float64 numbers, to float32 precision and a few bits more."""
    bits = bitcast(x, np.int64)
    exponent = (bits - _SQRT_HALF_BITS) >> np.int64(52)
    mantissa = bitcast(bits - (exponent << np.int64(52)), np.float64) - 1.0
    return exponent.astype(np.float64) * np.log(2.0) + mantissa * _polynomial(
        mantissa, _LOG1P_OVER_X
    )


def _sine_and_cosine(angle: Array) -> tuple[Array, Array]:
    """Sine and cosine of float64 angles in [0, 2 pi], to float32 precision and a few bits more."""
    quarter = jnp.floor(angle * (2 / np.pi) + 0.5)
    rest = angle - quarter * (np.pi / 2)
    square = rest * rest
    sine, cosine = rest * _polynomial(square, _SIN_OVER_X), _polynomial(square, _COS)
    first, second, third = quarter == 1, quarter == 2, quarter == 3
    swap = first | third
    sine, cosine = jnp.where(swap, cosine, sine), jnp.where(swap, sine, cosine)
    return jnp.where(second | third, -sine, sine), jnp.where(first | second, -cosine, cosine)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    value = np.float64(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def _fill_groups(state: Array, groups: int, per_group: int, stride: int, draw) -> Array:
    """The first `per_group` numbers in range from each group's own blocks, [groups, per_group], traced."""

    def one_round(carry):
        kept, count, block = carry
        drawn = draw(advance(state, block), groups * per_group, stride)
        kept, count = _keep_in_range(kept, count, drawn.reshape(groups, per_group))
        return kept, count, block + np.uint64(1)

    dtype = np.float64 if per_group == 2 else np.float32
    kept, count = jnp.zeros((groups, per_group), dtype), jnp.zeros((groups, 1), np.int32)
    return lax.while_loop(
        lambda carry: (carry[1] < per_group).any(), one_round, (kept, count, np.uint64(0))
    )[0]


def _fill_groups_numpy(
    state: np.ndarray, groups: int, per_group: int, stride: int, draw
) -> np.ndarray:
    """As `_fill_groups`; rounds after the first are for the groups that want more only."""
    if per_group == 4:
        numbers = native.truncated_numbers(state, groups, stride, _TRUNCATION)
        if numbers is not None:
            return numbers
    numbers = draw(state, groups * per_group, stride).reshape(groups, per_group)
    (index,) = (abs(numbers) >= _TRUNCATION).any(axis=1).nonzero()
    kept, count = np.zeros_like(numbers[index]), np.zeros((len(index), 1), np.int32)
    kept, count = _keep_in_range(kept, count, numbers[index])
    block = 1
    while len(index):
        numbers[index] = kept
        wanting = count[:, 0] < per_group
        index, kept, count = index[wanting], kept[wanting], count[wanting]
        words = words_at(state, index.astype(np.uint64) * np.uint64(stride) + np.uint64(block))
        if per_group == 2:
            uniforms = (bitcast(_one_to_two64(*words[i : i + 2]), np.float64) - 1 for i in (0, 2))
            drawn = box_muller(*(u.reshape(-1, 1) for u in uniforms))
        else:
            pairs = (bitcast(_box_muller32(*words[i : i + 2]), np.float32) for i in (0, 2))
            drawn = np.concatenate(list(pairs), axis=1)
        kept, count = _keep_in_range(kept, count, drawn.reshape(-1, per_group))
        block += 1
    return numbers


def _keep_in_range(kept: Array, count: Array, drawn: Array) -> tuple[Array, Array]:
    """Appends the numbers of `drawn` that are in range to each row of `kept`, as far as there is room.

    kept, drawn: [n, k].  count: int32[n, 1], how many of a row are kept; more than k where there
    was no room.
    """
    place = np.arange(kept.shape[1], dtype=np.int32)
    for column in range(kept.shape[1]):
        number = drawn[:, column : column + 1]
        in_range = abs(number) < _TRUNCATION
        kept = where(in_range & (count == place), number, kept)
        count = count + in_range.astype(np.int32)
    return kept, count


def _mantissa32(word: Array, bits: int) -> Array:
    """The bits of a float32 in [1, 2) whose mantissa starts with the low `bits` bits of `word`."""
    mask = np.uint64(2**bits - 1)
    return ((word & mask) << np.uint64(23 - bits)) | np.uint64(0x3F800000)


def _as_vector(value: Array, dtype: Any) -> Array:
    """A scalar as a vector of one element: NumPy warns where the arithmetic of its scalars wraps around."""
    if isinstance(value, int | np.ndarray | np.generic):
        return np.asarray(value, dtype).reshape(1)
    return value.astype(dtype).reshape(1)
