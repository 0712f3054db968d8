"""Gradients: `tf.gradients`, gradients by name, custom gradients."""

from __future__ import annotations

from headrace.api.export import export, export_value
from headrace.autodiff import (
    AggregationMethod,
    RegisterGradient,
    UnconnectedGradients,
    gradients,
    no_gradient,
)
from headrace.autodiff.indexed_slices import convert_to_tensor_or_indexed_slices as _convert

export_value(gradients, "gradients")
export_value(AggregationMethod, "AggregationMethod")
export_value(UnconnectedGradients, "UnconnectedGradients")
export_value(RegisterGradient, "RegisterGradient")
export_value(no_gradient, "no_gradient", "NoGradient", "NotDifferentiable")


@export("convert_to_tensor_or_indexed_slices")
def convert_to_tensor_or_indexed_slices(value, dtype=None, name=None):
    """`value` itself where it is a Tensor or IndexedSlices, else a tensor of it.

    Raises ValueError: a tensor of another dtype than asked for. TypeError: no conversion.
    """
    return _convert(value, dtype, name)
