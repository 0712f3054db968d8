"""What the ops that call functions share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from headrace.core.tensor_shape import TensorShape
from headrace.lowering.tensor_list import DeviceList


def declared_shapes(op, *inputs):
    """The attr `output_shapes`, or nothing known."""
    declared = op.attr("output_shapes")
    if not declared:
        return [None] * len(op.outputs)
    return [s._dims if isinstance(s, TensorShape) else s for s in declared]


def truth(cond) -> bool:
    """Whether a condition holds: a true or non-zero scalar, a string or tensor that is not empty."""
    value = np.asarray(cond)
    if value.ndim:
        return value.size > 0
    item = value[()]
    return len(item) > 0 if isinstance(item, (bytes, str)) else bool(item)


def same_types(values: list[Any]) -> list[Any]:
    """Values as arrays without JAX's weak types, as branches and iterations must agree; handles (None) stay."""
    return [
        v if v is None or isinstance(v, DeviceList) else jnp.asarray(v, dtype=v.dtype)
        for v in values
    ]
