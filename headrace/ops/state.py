"""Variables: the ops that make, read and write them, in TensorFlow's two flavours (references and resources)."""

from __future__ import annotations

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define

# ---- VariableV2: a reference. The value lives in the session; the op itself computes nothing.

variable_v2 = define(
    "VariableV2",
    "-> ref: Ref(dtype)",
    "shape: shape, dtype: type, container: string = '', shared_name: string = ''",
    effects=Effect.STATEFUL | Effect.HANDLE,
)
variable_v2.shape(shapes.from_shape_attr)
variable_v2.not_differentiable()

# ---- Assign

assign = define(
    "Assign",
    "ref: Ref(T), value: T -> output_ref: Ref(T)",
    "T: type, validate_shape: bool = true, use_locking: bool = true",
    overwrites=("ref",),
)


@assign.shape
def _assign_shape(op, ref, value):
    return shapes.merge(op, ref, value, "variable and value") if op.attr("validate_shape") else value


@assign.host
@assign.lower
def _assign_lower(op, ref, value):
    ref.write(value)
    return ref


assign.not_differentiable()


# ---- AssignAdd, AssignSub


def _update_shape(op, ref, value):
    return shapes.merge(op, ref, value, "variable and value")


assign_add = define(
    "AssignAdd",
    "ref: Ref(T), value: T -> output_ref: Ref(T)",
    "T: {numeric}, use_locking: bool = false",
    writes=("ref",),
)
assign_add.shape(_update_shape)


@assign_add.host
@assign_add.lower
def _assign_add_lower(op, ref, value):
    ref.write(ref.read() + value)
    return ref


assign_add.not_differentiable()
