"""Special functions for the NumPy rules. SciPy is loaded when the first of them runs: importing stays cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _special() -> Any:
    import scipy.special  # JAX requires it

    return scipy.special


def in_own_type(function: Callable[..., Any], *values: Any) -> np.ndarray:
    """`function` of arrays of one floating type, computed in float32 where that is half precision."""
    own = values[0].dtype
    if own.itemsize == 2:
        values = tuple(v.astype(np.float32) for v in values)
    return np.asarray(function(*values)).astype(own, copy=False)


def erf(x: Any) -> Any:
    """The error function."""
    return _special().erf(x)


def erfc(x: Any) -> Any:
    """1 - erf(x), exact for large x."""
    return _special().erfc(x)


def lgamma(x: Any) -> Any:
    """log |gamma(x)|."""
    return _special().gammaln(x)


def digamma(x: Any) -> Any:
    """The derivative of `lgamma`."""
    return _special().psi(x)


def i0e(x: Any) -> Any:
    """exp(-|x|) I0(x)."""
    return _special().i0e(x)


def i1e(x: Any) -> Any:
    """exp(-|x|) I1(x)."""
    return _special().i1e(x)


def igamma(a: Any, x: Any) -> Any:
    """The regularised lower incomplete gamma function."""
    return _special().gammainc(a, x)


def igammac(a: Any, x: Any) -> Any:
    """The regularised upper incomplete gamma function."""
    return _special().gammaincc(a, x)


def betainc(a: Any, b: Any, x: Any) -> Any:
    """The regularised incomplete beta function."""
    return _special().betainc(a, b, x)


def zeta(x: Any, q: Any) -> Any:
    """The Hurwitz zeta function: the sum of (k + q)^-x over k >= 0."""
    return _special().zeta(x, q)


def polygamma(a: Any, x: Any) -> Any:
    """The derivative of order `a` of `digamma`; NaN where `a` is no natural number."""
    own = np.result_type(a, x)
    a, x = np.asarray(a, np.float64), np.asarray(x, np.float64)
    scale = np.where(a % 2 == 0, -1.0, 1.0) * _special().gamma(a + 1)
    value = np.where(a == 0, _special().psi(x), scale * _special().zeta(a + 1, x))
    return np.where((a < 0) | (a != np.floor(a)), np.nan, value).astype(own)
