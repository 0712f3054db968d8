"""Plain calls of functions, and of their gradients."""

from __future__ import annotations

from headrace.graph.op_def import Effect, define

# ---- PartitionedCall, StatefulPartitionedCall

_CALL = (
    "args: Tin -> output: Tout",
    "Tin: list(type) >= 0, Tout: list(type) >= 0, f: func, config: string = '', config_proto: string = '', "
    "executor_type: string = ''",
)
partitioned_call = define("PartitionedCall", *_CALL)
stateful_partitioned_call = define("StatefulPartitionedCall", *_CALL, effects=Effect.STATEFUL)


@stateful_partitioned_call.shape
@partitioned_call.shape
def _call_shape(op, inputs):
    function = op.graph._functions.get(op.attr("f").name)
    if function is None:
        return [None] * len(op.outputs)
    return [t._dims for t in function.graph.outputs[: len(op.outputs)]]


@stateful_partitioned_call.host
@stateful_partitioned_call.lower
@partitioned_call.host
@partitioned_call.lower
def _call_lower(op, functions, inputs):
    # Gradients of another call may have given the function more outputs than this one has.
    return tuple(functions.call("f", inputs)[: len(op.attr("Tout"))])


# ---- SymbolicGradient: calls the gradient of the function that it names

symbolic_gradient = define(
    "SymbolicGradient",
    "input: Tin -> output: Tout",
    "Tin: list(type) >= 1, Tout: list(type) >= 1, f: func",
)


@symbolic_gradient.shape
def _symbolic_gradient_shape(op, inputs):
    return inputs[: len(op.outputs)]


@symbolic_gradient.host
@symbolic_gradient.lower
def _symbolic_gradient_lower(op, functions, inputs):
    results = functions.call("f", inputs)
    wanted = len(op.attr("Tout"))
    if len(results) != wanted:
        raise op.invalid(
            f"SymGrad expects to return {wanted} tensors, but get {len(results)} instead"
        )
    return tuple(results)
