"""Ops that hand out a tensor as it is, or a new one: GuaranteeConst, DeepCopy, Empty, EnsureShape."""

from __future__ import annotations

import numpy as np

from headrace.core import dtypes
from headrace.graph import shapes
from headrace.graph.op_def import Effect, OpDef, define
from headrace.graph.tensor import Dims


def _define_copy(name: str, arguments: str) -> OpDef:
    definition = define(name, arguments, "T: type", effects=Effect.STATEFUL)
    definition.shape(shapes.unchanged)

    @definition.host
    @definition.lower
    def _copy(op, x):
        if op.output_dtype() is dtypes.resource:
            raise op.invalid("Input tensor cannot be a resource variable handle.")
        # Values are never changed in place, so that the same one serves.
        return x

    return definition


guarantee_const = _define_copy("GuaranteeConst", "input: T -> output: T")


@guarantee_const.gradient
def _guarantee_const_gradient(op, dy):
    return dy


deep_copy = _define_copy("DeepCopy", "x: T -> y: T")
deep_copy.not_differentiable()

empty = define(
    "Empty",
    "shape: int32 -> output: dtype",
    "dtype: type, init: bool = false",
    static_inputs=("shape",),
    effects=Effect.STATEFUL,
)


@empty.shape
def _empty_shape(op, shape) -> Dims:
    return shapes.sizes_of(op, 0)


@empty.host
@empty.lower
def _empty_lower(op, shape: np.ndarray):
    kind = op.output_dtype().np_dtype
    return np.full(tuple(int(s) for s in shape), b"" if kind.hasobject else 0, kind)


empty.not_differentiable()

# ---- EnsureShape

ensure_shape = define("EnsureShape", "input: T -> output: T", "shape: shape, T: type")


@ensure_shape.shape
def _ensure_shape_shape(op, x) -> Dims:
    return shapes.merge(op, x, op.attr("shape")._dims, "input and shape")


@ensure_shape.facts
def _ensure_shape_facts(op) -> str:
    return op._inputs[0]._op.name  # which the error names


@ensure_shape.host
@ensure_shape.lower
def _ensure_shape_lower(op, x):
    wanted = op.attr("shape")
    if not wanted.is_compatible_with(x.shape):
        raise op.invalid(
            f"Shape of tensor {op.facts} {shapes.brackets(x.shape)} is not compatible with expected shape "
            f"{shapes.brackets(wanted._dims)}."
        )
    return x


@ensure_shape.gradient
def _ensure_shape_gradient(op, dy):
    return dy
