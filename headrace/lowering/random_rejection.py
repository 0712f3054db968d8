"""Draws that propose and reject: gamma, Poisson, and the truncated normal with its own bounds.

As in `random`, a state goes in, numbers and the next state come out, and NumPy states give NumPy
results. TensorFlow gives each number of a gamma or Poisson draw a stretch of the stream to itself.
Here each number is a *lane*: one round is one proposal for every lane that still needs one.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.lowering.philox import Array, advance
from headrace.lowering.random import (
    RESERVED_PER_OUTPUT,
    after_outputs,
    box_muller,
    normal,
    uniform,
    uniform64_at,
)

# What a round works on: arrays of one length, the first `done`, the second the value.
Lanes = tuple[Array, ...]

# Rates from here on are drawn by transformed rejection, not by counting arrivals.
_LARGE_RATE = 10.0

# Proposals that a truncated normal may reject in a row.
_MAX_REJECTIONS = 1000

# A bound of a truncated normal this many deviations beyond the mean leaves plain normals mostly in
# range.
_PLAIN_NORMAL_BOUND = 1.3

# Lanes below this number are carried to the end together.
_FEW_LANES = 1024


def _host_gammaln(x: Array) -> Array:
    # SciPy takes a tenth of a second to import, which most programs need not pay.
    from scipy.special import gammaln

    return gammaln(x)


def gamma(state: Array, shape: tuple[int, ...], alpha: Array) -> tuple[Array, Array]:
    """Gamma-distributed numbers of scale 1, `shape` of them for each concentration, by Marsaglia and Tsang's method.

    alpha: any shape, float16, float32 or float64, positive.
    Returns `shape + alpha.shape`, dtype of alpha, and the new state.
    """

    def start(alpha: Array, block: Array) -> Lanes:
        none, zero = alpha != alpha, 0 * alpha
        # done, value, alpha, next block, is a normal left?, which, is a uniform left?, which
        return none, zero, alpha, block, none, zero, none, zero

    return _draw_lanes(state, shape, alpha, start, _gamma_round, alpha.dtype)


def poisson(
    state: Array, shape: tuple[int, ...], rate: Array, dtype: np.dtype
) -> tuple[Array, Array]:
    """Poisson-distributed numbers, `shape` of them for each rate.

    rate: any shape, any real type, not negative.  dtype: any real type.
    Returns `shape + rate.shape` of type `dtype`, and the new state. A rate that is not a number
    gives 0 for an integer type, else NaN.
    """
    xp = np if isinstance(rate, np.ndarray) and isinstance(state, np.ndarray) else jnp
    highest = _highest(np.dtype(dtype))

    def start(rate: Array, block: Array) -> Lanes:
        # TF differs: it would look for a number that fits NaN for ever.
        unknown = rate != rate
        value = rate if np.dtype(dtype).kind not in "iu" else xp.where(unknown, 0.0, rate)
        # done, value, rate, next block, product of uniforms, arrivals
        return unknown, value, rate, block, 0 * rate + 1, 0 * rate

    return _draw_lanes(
        state,
        shape,
        rate,
        start,
        lambda state, lanes: _poisson_round(state, lanes, highest),
        dtype,
    )


def parameterized_truncated_normal(
    state: np.ndarray,
    shape: tuple[int, ...],
    mean: np.ndarray,
    stddev: np.ndarray,
    minval: np.ndarray,
    maxval: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Normal numbers between bounds, on the host: each row goes on in the stream where the one before stopped.

    mean, stddev, minval, maxval: scalars, or vectors of length 1 or shape[0], of one type (float16,
    float32 or float64).
    Returns the numbers, of `shape`, and the new state.
    Raises ValueError: a deviation that is not positive, bounds that are out of order or both
    infinite.
    Raises RuntimeError: 1000 proposals rejected in a row.

    The stream is TensorFlow's where one thread does the work: with more, it starts each thread's
    rows at a place that depends on the number of threads.
    """
    dtype, size = mean.dtype, math.prod(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    parameters = [np.atleast_1d(p) for p in (mean, stddev, minval, maxval)]
    if mean.size == 1 and stddev.size == 1 and minval.ndim == 0 and maxval.ndim == 0:
        # Rows that have the same parameters are cut anew, into pieces of 100 numbers.
        columns = 100
        rows = -(-size // columns)
    numbers = np.empty(size, dtype)
    block = 0
    with np.errstate(all="ignore"):
        for row in range(rows):
            row_parameters = [p[row if len(p) > 1 else 0] for p in parameters]
            wanted = min(columns, size - row * columns)
            part = numbers[row * columns : row * columns + wanted]
            block += _fill_between_bounds(advance(state, block), part, *row_parameters)
    return numbers.reshape(shape), advance(state, rows * 2 * _MAX_REJECTIONS * (columns + 3) // 4)


def _draw_lanes(
    state: Array,
    shape: tuple[int, ...],
    parameter: Array,
    start: Callable[[Array, Array], Lanes],
    one_round: Callable[[Array, Lanes], Lanes],
    dtype: np.dtype,
) -> tuple[Array, Array]:
    """`shape` numbers for each element of `parameter`, and the new state."""
    samples, parameters = math.prod(shape), math.prod(parameter.shape)
    size = samples * parameters
    if size == 0:
        return np.zeros(shape + parameter.shape, dtype), state
    host = isinstance(state, np.ndarray) and isinstance(parameter, np.ndarray)
    xp = np if host else jnp
    # All numbers of the first parameter come first in the stream, and last in the result's axes. Both arrays are
    # computed, not constants: XLA would work out beforehand, slowly, what follows from a constant.
    column = parameter.reshape(-1, 1).astype(np.float64)
    parameter_of_lane = xp.broadcast_to(column, (parameters, samples)).reshape(-1)
    number = np.arange(size, dtype=np.uint64) if host else lax.iota(np.uint64, size)
    lanes = start(parameter_of_lane, number * np.uint64(RESERVED_PER_OUTPUT))
    if host:
        with np.errstate(all="ignore"):
            values = _run_lanes_numpy(state, lanes, one_round)
    else:
        values = _run_lanes(state, lanes, one_round)
    values = values.reshape(parameters, samples).T.reshape(shape + parameter.shape)
    return values.astype(dtype), after_outputs(state, size)


def _run_lanes_numpy(state: np.ndarray, lanes: Lanes, one_round: Callable) -> np.ndarray:
    values = np.array(lanes[1])
    index = np.arange(len(values))
    while len(index):
        lanes = one_round(state, lanes)
        values[index] = lanes[1]
        going = ~lanes[0]
        index, lanes = index[going], tuple(part[going] for part in lanes)
    return values


def _run_lanes(state: Array, lanes: Lanes, one_round: Callable) -> Array:
    def until(limit: int, lanes: Lanes) -> Lanes:
        return lax.while_loop(
            lambda lanes: (~lanes[0]).sum() > limit, lambda lanes: one_round(state, lanes), lanes
        )

    size = len(lanes[0])
    if size < _FEW_LANES:
        return until(0, lanes)[1]
    # The last few go on in arrays of their own size: most rounds serve very few lanes.
    few = size // 8
    lanes = until(few, lanes)
    index = jnp.argsort(lanes[0])[:few]
    rest = until(0, jax.tree.map(lambda part: part[index], lanes))
    return lanes[1].at[index].set(rest[1])


def _gamma_round(state: Array, lanes: Lanes) -> Lanes:
    """One proposal of Marsaglia and Tsang's rejection method ("A simple method for generating gamma variables", 2000).

    A lane draws normals and uniforms two at a time from its own blocks, and uses the second one
    first.
    """
    done, value, alpha, block, has_normal, spare_normal, has_uniform, spare_uniform = lanes
    xp = np if isinstance(done, np.ndarray) else jnp

    def next_uniform(wanted, block, has_uniform, spare_uniform):
        first, second = uniform64_at(state, block)
        drawn = wanted & ~has_uniform
        uniform = xp.where(has_uniform, spare_uniform, second)
        return uniform, (
            xp.where(drawn, block + np.uint64(1), block),
            xp.where(wanted, ~has_uniform, has_uniform),
            xp.where(drawn, first, spare_uniform),
        )

    # alpha = 1 is the exponential distribution; it needs one uniform and no normal.
    exponential = alpha == 1
    going = ~done
    needs_normal = going & ~exponential
    radius, angle = uniform64_at(state, block)
    pair = box_muller(radius[:, None], angle[:, None]).reshape(-1, 2)
    x = xp.where(has_normal, spare_normal, pair[:, 1])
    drawn = needs_normal & ~has_normal
    spare_normal = xp.where(drawn, pair[:, 0], spare_normal)
    block = xp.where(drawn, block + np.uint64(1), block)
    has_normal = xp.where(needs_normal, ~has_normal, has_normal)

    # Below 1 the density has a pole: alpha + 1 is drawn, and scaled by a uniform to the power 1 /
    # alpha.
    below_one = alpha < 1
    d = alpha + xp.where(below_one, 2.0 / 3, -1.0 / 3)
    v = 1 + (1.0 / 3 / xp.sqrt(d)) * x
    proposed = going & (exponential | (v > 0))
    v = v * v * v
    u, stream = next_uniform(proposed, block, has_uniform, spare_uniform)
    squeezed = u < 1 - 0.0331 * (x * x) * (x * x)
    log_v = xp.log(xp.where(v > 0, v, 1.0))
    exact = xp.log(u) < 0.5 * x * x + d * (1 - v + log_v)
    accepted = proposed & (exponential | squeezed | exact)
    boost, stream = next_uniform(accepted & below_one, *stream)
    result = xp.where(below_one, d * v * boost ** (1 / alpha), d * v)
    result = xp.where(exponential, -xp.log(1.0 - u), result)
    value = xp.where(accepted, result, value)
    return (done | accepted, value, alpha, stream[0], has_normal, spare_normal, *stream[1:])


def _poisson_round(state: Array, lanes: Lanes, highest: float) -> Lanes:
    """One block's two uniforms: two arrivals of a small rate, one proposal for a large one.

    Small rates count arrivals (Knuth, "Seminumerical Algorithms", 3.4.1); large ones use Hörmann's
    transformed rejection ("The transformed rejection method for generating Poisson random
    variables", 1993).
    """
    done, value, rate, block, product, arrivals = lanes
    xp, gammaln = (np, _host_gammaln) if isinstance(done, np.ndarray) else (jnp, lax.lgamma)
    uniforms = uniform64_at(state, block)[::-1]
    small = rate < _LARGE_RATE

    limit = xp.exp(-rate)
    for u in uniforms:
        product = product * u
        arrived = small & ~done & (product <= limit) & (arrivals <= highest)
        value, done = xp.where(arrived, arrivals, value), done | arrived
        arrivals = arrivals + 1

    u, v = uniforms
    u = u - 0.5
    b = 0.931 + 2.53 * xp.sqrt(rate)
    a = -0.059 + 0.02483 * b
    to_edge = 0.5 - abs(u)
    k = xp.floor((2 * a / to_edge + b) * u + rate + 0.43)
    inside = (to_edge >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
    outside = (k < 0) | ((to_edge < 0.013) & (v > to_edge))
    proposal = xp.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (to_edge * to_edge) + b))
    target = -rate + k * xp.log(rate) - gammaln(k + 1)
    accepted = (k <= highest) & (inside | (~outside & (proposal <= target)))
    accepted = ~small & ~done & accepted
    value, done = xp.where(accepted, k, value), done | accepted
    return done, value, rate, block + np.uint64(1), product, arrivals


def _highest(dtype: np.dtype) -> float:
    """The largest value of a type."""
    return float(jnp.iinfo(dtype).max if dtype.kind in "iu" else jnp.finfo(dtype).max)


def _fill_between_bounds(
    state: np.ndarray,
    numbers: np.ndarray,
    mean: np.floating,
    stddev: np.floating,
    minval: np.floating,
    maxval: np.floating,
) -> int:
    """Fills `numbers` from the start of the stream; returns how many blocks it read.

    Arithmetic is in the type of the parameters, as TensorFlow's is.
    """
    kind = type(mean)
    if not (stddev > 0 and minval < maxval and (np.isfinite(minval) or np.isfinite(maxval))):
        raise ValueError(
            f"Invalid parameters: mean {mean}, stddev {stddev}, minval {minval}, maxval {maxval}; needs stddev > 0 and "
            "minval < maxval, one of them finite."
        )
    # Mirrored where that makes a one-sided bound the lower one, or both bounds positive.
    if (np.isinf(minval) and minval < 0) or maxval < mean:
        minval, maxval, stddev = maxval, minval, -stddev
    low, high = (minval - mean) / stddev, (maxval - mean) / stddev
    root = np.sqrt(low * low + kind(4))
    cutoff = kind(2) * np.exp(kind(0.5) + (low * (low - root)) / kind(4)) / (low + root)
    width = high - low
    bound = kind(_PLAIN_NORMAL_BOUND)

    per_block = 2 if kind is np.float64 else 4
    if (low < -bound and high >= 0) or (high > bound and low <= 0):
        blocks_per_round = 1

        def propose(state, rounds):
            drawn = normal(state, (rounds, per_block), kind)[0]
            return drawn, (drawn >= low) & (drawn <= high)

    elif width < cutoff:
        blocks_per_round = 2
        offset = kind(0) if low < 0 else low * low

        def propose(state, rounds):
            drawn = uniform(state, (rounds, 2, per_block), kind)[0]
            z = drawn[:, 0] * width + low
            return z, drawn[:, 1] <= np.exp((offset - z * z) / kind(2))

    else:
        blocks_per_round = 1
        alpha = (low + root) / kind(2)

        def propose(state, rounds):
            drawn = uniform(state, (rounds, per_block // 2, 2), kind)[0]
            z = -np.log(drawn[..., 0]) / alpha + low
            x = alpha - z if low < alpha else low - alpha
            return z, (drawn[..., 1] <= np.exp(-x * x / kind(2))) & (z < high)

    filled = rounds_read = rejected = 0
    while filled < len(numbers):
        rounds = max(4, (len(numbers) - filled) // per_block)
        proposals, accepted = propose(advance(state, rounds_read * blocks_per_round), rounds)
        (places,) = accepted.reshape(-1).nonzero()
        places = places[: len(numbers) - filled]
        # The longest run of rejections, the one that the last chunk ended with included.
        edges = np.concatenate([[-1 - rejected], places])
        complete = filled + len(places) == len(numbers)
        rejected = 0 if complete else accepted.size - 1 - int(edges[-1])
        if max([*(np.diff(edges) - 1), rejected]) >= _MAX_REJECTIONS:
            raise RuntimeError(
                f"TruncatedNormal: {_MAX_REJECTIONS} proposals in a row were rejected between {minval} and {maxval}."
            )
        chosen = proposals.reshape(-1)[places] * stddev + mean
        numbers[filled : filled + len(places)] = chosen
        filled += len(places)
        # Rows end at the end of a round: what is left of it is dropped.
        rounds_read += int(places[-1]) // proposals.shape[1] + 1 if complete else rounds
    return rounds_read * blocks_per_round
