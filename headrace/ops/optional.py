"""A value or nothing: what the conditionals of newer GraphDefs keep for their gradients. Held as a list of at most one element."""

from __future__ import annotations

import numpy as np

from headrace.core.tensor_shape import TensorShape
from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.tensor_list import DeviceList, HostList

# ---- OptionalNone

none = define("OptionalNone", "-> optional: variant")
none.shape(shapes.scalar)


@none.lower
def _none_lower(op):
    return DeviceList(None, None, 0)


@none.host
def _none_host(op):
    return HostList(None, ())


none.not_differentiable()

# ---- OptionalFromValue

from_value = define(
    "OptionalFromValue",
    "components: Toutput_types -> optional: variant",
    "Toutput_types: list(type) >= 1",
)


@from_value.shape
def _from_value_shape(op, components):
    if len(components) != 1:
        raise op.error(f"holds one value, got {len(components)}.")
    return ()


@from_value.lower
def _from_value_lower(op, components):
    return DeviceList(op.attr("Toutput_types")[0], None, 0).push(components[0])


@from_value.host
def _from_value_host(op, components):
    return HostList(op.attr("Toutput_types")[0], (components[0],))


@from_value.gradient
def _from_value_gradient(op, doptional):
    (value,) = op.inputs
    return raw.OptionalGetValue(
        doptional,
        output_types=op.attr("Toutput_types"),
        output_shapes=[TensorShape.of(value._dims)],
    )


# ---- OptionalGetValue, OptionalHasValue

get_value = define(
    "OptionalGetValue",
    "optional: variant -> components: output_types",
    "output_types: list(type) >= 1, output_shapes: list(shape) >= 1",
)


@get_value.shape
def _get_value_shape(op, optional):
    if len(op.outputs) != 1:
        raise op.error(f"holds one value, {len(op.outputs)} are asked for.")
    return [op.attr("output_shapes")[0]._dims]


@get_value.lower
def _get_value_lower(op, optional):
    if optional.buffer is None:
        raise NotCompilable(op, "there is no value")
    return (optional.get(0),)


@get_value.host
def _get_value_host(op, optional):
    if not optional.items:
        raise op.invalid("The given optional does not have a value.")
    return (optional.items[0],)


@get_value.gradient
def _get_value_gradient(op, *dcomponents):
    return raw.OptionalFromValue(list(dcomponents))


has_value = define("OptionalHasValue", "optional: variant -> has_value: bool")
has_value.shape(shapes.scalar)


@has_value.lower
def _has_value_lower(op, optional):
    return optional.length() > 0


@has_value.host
def _has_value_host(op, optional):
    return np.bool_(len(optional.items) > 0)


has_value.not_differentiable()
