"""Activation functions of neural networks: Relu, Elu, Softplus and their kin, each with the op of its gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.ops.choose import choose

_REAL = (
    "T: {float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64}"
)
_FLOATS = "T: {half, bfloat16, float, double}"

# The constants of the self-normalising unit: its fixed point has mean 0 and variance 1.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_SCALE_ALPHA = 1.7580993408473768599402175208123


def _same_shape(op, a, b):
    return shapes.merge(op, a, b, "gradients and features")


def _activation(name: str, attrs: str) -> OpDef:
    """An elementwise op of one input."""
    definition = define(name, "features: T -> activations: T", attrs)
    definition.shape(shapes.unchanged)
    return definition


def _activation_grad(name: str, attrs: str, second: str = "features") -> OpDef:
    """The op that takes the gradient of an activation back to its input."""
    definition = define(name, f"gradients: T, {second}: T -> backprops: T", attrs)
    definition.shape(_same_shape)
    return definition


def _where_negative(x, a):
    """Nodes for `a` where `x` is negative, else 0."""
    return raw.Select(raw.Less(x, 0.0), a, raw.ZerosLike(x))


# ---- Relu, ReluGrad

relu = _activation(
    "Relu",
    "T: {float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64, qint8}",
)
relu_grad = _activation_grad("ReluGrad", _REAL)


@relu.lower
def _relu_lower(op, x):
    return jnp.maximum(x, jnp.zeros((), x.dtype))


@relu.host
def _relu_host(op, x):
    return np.maximum(x, x.dtype.type(0))


@relu.extend(0)
def _relu_extend(op, unfinished):
    return unfinished.between(0.0)


@relu.gradient
def _relu_gradient(op, dy):
    # Of the output, so that the input need not be kept.
    return raw.ReluGrad(dy, op.outputs[0])


@relu_grad.lower
def _relu_grad_lower(op, dy, x):
    return jnp.where(x > 0, dy, jnp.zeros((), dy.dtype))


@relu_grad.host
def _relu_grad_host(op, dy, x):
    return choose(x > 0, dy)


@relu_grad.gradient
def _relu_grad_gradient(op, ddy):
    x = op.inputs[1]
    return raw.ReluGrad(ddy, x), raw.ZerosLike(x)


# ---- Relu6, Relu6Grad

relu6 = _activation("Relu6", _REAL)
relu6_grad = _activation_grad("Relu6Grad", _REAL)


@relu6.lower
def _relu6_lower(op, x):
    return jnp.clip(x, jnp.zeros((), x.dtype), jnp.full((), 6, x.dtype))


@relu6.host
def _relu6_host(op, x):
    return np.minimum(np.maximum(x, x.dtype.type(0)), x.dtype.type(6))


@relu6.extend(0)
def _relu6_extend(op, unfinished):
    return unfinished.between(0.0, 6.0)


@relu6.gradient
def _relu6_gradient(op, dy):
    return raw.Relu6Grad(dy, op.outputs[0])


@relu6_grad.lower
def _relu6_grad_lower(op, dy, x):
    return jnp.where((x > 0) & (x < 6), dy, jnp.zeros((), dy.dtype))


@relu6_grad.host
def _relu6_grad_host(op, dy, x):
    return choose((x > 0) & (x < 6), dy)


@relu6_grad.gradient
def _relu6_grad_gradient(op, ddy):
    x = op.inputs[1]
    return raw.Relu6Grad(ddy, x), raw.ZerosLike(x)


# ---- LeakyRelu, LeakyReluGrad

_LEAKY = "alpha: float = 0.200000003, T: {half, bfloat16, float, double} = float"
leaky_relu = _activation("LeakyRelu", _LEAKY)
leaky_relu_grad = _activation_grad("LeakyReluGrad", _LEAKY)


def _leak(op, x):
    return np.asarray(op.attr("alpha")).astype(x.dtype)


@leaky_relu.lower
def _leaky_relu_lower(op, x):
    return jnp.where(x > 0, x, x * _leak(op, x))


@leaky_relu.host
def _leaky_relu_host(op, x):
    return choose(x > 0, x, x * _leak(op, x))


@leaky_relu.gradient
def _leaky_relu_gradient(op, dy):
    return raw.LeakyReluGrad(dy, op.inputs[0], alpha=op.attr("alpha"))


@leaky_relu_grad.lower
def _leaky_relu_grad_lower(op, dy, x):
    return jnp.where(x > 0, dy, dy * _leak(op, dy))


@leaky_relu_grad.host
def _leaky_relu_grad_host(op, dy, x):
    return choose(x > 0, dy, dy * _leak(op, dy))


@leaky_relu_grad.gradient
def _leaky_relu_grad_gradient(op, ddy):
    x = op.inputs[1]
    return raw.LeakyReluGrad(ddy, x, alpha=op.attr("alpha")), raw.ZerosLike(x)


# ---- Elu, EluGrad: the gradient is a function of the output, y + 1 where x (and so y) is negative

elu = _activation("Elu", _FLOATS)
elu_grad = _activation_grad("EluGrad", _FLOATS, "outputs")


@elu.lower
def _elu_lower(op, x):
    return jnp.where(x < 0, jnp.expm1(x), x)


@elu.host
def _elu_host(op, x):
    return choose(x < 0, np.expm1(x), x)


@elu.gradient
def _elu_gradient(op, dy):
    return raw.EluGrad(dy, op.outputs[0])


@elu_grad.lower
def _elu_grad_lower(op, dy, y):
    return jnp.where(y < 0, dy * (y + 1), dy)


@elu_grad.host
def _elu_grad_host(op, dy, y):
    return choose(y < 0, dy * (y + y.dtype.type(1)), dy)


@elu_grad.gradient
def _elu_grad_gradient(op, ddy):
    dy, y = op.inputs
    return raw.EluGrad(ddy, y), _where_negative(y, raw.Mul(ddy, dy))


# ---- Selu, SeluGrad: as Elu, scaled; the gradient where y is negative is y + scale * alpha

selu = _activation("Selu", _FLOATS)
selu_grad = _activation_grad("SeluGrad", _FLOATS, "outputs")


@selu.lower
def _selu_lower(op, x):
    return jnp.where(
        x < 0, jnp.expm1(x) * x.dtype.type(_SELU_SCALE_ALPHA), x * x.dtype.type(_SELU_SCALE)
    )


@selu.host
def _selu_host(op, x):
    return np.where(
        x < 0, np.expm1(x) * x.dtype.type(_SELU_SCALE_ALPHA), x * x.dtype.type(_SELU_SCALE)
    )


@selu.gradient
def _selu_gradient(op, dy):
    return raw.SeluGrad(dy, op.outputs[0])


@selu_grad.lower
def _selu_grad_lower(op, dy, y):
    return jnp.where(
        y < 0, dy * (y + y.dtype.type(_SELU_SCALE_ALPHA)), dy * dy.dtype.type(_SELU_SCALE)
    )


@selu_grad.host
def _selu_grad_host(op, dy, y):
    return np.where(
        y < 0, dy * (y + y.dtype.type(_SELU_SCALE_ALPHA)), dy * dy.dtype.type(_SELU_SCALE)
    )


@selu_grad.gradient
def _selu_grad_gradient(op, ddy):
    dy, y = op.inputs
    return raw.SeluGrad(ddy, y), _where_negative(y, raw.Mul(ddy, dy))


# ---- Softplus, SoftplusGrad: log(1 + exp x), and its derivative, the logistic function

softplus = _activation("Softplus", _FLOATS)
softplus_grad = _activation_grad("SoftplusGrad", _FLOATS)


@softplus.lower
def _softplus_lower(op, x):
    return jnp.maximum(x, jnp.zeros((), x.dtype)) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.host
def _softplus_host(op, x):
    return np.maximum(x, x.dtype.type(0)) + np.log1p(np.exp(-np.abs(x)))


@softplus.gradient
def _softplus_gradient(op, dy):
    return raw.SoftplusGrad(dy, op.inputs[0])


@softplus_grad.lower
def _softplus_grad_lower(op, dy, x):
    return dy * jax.nn.sigmoid(x)


@softplus_grad.host
def _softplus_grad_host(op, dy, x):
    return dy / (np.exp(-x) + x.dtype.type(1))


@softplus_grad.gradient
def _softplus_grad_gradient(op, ddy):
    """The second derivative is 1 / (exp(-x) + 2 + exp(x))."""
    dy, x = op.inputs
    below = raw.Add(raw.Add(raw.Exp(raw.Neg(x)), 2.0), raw.Exp(x))
    return raw.SoftplusGrad(ddy, x), raw.RealDiv(raw.Mul(ddy, dy), below)


# ---- Softsign, SoftsignGrad: x / (1 + |x|), and its derivative 1 / (1 + |x|)^2

softsign = _activation("Softsign", _FLOATS)
softsign_grad = _activation_grad("SoftsignGrad", _FLOATS)


@softsign.lower
def _softsign_lower(op, x):
    return x / (jnp.abs(x) + 1)


@softsign.host
def _softsign_host(op, x):
    return x / (np.abs(x) + x.dtype.type(1))


@softsign.gradient
def _softsign_gradient(op, dy):
    return raw.SoftsignGrad(dy, op.inputs[0])


@softsign_grad.lower
def _softsign_grad_lower(op, dy, x):
    return dy / jnp.square(jnp.abs(x) + 1)


@softsign_grad.host
def _softsign_grad_host(op, dy, x):
    return dy / np.square(np.abs(x) + x.dtype.type(1))


@softsign_grad.gradient
def _softsign_grad_gradient(op, ddy):
    """d/dx (1 + |x|)^-2 = -2 sign(x) (1 + |x|)^-3."""
    dy, x = op.inputs
    slope = raw.RealDiv(raw.Mul(raw.Sign(x), -2.0), raw.Add(raw.Abs(x), 1.0))
    return raw.SoftsignGrad(ddy, x), raw.Mul(raw.SoftsignGrad(raw.Mul(ddy, dy), x), slope)
