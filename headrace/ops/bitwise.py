"""Bits of integers: and, or, exclusive or, shifts."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.ops.broadcasting import binary

_INTS = "int8, int16, int32, int64, uint8, uint16, uint32, uint64"


def _shift_amount(x, y, where):
    # TF clamps the amount into [0, bits - 1].
    return where(y < 0, 0, where(y > 8 * x.dtype.itemsize - 1, 8 * x.dtype.itemsize - 1, y)).astype(
        x.dtype
    )


def _shift_right(x, y):
    amount = _shift_amount(x, y, jnp.where)
    return (
        lax.shift_right_arithmetic(x, amount)
        if x.dtype.kind == "i"
        else lax.shift_right_logical(x, amount)
    )


for _name, _lower, _host in (
    ("BitwiseAnd", lax.bitwise_and, np.bitwise_and),
    ("BitwiseOr", lax.bitwise_or, np.bitwise_or),
    ("BitwiseXor", lax.bitwise_xor, np.bitwise_xor),
    (
        "LeftShift",
        lambda x, y: lax.shift_left(x, _shift_amount(x, y, jnp.where)),
        lambda x, y: np.left_shift(x, _shift_amount(x, y, np.where)),
    ),
    ("RightShift", _shift_right, lambda x, y: np.right_shift(x, _shift_amount(x, y, np.where))),
):
    binary(_name, _INTS, _lower, _host).not_differentiable()
