"""Reference variables: the ops that make, read and write them. The value lives in the session, under the op's name."""

from __future__ import annotations

import operator

import numpy as np

from headrace.core import errors
from headrace.graph import shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks

# ---- VariableV2 and its older form: a reference; the op itself computes nothing

variable_v2 = define(
    "VariableV2",
    "-> ref: Ref(dtype)",
    "shape: shape, dtype: type, container: string = '', shared_name: string = ''",
    effects=Effect.STATEFUL | Effect.HANDLE,
)
variable_v2.shape(shapes.from_shape_attr)
variable_v2.not_differentiable()

variable = define(
    "Variable",
    "-> ref: Ref(dtype)",
    "shape: shape, dtype: type, container: string = '', shared_name: string = ''",
    effects=Effect.STATEFUL | Effect.HANDLE,
)


@variable.shape
def _variable_shape(op):
    # The first releases wrote an unknown shape as that of a scalar.
    return op.attr("shape")._dims or None


variable.not_differentiable()

# ---- TemporaryVariable, DestroyTemporaryVariable: a variable of one run

temporary_variable = define(
    "TemporaryVariable",
    "-> ref: Ref(dtype)",
    "shape: shape, dtype: type, var_name: string = ''",
    effects=Effect.STATEFUL | Effect.HANDLE,
)
temporary_variable.shape(shapes.from_shape_attr)
temporary_variable.not_differentiable()

destroy_temporary_variable = define(
    "DestroyTemporaryVariable",
    "ref: Ref(T) -> value: T",
    "T: type, var_name: string",
    writes=("ref",),
    host_only=True,
)
destroy_temporary_variable.shape(shapes.unchanged)


@destroy_temporary_variable.host
def _destroy_temporary_variable_host(op, ref):
    value = ref.read()
    ref.write(None)
    return value


destroy_temporary_variable.not_differentiable()

# ---- Assign

assign = define(
    "Assign",
    "ref: Ref(T), value: T -> output_ref: Ref(T)",
    "T: type, validate_shape: bool = true, use_locking: bool = true",
    overwrites=("ref",),
)


@assign.shape
def _assign_shape(op, ref, value):
    return shapes.merge(op, ref, value) if op.attr("validate_shape") else value


@assign.facts
def _assign_facts(op):
    return op._inputs[0]._dims if op.attr("validate_shape") else None


def check_assigned(op, value):
    """Raises InvalidArgumentError: `value` is not of the shape of the variable, which `op.facts` holds."""
    declared = op.facts
    if declared is not None and (
        len(declared) != value.ndim
        or any(d is not None and d != v for d, v in zip(declared, value.shape, strict=True))
    ):
        sizes = ", ".join("?" if d is None else str(d) for d in declared)
        raise op.invalid(
            f"Assign requires shapes of both tensors to match. lhs shape= [{sizes}] rhs shape= {list(value.shape)}"
        )


@assign.host
def _assign_host(op, ref, value):
    check_assigned(op, value)
    # A copy: the value may be the caller's own array, fed.
    ref.write(np.array(value))
    return ref


@assign.lower
def _assign_lower(op, ref, value):
    check_assigned(op, value)
    ref.write(value)
    return ref


assign.not_differentiable()

# ---- AssignAdd, AssignSub


def _update_shape(op, ref, value):
    return shapes.merge(op, ref, value)


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
    ref.update(op, operator.add, value)
    return ref


assign_add.not_differentiable()

assign_sub = define(
    "AssignSub",
    "ref: Ref(T), value: T -> output_ref: Ref(T)",
    "T: {numeric}, use_locking: bool = false",
    writes=("ref",),
)
assign_sub.shape(_update_shape)


@assign_sub.host
@assign_sub.lower
def _assign_sub_lower(op, ref, value):
    ref.update(op, operator.sub, value)
    return ref


assign_sub.not_differentiable()

# ---- IsVariableInitialized: asks the session, so it runs on the host

is_variable_initialized = define(
    "IsVariableInitialized",
    "ref: Ref(dtype) -> is_initialized: bool",
    "dtype: type",
    host_only=True,
)
is_variable_initialized.shape(shapes.scalar)


@is_variable_initialized.host
def _is_variable_initialized_host(op, ref):
    return np.bool_(ref.initialized)


is_variable_initialized.not_differentiable()

# ---- CountUpTo: the count so far, which goes up by one; fails at the limit

count_up_to = define(
    "CountUpTo",
    "ref: Ref(T) -> output: T",
    "limit: int, T: {int32, int64}",
    effects=Effect.FALLIBLE,
    writes=("ref",),
)


@count_up_to.shape
def _count_up_to_shape(op, ref):
    return shapes.with_rank(op, ref, 0, "ref")


def count_once(op, slot):
    """Adds one to the scalar in `slot` and returns what it was; OutOfRangeError at the op's limit."""
    before = slot.read()
    limit = op.attr("limit")
    checks.fail_if(op, before >= limit, f"Reached limit of {limit}", error=errors.OutOfRangeError)
    slot.write(before + np.ones((), before.dtype))
    return before


count_up_to.lower(count_once)
count_up_to.host(count_once)
count_up_to.not_differentiable()

# ---- RefIdentity: another name of the same reference

ref_identity = define("RefIdentity", "input: Ref(T) -> output: Ref(T)", "T: type")
ref_identity.shape(shapes.unchanged)


@ref_identity.host
@ref_identity.lower
def _ref_identity_lower(op, ref):
    return ref


@ref_identity.gradient
def _ref_identity_gradient(op, dy):
    return dy
