"""Gradients: `tf.gradients`, gradients by name, custom gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.api.export import export, export_value
from headrace.api.while_loop import while_loop
from headrace.autodiff import (
    AggregationMethod,
    RegisterGradient,
    UnconnectedGradients,
    gradients,
    no_gradient,
)
from headrace.autodiff.indexed_slices import convert_to_tensor_or_indexed_slices as _convert
from headrace.core import dtypes
from headrace.graph import default, raw
from headrace.graph.tensor import Tensor

export_value(gradients, "gradients")
export_value(AggregationMethod, "AggregationMethod")
export_value(UnconnectedGradients, "UnconnectedGradients")
export_value(RegisterGradient, "RegisterGradient")
export_value(no_gradient, "no_gradient", "NoGradient", "NotDifferentiable")


@export("convert_to_tensor_or_indexed_slices")
def convert_to_tensor_or_indexed_slices(
    value: Any, dtype: Any = None, name: str | None = None
) -> Any:
    """`value` itself where it is a Tensor or IndexedSlices, else a tensor of it.

    Raises ValueError: a tensor of another dtype than asked for. TypeError: no conversion.
    """
    return _convert(value, dtype, name)


@export("hessians")
def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Tensor]:
    """The matrices of second derivatives of the sum of `ys`, one for each x.

    Row by row, in a loop: the gradient of every element of the gradient. Returns for x of shape S a
    tensor of shape S + S.
    Raises ValueError: the gradient of an x does not exist, or does not depend on x.
    """
    xs = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    options = {
        "colocate_gradients_with_ops": colocate_gradients_with_ops,
        "gate_gradients": gate_gradients,
        "aggregation_method": aggregation_method,
    }
    with default.get_default_graph().name_scope(name):
        firsts = gradients(ys, xs, **options)
        return [_hessian(first, x, options) for first, x in zip(firsts, xs, strict=True)]


def _hessian(first: Any, x: Any, options: dict[str, Any]) -> Tensor:
    if first is None:
        raise ValueError(f"No Hessian with respect to {x!r}: the ys do not depend on it.")
    shape = raw.Shape(x)
    gradient = raw.Reshape(first, np.array([-1], np.int32))
    n = raw.Size(x)

    def add_row(j: Tensor, rows: Tensor) -> Sequence[Tensor]:
        (second,) = gradients(raw.GatherV2(gradient, j, np.int32(0)), x, **options)
        if second is None:
            raise ValueError(
                f"No Hessian with respect to {x!r}: the gradient does not depend on it."
            )
        row = raw.Reshape(second, raw.Pack([1, n]))
        index = raw.Reshape(j, np.array([1, 1], np.int32))
        return raw.AddV2(j, np.int32(1)), raw.TensorScatterUpdate(rows, index, row)

    zeros = raw.Fill(
        raw.Pack([n, n]), np.zeros((), dtypes.as_dtype(x.dtype).base_dtype.as_numpy_dtype)
    )
    _, rows = while_loop(lambda j, _: raw.Less(j, n), add_row, [raw.Identity(np.int32(0)), zeros])
    return raw.Reshape(rows, raw.ConcatV2([shape, shape], np.int32(0)))
