"""Incomplete gamma and beta functions, the zeta function and the polygamma functions."""

from __future__ import annotations

import itertools

from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.ops import special
from headrace.ops.broadcasting import binary, broadcast_values, reduce_pair
from headrace.ops.elementwise import scalar_like

_DOUBLE = "float, double"


igamma = binary("Igamma", _DOUBLE, lax.igamma, special.igamma, "a: T, x: T -> z: T", via_float=True)
igammac = binary(
    "Igammac", _DOUBLE, lax.igammac, special.igammac, "a: T, x: T -> z: T", via_float=True
)
igamma_grad_a = binary("IgammaGradA", _DOUBLE, lax.igamma_grad_a, None, "a: T, x: T -> z: T")
igamma_grad_a.not_differentiable()


@igamma.gradient
def _igamma_gradient(op, dz):
    """By x: x^(a-1) e^-x / gamma(a). By a there is no closed form: `IgammaGradA`."""
    a, x = op.inputs
    exponent = raw.Sub(
        raw.AddV2(raw.Neg(x), raw.Mul(raw.Sub(a, scalar_like(1, a)), raw.Log(x))), raw.Lgamma(a)
    )
    return reduce_pair(a, x, raw.Mul(raw.IgammaGradA(a, x), dz), raw.Mul(raw.Exp(exponent), dz))


@igammac.gradient
def _igammac_gradient(op, dz):
    da, dx = _igamma_gradient(op, dz)
    return raw.Neg(da), raw.Neg(dx)


zeta = binary("Zeta", _DOUBLE, lax.zeta, special.zeta, "x: T, q: T -> z: T", via_float=True)


@zeta.gradient
def _zeta_gradient(op, dz):
    x, q = op.inputs
    dq = raw.Mul(raw.Neg(x), raw.Zeta(raw.AddV2(x, scalar_like(1, x)), q))
    return None, reduce_pair(x, q, None, raw.Mul(dq, dz))[1]


polygamma = binary(
    "Polygamma", _DOUBLE, lax.polygamma, special.polygamma, "a: T, x: T -> z: T", via_float=True
)


@polygamma.gradient
def _polygamma_gradient(op, dz):
    n, x = op.inputs
    dx = raw.Polygamma(raw.AddV2(n, scalar_like(1, n)), x)
    return None, reduce_pair(n, x, None, raw.Mul(dx, dz))[1]


betainc = define("Betainc", "a: T, b: T, x: T -> z: T", f"T: {{{_DOUBLE}}}")

for _slow in (igamma, igammac, zeta, polygamma, betainc):
    _slow.slow_on_host()


@betainc.shape
def _betainc_shape(op, *inputs):
    """All of one shape, scalars excepted."""
    out = ()
    for dims in inputs:
        if dims is None:
            out = None if out == () else out
        elif dims:
            out = shapes.merge(op, None if out == () else out, dims, "a, b and x")
    return out


def _check_same_shapes(op, **values):
    for (m, p), (n, q) in itertools.combinations(values.items(), 2):
        if p.ndim and q.ndim and p.shape != q.shape:
            raise op.invalid(
                f"Shapes of {m} and {n} are inconsistent: {list(p.shape)} vs. {list(q.shape)}"
            )


@betainc.lower
def _betainc_lower(op, a, b, x):
    _check_same_shapes(op, a=a, b=b, x=x)
    return lax.betainc(*broadcast_values(a, b, x))


@betainc.host
def _betainc_host(op, a, b, x):
    _check_same_shapes(op, a=a, b=b, x=x)
    return special.in_own_type(special.betainc, a, b, x)


@betainc.gradient
def _betainc_gradient(op, dz):
    """By x: x^(a-1) (1-x)^(b-1) / B(a, b)."""
    a, b, x = op.inputs
    one = scalar_like(1, x)
    log_beta = raw.Sub(raw.AddV2(raw.Lgamma(a), raw.Lgamma(b)), raw.Lgamma(raw.AddV2(a, b)))
    exponent = raw.Sub(
        raw.AddV2(
            raw.Mul(raw.Sub(b, one), raw.Log(raw.Sub(one, x))), raw.Mul(raw.Sub(a, one), raw.Log(x))
        ),
        log_beta,
    )
    return None, None, reduce_pair(a, x, None, raw.Mul(raw.Exp(exponent), dz))[1]
