"""Random numbers: TensorFlow's own, from the same seeds (see `lowering/random.py`)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.core import errors
from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, OpDef, define
from headrace.lowering import checks, philox, random, random_rejection

_RANDOM = Effect.STATEFUL | Effect.RANDOM
_SEEDS = "seed: int = 0, seed2: int = 0"
_LOGITS = (
    "{float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64}"
)


def _first_state(op):
    return philox.initial_state(op.attr("seed"), op.attr("seed2"))


def _sizes(op, shape: np.ndarray) -> tuple[int, ...]:
    """The shape that a vector of sizes describes."""
    sizes = tuple(int(size) for size in shape.reshape(-1))
    checks.fail_if(
        op, any(size < 0 for size in sizes), "shape {} has a negative size", np.array(sizes)
    )
    return sizes


def _described_shape(op, shape, *rest):
    shapes.with_rank(op, shape, 1, "shape")
    return shapes.sizes_of(op, 0)


def _check_bounds(op, minval, maxval) -> None:
    # TF differs: bounds that are computed in the same program are not compared. A check on values
    # keeps the buffers of variables from being updated in place, and bounds are constants nearly
    # always.
    if all(isinstance(bound, np.ndarray | np.generic) for bound in (minval, maxval)):
        checks.fail_if(
            op, bool(minval >= maxval), "Need minval < maxval, got {} >= {}", minval, maxval
        )


# ---- RandomUniform, RandomStandardNormal, TruncatedNormal, and their stateless twins


def _define_draw(name: str, draw) -> OpDef:
    """An op that takes a shape, and draws from a distribution without parameters."""
    definition = define(
        name,
        "shape: T -> output: dtype",
        f"{_SEEDS}, dtype: {{half, bfloat16, float, double}}, T: {{int32, int64}}",
        static_inputs=("shape",),
        effects=_RANDOM,
    )
    definition.shape(_described_shape)

    @definition.host
    @definition.lower
    def _draw_lower(op, rng, shape: np.ndarray):
        values, state = draw(rng.read(), _sizes(op, shape), op.output_dtype(0).np_dtype)
        rng.write(state)
        return values

    definition.initial_state(_first_state)
    return definition.not_differentiable()


def _define_stateless_draw(name: str, draw) -> OpDef:
    definition = define(
        name,
        "shape: T, seed: Tseed -> output: dtype",
        "dtype: {half, bfloat16, float, double} = float, T: {int32, int64} = int32, "
        "Tseed: {int32, int64} = int64",
        static_inputs=("shape",),
    )
    definition.shape(_stateless_shape)

    @definition.host
    def _stateless_draw_host(op, shape: np.ndarray, seed):
        state = philox.stateless_state(seed)
        return draw(state, _sizes(op, shape), op.output_dtype(0).np_dtype)[0]

    _lower_as_host(definition)
    return definition.not_differentiable()


def _lower_as_host(definition: OpDef) -> None:
    """Makes the host rule of a stateless op its lowering.

    A seed that is a constant must be traced all the same: NumPy would draw, and the program hold
    the numbers.
    """
    rule = definition.host_rule
    assert rule is not None
    position = [argument.name for argument in definition.signature.inputs].index("seed")

    @definition.lower
    def _stateless_lower(op, *values):
        traced = list(values)
        traced[position] = jnp.asarray(values[position])
        return rule(op, *traced)


def _seed_shape(op, seed) -> None:
    shapes.merge(op, seed, (2,), "seed")


def _stateless_shape(op, shape, seed, *bounds):
    _seed_shape(op, seed)
    return _described_shape(op, shape)


random_uniform = _define_draw("RandomUniform", random.uniform)
random_standard_normal = _define_draw("RandomStandardNormal", random.normal)
truncated_normal = _define_draw("TruncatedNormal", random.truncated_normal)
stateless_random_uniform = _define_stateless_draw("StatelessRandomUniform", random.uniform)
stateless_random_normal = _define_stateless_draw("StatelessRandomNormal", random.normal)
stateless_truncated_normal = _define_stateless_draw(
    "StatelessTruncatedNormal", random.truncated_normal
)

# ---- RandomUniformInt, StatelessRandomUniformInt

random_uniform_int = define(
    "RandomUniformInt",
    "shape: T, minval: Tout, maxval: Tout -> output: Tout",
    f"{_SEEDS}, Tout: {{int32, int64}}, T: {{int32, int64}}",
    static_inputs=("shape",),
    effects=_RANDOM,
)


@random_uniform_int.shape
def _random_uniform_int_shape(op, shape, minval, maxval):
    shapes.with_rank(op, minval, 0, "minval")
    shapes.with_rank(op, maxval, 0, "maxval")
    return _described_shape(op, shape)


@random_uniform_int.host
@random_uniform_int.lower
def _random_uniform_int_lower(op, rng, shape: np.ndarray, minval, maxval):
    sizes, dtype = _sizes(op, shape), op.output_dtype(0).np_dtype
    if 0 not in sizes:  # else the bounds may be anything
        _check_bounds(op, minval, maxval)
    values, state = random.uniform_int(rng.read(), sizes, minval, maxval, dtype)
    rng.write(state)
    return values


random_uniform_int.initial_state(_first_state)
random_uniform_int.not_differentiable()

stateless_random_uniform_int = define(
    "StatelessRandomUniformInt",
    "shape: T, seed: Tseed, minval: dtype, maxval: dtype -> output: dtype",
    "dtype: {int32, int64}, T: {int32, int64}, Tseed: {int32, int64} = int64",
    static_inputs=("shape",),
)


@stateless_random_uniform_int.shape
def _stateless_random_uniform_int_shape(op, shape, seed, minval, maxval):
    shapes.with_rank(op, minval, 0, "minval")
    shapes.with_rank(op, maxval, 0, "maxval")
    return _stateless_shape(op, shape, seed)


@stateless_random_uniform_int.host
def _stateless_random_uniform_int_host(op, shape: np.ndarray, seed, minval, maxval):
    sizes, dtype = _sizes(op, shape), op.output_dtype(0).np_dtype
    if 0 not in sizes:
        _check_bounds(op, minval, maxval)
    return random.uniform_int(philox.stateless_state(seed), sizes, minval, maxval, dtype)[0]


_lower_as_host(stateless_random_uniform_int)

stateless_random_uniform_int.not_differentiable()

# ---- RandomShuffle

random_shuffle = define(
    "RandomShuffle", "value: T -> output: T", f"{_SEEDS}, T: type", effects=_RANDOM
)
random_shuffle.shape(shapes.unchanged)


@random_shuffle.host
@random_shuffle.lower
def _random_shuffle_lower(op, rng, value):
    rows = value.shape[0] if value.size > 1 else 1
    order, state = random.permutation(rng.read(), rows)
    rng.write(state)
    if rows == 1:
        return value
    return value[order] if isinstance(order, np.ndarray) else jnp.asarray(value)[order]


random_shuffle.initial_state(_first_state)


@random_shuffle.gradient
def _random_shuffle_gradient(op, dy):
    raise LookupError(
        f"No gradient defined for operation '{op.name}' (op type: RandomShuffle){op._site_line()}"
    )


# ---- Multinomial, StatelessMultinomial

multinomial = define(
    "Multinomial",
    "logits: T, num_samples: int32 -> output: output_dtype",
    f"{_SEEDS}, T: {_LOGITS}, output_dtype: {{int32, int64}} = int64",
    static_inputs=("num_samples",),
    effects=_RANDOM,
)


@multinomial.shape
def _multinomial_shape(op, logits, num_samples, *seed):
    batch = shapes.with_rank(op, logits, 2, "logits")[0]
    shapes.with_rank(op, num_samples, 0, "num_samples")
    samples = op.static(1)
    return batch, None if samples is None else int(samples)


def _multinomial(op, state, logits, num_samples: np.ndarray):
    samples = int(num_samples)
    checks.fail_if(op, logits.ndim != 2, "logits should be a matrix, got shape {}", logits.shape)
    checks.fail_if(op, samples < 0, "num_samples should be nonnegative, got {}", samples)
    checks.fail_if(op, logits.shape[1] == 0, "num_classes should be positive, got 0")
    return random.multinomial(state, logits, samples, op.output_dtype(0).np_dtype)


@multinomial.host
@multinomial.lower
def _multinomial_lower(op, rng, logits, num_samples: np.ndarray):
    values, state = _multinomial(op, rng.read(), logits, num_samples)
    rng.write(state)
    return values


multinomial.initial_state(_first_state)
multinomial.not_differentiable()

stateless_multinomial = define(
    "StatelessMultinomial",
    "logits: T, num_samples: int32, seed: Tseed -> output: output_dtype",
    f"T: {_LOGITS}, Tseed: {{int32, int64}} = int64, output_dtype: {{int32, int64}} = int64",
    static_inputs=("num_samples",),
)


@stateless_multinomial.shape
def _stateless_multinomial_shape(op, logits, num_samples, seed):
    _seed_shape(op, seed)
    return _multinomial_shape(op, logits, num_samples)


@stateless_multinomial.host
def _stateless_multinomial_host(op, logits, num_samples: np.ndarray, seed):
    return _multinomial(op, philox.stateless_state(seed), logits, num_samples)[0]


_lower_as_host(stateless_multinomial)

stateless_multinomial.not_differentiable()

# ---- RandomGamma, RandomGammaGrad

random_gamma = define(
    "RandomGamma",
    "shape: S, alpha: T -> output: T",
    f"{_SEEDS}, S: {{int32, int64}}, T: {{half, float, double}}",
    static_inputs=("shape",),
    effects=_RANDOM,
)


def _samples_of_each_shape(op, shape, parameter):
    return shapes.concatenate(_described_shape(op, shape), parameter)


random_gamma.shape(_samples_of_each_shape)


@random_gamma.host
@random_gamma.lower
def _random_gamma_lower(op, rng, shape: np.ndarray, alpha):
    values, state = random_rejection.gamma(rng.read(), _sizes(op, shape), alpha)
    rng.write(state)
    return values


random_gamma.initial_state(_first_state)


@random_gamma.gradient
def _random_gamma_gradient(op, dy):
    # Implicit reparameterisation (Figurnov, Mohamed, Mnih, 2018): the derivative of a sample by its
    # alpha.
    shape, alpha = op.inputs
    rank = shape._dims[0] if shapes.is_known(shape._dims) else None
    if rank is None:
        rank = raw.Size(shape)
        ones, axes = raw.Fill(raw.Reshape(rank, [1]), 1), raw.Range(0, rank, 1)
    else:
        ones, axes = np.ones(rank, np.int32), np.arange(rank, dtype=np.int32)
    alpha = raw.Reshape(alpha, raw.ConcatV2([ones, raw.Shape(alpha)], 0))
    dalpha = raw.RandomGammaGrad(alpha, op.outputs[0])
    return None, raw.Sum(raw.Mul(dy, dalpha), axes)


random_gamma_grad = define(
    "RandomGammaGrad", "alpha: T, sample: T -> output: T", "T: {float, double}"
)
random_gamma_grad.shape(shapes.broadcast)


@random_gamma_grad.lower
def _random_gamma_grad_lower(op, alpha, sample):
    return lax.random_gamma_grad(*jnp.broadcast_arrays(alpha, sample))


@random_gamma_grad.gradient
def _random_gamma_grad_gradient(op, dy):
    raise LookupError(
        f"No gradient defined for operation '{op.name}' (op type: RandomGammaGrad){op._site_line()}"
    )


# ---- RandomPoisson, RandomPoissonV2


def _random_poisson_lower(op, rng, shape: np.ndarray, rate):
    dtype = op.output_dtype(0).np_dtype
    values, state = random_rejection.poisson(rng.read(), _sizes(op, shape), rate, dtype)
    rng.write(state)
    return values


random_poisson = define(
    "RandomPoisson",
    "shape: S, rate: dtype -> output: dtype",
    f"{_SEEDS}, S: {{int32, int64}}, dtype: {{half, float, double}}",
    static_inputs=("shape",),
    effects=_RANDOM,
)
random_poisson_v2 = define(
    "RandomPoissonV2",
    "shape: S, rate: R -> output: dtype",
    f"{_SEEDS}, S: {{int32, int64}}, R: {{half, float, double, int32, int64}} = double, "
    "dtype: {half, float, double, int32, int64} = int64",
    static_inputs=("shape",),
    effects=_RANDOM,
)
for _definition in (random_poisson, random_poisson_v2):
    _definition.shape(_samples_of_each_shape)
    _definition.lower(_random_poisson_lower)
    _definition.host(_random_poisson_lower)
    _definition.initial_state(_first_state)
    _definition.not_differentiable()

# ---- ParameterizedTruncatedNormal: each row goes on where the one before it stopped, so it stays
# on the host.

parameterized_truncated_normal = define(
    "ParameterizedTruncatedNormal",
    "shape: T, means: dtype, stdevs: dtype, minvals: dtype, maxvals: dtype -> output: dtype",
    f"{_SEEDS}, dtype: {{half, bfloat16, float, double}}, T: {{int32, int64}}",
    static_inputs=("shape",),
    effects=_RANDOM,
    host_only=True,
)


@parameterized_truncated_normal.shape
def _parameterized_truncated_normal_shape(op, shape, *parameters):
    for dims, name in zip(parameters, ("means", "stdevs", "minvals", "maxvals"), strict=True):
        if dims is not None and len(dims) > 1:
            raise op.error(
                f"Shape must be at most rank 1 but is rank {len(dims)}: {name} has shape {shapes.text(dims)}."
            )
    return _described_shape(op, shape)


@parameterized_truncated_normal.host
def _parameterized_truncated_normal_host(op, rng, shape: np.ndarray, *parameters):
    sizes = _sizes(op, shape)
    if not sizes or any(p.ndim > 1 or p.size not in (1, sizes[0]) for p in parameters):
        got = ", ".join(str(p.shape) for p in parameters)
        raise op.invalid(
            "Input means, stdevs, minvals and maxvals should be scalars, or vectors of length 1 or "
            f"shape[0]; got {got} for shape {sizes}"
        )
    try:
        values, state = random_rejection.parameterized_truncated_normal(
            rng.read(), sizes, *parameters
        )
    except ValueError as error:
        raise op.invalid(str(error)) from None
    except RuntimeError as error:
        raise errors.InternalError(None, None, f"{op.type} op {op.name!r}: {error}") from None
    rng.write(state)
    return values


parameterized_truncated_normal.initial_state(_first_state)
parameterized_truncated_normal.not_differentiable()
