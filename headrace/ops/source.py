"""Where tensors come from and pass through unchanged: Const, Placeholder, Identity, NoOp and their kin."""

from __future__ import annotations

import jax
import numpy as np

from headrace.graph import shapes
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Dims
from headrace.lowering.tie import tied

# ---- Const

const = define("Const", "-> output: dtype", "value: tensor, dtype: type")


@const.shape
def _const_shape(op) -> Dims:
    return op.attr("value").array.shape


@const.lower
def _const_lower(op):
    return op.attr("value").array


@const.host
def _const_host(op):
    return op.attr("value").array


const.not_differentiable()

# ---- Placeholder: a value only when fed

placeholder = define(
    "Placeholder", "-> output: dtype", "dtype: type, shape: shape = ?", effects=Effect.SOURCE
)
placeholder.shape(shapes.from_shape_attr)
placeholder.not_differentiable()

placeholder_v2 = define(
    "PlaceholderV2", "-> output: dtype", "dtype: type, shape: shape", effects=Effect.SOURCE
)
placeholder_v2.shape(shapes.from_shape_attr)
placeholder_v2.not_differentiable()

# ---- PlaceholderWithDefault

# A source, since a value may be fed in its place: what it holds is never known while the graph is built.
placeholder_with_default = define(
    "PlaceholderWithDefault",
    "input: dtype -> output: dtype",
    "dtype: type, shape: shape",
    effects=Effect.SOURCE,
)


@placeholder_with_default.shape
def _placeholder_with_default_shape(op, x):
    declared = op.attr("shape")._dims
    shapes.merge(op, x, declared, "default and declared shape")
    return declared


@placeholder_with_default.lower
def _placeholder_with_default_lower(op, x):
    return x


@placeholder_with_default.host
def _placeholder_with_default_host(op, x):
    return x


@placeholder_with_default.gradient
def _placeholder_with_default_gradient(op, dy):
    return dy


# ---- NoOp

no_op = define("NoOp", "->")
no_op.shape(shapes.no_outputs)


@no_op.lower
def _no_op_lower(op):
    return ()


@no_op.host
def _no_op_host(op):
    return ()


no_op.not_differentiable()


# ---- Identity and the ops that differ from it only in their gradient or their purpose


def _pass_through(op, x):
    return x


def _pass_gradient(op, dy):
    return dy


def _partial_of_input(op):
    from headrace.graph.constant_value import partial_sizes

    return partial_sizes(op.inputs[0])


identity = define("Identity", "input: T -> output: T", "T: type")
identity.shape(shapes.unchanged)
identity.lower(_pass_through)
identity.host(_pass_through)
identity.gradient(_pass_gradient)
identity.partial(_partial_of_input)

snapshot = define("Snapshot", "input: T -> output: T", "T: type")
snapshot.shape(shapes.unchanged)
snapshot.lower(_pass_through)
snapshot.host(_pass_through)
snapshot.gradient(_pass_gradient)

identity_n = define("IdentityN", "input: T -> output: T", "T: list(type) >= 1")

TIED = "_tied"
"""An attr (one that TensorFlow passes over) of an IdentityN: so many of its first outputs are there after its other inputs."""


@identity_n.facts
def _identity_n_facts(op):
    return op._attrs.get(TIED, 0)


@identity_n.shape
def _identity_n_shape(op, inputs):
    return list(inputs)


@identity_n.lower
def _identity_n_lower(op, inputs):
    return (*tied(inputs[: op.facts], inputs[op.facts :]), *inputs[op.facts :])


@identity_n.host
def _identity_n_host(op, inputs):
    return tuple(inputs)


@identity_n.gradient
def _identity_n_gradient(op, *grads):
    return list(grads)


stop_gradient = define("StopGradient", "input: T -> output: T", "T: type")
stop_gradient.shape(shapes.unchanged)


@stop_gradient.lower
def _stop_gradient_lower(op, x):
    return x if isinstance(x, np.ndarray) else jax.lax.stop_gradient(x)


stop_gradient.host(_pass_through)
stop_gradient.not_differentiable()

prevent_gradient = define(
    "PreventGradient", "input: T -> output: T", "T: type, message: string = ''"
)
prevent_gradient.shape(shapes.unchanged)
prevent_gradient.lower(_pass_through)
prevent_gradient.host(_pass_through)


@prevent_gradient.gradient
def _prevent_gradient_gradient(op, dy):
    raise LookupError(
        f"Gradient explicitly disabled. Reason: {op.attr('message')!r} (op {op.name!r})"
    )
