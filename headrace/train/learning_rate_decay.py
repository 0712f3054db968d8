"""Learning rates that fall with the number of steps.

In eager mode each of these gives a function without arguments, which computes the rate anew at each call, instead of a
tensor; the functions of this module themselves give tensors always.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.case import case
from headrace.api.cond import cond
from headrace.api.export import PUBLIC, export
from headrace.api.framework import name_scope
from headrace.api.math_ops import cast, divide, pow
from headrace.api.random_ops import random_normal
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import constant_from_value, convert_to_tensor
from headrace.graph.tensor import Tensor


def _public(*names: str) -> Callable[[Any], Any]:
    """Files a decay under its public names: as it is for graphs, put off for eager mode."""

    def file(decay: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @export(*names)
        @functools.wraps(decay)
        def decayed(*args: Any, **kwargs: Any) -> Any:
            if PUBLIC["executing_eagerly"]():
                return functools.partial(decay, *args, **kwargs)
            return decay(*args, **kwargs)

        return decay

    return file


def _check_step(global_step: Any, name: str) -> None:
    if global_step is None:
        raise ValueError(f"global_step is required for {name}.")


def _casts(dtype: Any, *values: Any) -> list[Tensor]:
    return [cast(v, dtype) for v in values]


@_public("train.exponential_decay")
def exponential_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """`learning_rate * decay_rate ** (global_step / decay_steps)`; staircase: the exponent is rounded down.

    Returns a scalar, dtype of learning_rate. Raises ValueError: no global_step.
    """
    _check_step(global_step, "exponential_decay")
    with name_scope(name, "ExponentialDecay") as scope:
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        steps, factor, step = _casts(rate.dtype, decay_steps, decay_rate, global_step)
        exponent = step / steps
        if staircase:
            exponent = raw.Floor(exponent)
        return raw.Mul(rate, pow(factor, exponent), name=scope)


@_public("train.piecewise_constant_decay", "train.piecewise_constant")
def piecewise_constant(
    x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None
) -> Tensor:
    """`values[0]` up to and with `boundaries[0]`, then `values[1]` up to `boundaries[1]`, and so on.

    x: a scalar, often the step. values: one more than boundaries, all of one dtype. Returns a scalar of that dtype.
    Raises ValueError: as many values as boundaries, or dtypes that differ.
    """
    limits = [convert_to_tensor(b) for b in boundaries]
    results = [convert_to_tensor(v) for v in values]
    point = convert_to_tensor(x)
    kind = point.dtype.base_dtype
    for i, limit in enumerate(limits):
        if limit.dtype.base_dtype == kind:
            continue
        # Other pairs of types could compare wrongly after a conversion.
        if limit.dtype.base_dtype != dtypes.int32 or kind != dtypes.int64:
            raise ValueError(
                f"Boundaries ({limit.dtype.base_dtype!r}) must have the same dtype as x ({kind!r})."
            )
        limits[i] = cast(limit, kind)
    for result in results[1:]:
        if result.dtype.base_dtype != results[0].dtype.base_dtype:
            raise ValueError(
                "Values must have elements all with the same dtype "
                f"({results[0].dtype.base_dtype!r} vs {result.dtype.base_dtype!r})."
            )
    if len(limits) != len(results) - 1:
        raise ValueError("The length of boundaries should be 1 less than the length of values")
    with name_scope(name, "PiecewiseConstant"):
        pairs = [
            (point <= limits[0], lambda: results[0]),
            (point > limits[-1], lambda: results[-1]),
        ]
        for low, high, result in zip(limits[:-1], limits[1:], results[1:-1], strict=True):
            pairs.append(((point > low) & (point <= high), functools.partial(_itself, result)))
        return case(pairs, lambda: results[0], exclusive=True)


def _itself(value: Tensor) -> Tensor:
    return value


@_public("train.polynomial_decay")
def polynomial_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    end_learning_rate: Any = 0.0001,
    power: Any = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Tensor:
    """From `learning_rate` to `end_learning_rate` in `decay_steps`, along a power of the part of steps that is left.

    cycle: beyond decay_steps the decay begins anew with the next multiple of them; else the rate stays at its end.
    Returns a scalar, dtype of learning_rate. Raises ValueError: no global_step.
    """
    _check_step(global_step, "polynomial_decay")
    with name_scope(name, "PolynomialDecay") as scope:
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        end, exponent, step, steps = _casts(
            rate.dtype, end_learning_rate, power, global_step, decay_steps
        )
        if cycle:
            multiple = cond(raw.Equal(step, 0), lambda: 1.0, lambda: raw.Ceil(step / decay_steps))
            steps = raw.Mul(steps, multiple)
        else:
            step = raw.Minimum(step, decay_steps)
        done = divide(step, steps)
        return raw.Add(raw.Mul(rate - end, pow(1 - done, exponent)), end, name=scope)


@_public("train.natural_exp_decay")
def natural_exp_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """`learning_rate * exp(-decay_rate * global_step / decay_steps)`; staircase: the quotient is rounded down.

    Returns a scalar, dtype of learning_rate. Raises ValueError: no global_step.
    """
    _check_step(global_step, "natural_exp_decay")
    factor = raw.Exp(raw.Neg(decay_rate))
    return exponential_decay(learning_rate, global_step, decay_steps, factor, staircase, name)


@_public("train.inverse_time_decay")
def inverse_time_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """`learning_rate / (1 + decay_rate * global_step / decay_steps)`; staircase: the quotient is rounded down.

    Returns a scalar, dtype of learning_rate. Raises ValueError: no global_step.
    """
    _check_step(global_step, "inverse_time_decay")
    with name_scope(name, "InverseTimeDecay") as scope:
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        steps, factor, step = _casts(rate.dtype, decay_steps, decay_rate, global_step)
        done = step / steps
        if staircase:
            done = raw.Floor(done)
        one = cast(constant_from_value(1, None, None), rate.dtype)
        return divide(rate, raw.Add(one, raw.Mul(factor, done)), name=scope)


def _cosine(fraction: Tensor) -> Tensor:
    return raw.Cos(constant_from_value(math.pi, None, None) * fraction)


@_public("train.cosine_decay")
def cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    alpha: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """From `learning_rate` to `alpha` times it along half a cosine wave (Loshchilov, Hutter 2016, without restarts).

    Returns a scalar, dtype of learning_rate. Raises ValueError: no global_step.
    """
    _check_step(global_step, "cosine decay")
    with name_scope(name, "CosineDecay"):
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        steps, step = _casts(rate.dtype, decay_steps, global_step)
        fraction = raw.Minimum(step, steps) / steps
        wave = 0.5 * (1.0 + _cosine(fraction))
        return raw.Mul(rate, (1 - alpha) * wave + alpha)


@_public("train.cosine_decay_restarts")
def cosine_decay_restarts(
    learning_rate: Any,
    global_step: Any,
    first_decay_steps: Any,
    t_mul: Any = 2.0,
    m_mul: Any = 1.0,
    alpha: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """Cosine decay that starts again when it has ended (Loshchilov, Hutter 2016: SGDR).

    first_decay_steps: length of the first period. t_mul, m_mul: what each further one is longer, and starts higher, by.
    Returns a scalar, dtype of learning_rate.
    """
    with name_scope(name, "SGDRDecay") as scope:
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        first, floor, longer, higher, step = _casts(
            rate.dtype, first_decay_steps, alpha, t_mul, m_mul, global_step
        )
        fraction = step / first

        def of_equal_periods() -> tuple[Tensor, Tensor]:
            restarts = raw.Floor(fraction)
            return restarts, fraction - restarts

        def of_growing_periods() -> tuple[Tensor, Tensor]:
            # Periods grow geometrically: the number of those that are over follows from the sum of the series.
            restarts = raw.Floor(raw.Log(1.0 - fraction * (1.0 - longer)) / raw.Log(longer))
            over = (1.0 - longer**restarts) / (1.0 - longer)
            return restarts, (fraction - over) / longer**restarts

        restarts, within = cond(raw.Equal(longer, 1.0), of_equal_periods, of_growing_periods)
        wave = 0.5 * higher**restarts * (1.0 + _cosine(within))
        return raw.Mul(rate, (1 - floor) * wave + floor, name=scope)


@_public("train.linear_cosine_decay")
def linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    num_periods: Any = 0.5,
    alpha: Any = 0.0,
    beta: Any = 0.001,
    name: str | None = None,
) -> Tensor:
    """`learning_rate * ((alpha + linear) * cosine + beta)` (Bello et al. 2017: Neural Optimizer Search).

    linear falls from 1 to 0; cosine goes through `num_periods` of a wave between 1 and 0.
    Returns a scalar, dtype of learning_rate. Raises ValueError: no global_step.
    """
    _check_step(global_step, "linear cosine decay")
    with name_scope(name, "LinearCosineDecay") as scope:
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        steps, periods, alpha, beta, step = _casts(
            rate.dtype, decay_steps, num_periods, alpha, beta, global_step
        )
        step = raw.Minimum(step, steps)
        linear = (steps - step) / steps
        done = step / steps
        wave = 0.5 * (1.0 + _cosine(2.0 * periods * done))
        return raw.Mul(rate, (alpha + linear) * wave + beta, name=scope)


@_public("train.noisy_linear_cosine_decay")
def noisy_linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    initial_variance: Any = 1.0,
    variance_decay: Any = 0.55,
    num_periods: Any = 0.5,
    alpha: Any = 0.0,
    beta: Any = 0.001,
    name: str | None = None,
) -> Tensor:
    """`linear_cosine_decay` with normal noise added to its linear part (Bello et al. 2017: Neural Optimizer Search).

    The variance of the noise is `initial_variance / (1 + global_step) ** variance_decay`.
    Returns a scalar, dtype of learning_rate. Raises ValueError: no global_step.
    """
    _check_step(global_step, "noisy linear cosine decay")
    with name_scope(name, "NoisyLinearCosineDecay") as scope:
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        steps, variance, falling, periods, alpha, beta, step = _casts(
            rate.dtype,
            decay_steps,
            initial_variance,
            variance_decay,
            num_periods,
            alpha,
            beta,
            global_step,
        )
        step = raw.Minimum(step, steps)
        linear = (steps - step) / steps
        deviation = raw.Sqrt(variance / pow(1.0 + step, falling))
        linear = linear + random_normal(linear.shape, stddev=deviation)
        done = step / steps
        wave = 0.5 * (1.0 + _cosine(2.0 * periods * done))
        return raw.Mul(rate, (alpha + linear) * wave + beta, name=scope)
