"""The table rows that drive the tests of ops: one op type applied to arrays, and what must come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Case:
    """One op applied to values.

    inputs: one array for each argument of the signature, a list of arrays for a variadic one. attrs: those to give.
    expected: the output (or a list of outputs), or a function of the inputs that computes it with NumPy; None
    where another
    test of the file compares values (random ops).
    grad: whether to check the gradient against jax.vjp and finite differences (float inputs only); or the
    positions of the
    inputs to check. rtol, atol: of the value; grad_rtol: of the gradient against finite differences in float64.
    static: the rule for shapes must find the whole shape when the inputs' shapes are known (false for Where, Unique).
    """

    op: str
    inputs: list[Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    expected: Any | Callable[..., Any] = None
    grad: bool | tuple[int, ...] = True
    rtol: float = 1e-5
    atol: float = 1e-6
    grad_rtol: float = 1e-3
    static: bool = True
    id: str = ""
